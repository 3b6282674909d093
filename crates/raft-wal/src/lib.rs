//! raft-wal.
