//! raft-tokio.
