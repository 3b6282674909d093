//! See `raft_hostile::node`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raft_hostile::node::run(bytes);
});
