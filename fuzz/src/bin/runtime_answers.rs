//! Fuzzes [`berth_fuzz::runtime_answers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::runtime_answers(data));
