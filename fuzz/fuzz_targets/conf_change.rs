//! See `raft_hostile::conf_change`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::conf_change::run(bytes));
