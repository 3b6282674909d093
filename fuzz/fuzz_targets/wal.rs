//! See `raft_hostile::wal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::wal::run(bytes));
