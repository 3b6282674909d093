//! raft-wire.
