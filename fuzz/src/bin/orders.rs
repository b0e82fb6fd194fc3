//! Fuzzes [`berth_fuzz::orders`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::orders(data));
