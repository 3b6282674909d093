//! The checked-in code is what the definitions in `proto/` generate.
//!
//! After a change of a definition, and before the crate is adapted to it, write
//! the code anew with
//! `RAFT_WIRE_REGENERATE=1 cargo test -p raft-wire generated`.

use std::fs;
use std::path::Path;

#[test]
fn generated_code_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let definitions = here.join("../../proto");
    let checked_in = here.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();

    let descriptors = protox::compile(["raftpb.proto", "transport.proto"], [&definitions]).unwrap();
    prost_build::Config::new()
        .bytes(["."])
        .boxed(".raftpb.Message.snapshot")
        .out_dir(fresh.path())
        .compile_fds(descriptors)
        .unwrap();

    for name in ["raftpb.rs", "rafttransport.rs"] {
        let text = fs::read_to_string(fresh.path().join(name)).unwrap();
        if std::env::var_os("RAFT_WIRE_REGENERATE").is_some() {
            fs::write(checked_in.join(name), &text).unwrap();
        }
        let old = fs::read_to_string(checked_in.join(name)).unwrap_or_default();
        assert!(
            old == text,
            "{name} is not what proto/ generates; run this test with RAFT_WIRE_REGENERATE=1"
        );
    }
}
