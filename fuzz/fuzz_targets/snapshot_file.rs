//! See `raft_hostile::snapshot_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft_hostile::snapshot_file::run(bytes));
