//! See `raft_hostile::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::frames::run(bytes));
