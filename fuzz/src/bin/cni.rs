//! Fuzzes [`berth_fuzz::cni`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::cni(data));
