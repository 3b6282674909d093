//! # A storage that fails or lies
//!
//! The same node as in [`crate::node`], on a storage that may answer any
//! question with a failure or with something else than what was written. Such a
//! node may refuse to start, stop, or be wrong about its log; it may not panic.

use crate::node;

/// The lies of one script, in bytes.
const LIES_BYTES: usize = 64;

/// Runs one script: the first bytes are the lies, the rest is what happens.
pub fn run(bytes: &[u8]) {
    let (lies, script) = bytes.split_at(bytes.len().min(LIES_BYTES));
    node::run_on_lies(script, lies);
}
