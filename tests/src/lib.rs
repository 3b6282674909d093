//! raft-tests.
