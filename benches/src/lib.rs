//! raft-benches.
