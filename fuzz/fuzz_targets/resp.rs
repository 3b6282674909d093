//! See `raft_hostile::resp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::resp::run(bytes));
