//! See `raft_hostile::machine`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::machine::run(bytes));
