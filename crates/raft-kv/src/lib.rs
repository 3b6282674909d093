//! raft-kv.
