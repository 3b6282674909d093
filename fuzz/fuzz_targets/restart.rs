//! See `raft_hostile::restart`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::restart::run(bytes));
