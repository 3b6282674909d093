//! See `raft_hostile::decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::decode::run(bytes));
