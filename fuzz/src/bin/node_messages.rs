//! Fuzzes [`berth_fuzz::node_messages`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::node_messages(data));
