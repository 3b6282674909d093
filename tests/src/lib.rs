//! Tests that span the crates, and what they share.
//!
//! The scenario language is etcd-raft's: commands to a small cluster, and the
//! text that they must print. `script` reads it, `environment` carries it out on
//! [`raft_core`], `format` says what happened in etcd's words, and `runner`
//! compares. `generator` draws scripts of its own, which `invariants` judges.
//!
//! ```text
//!   file ─► script ─► runner ─► environment ─► raft-core
//!                       ▲            │
//!                       └── format ◄─┘
//! ```

pub mod confchange;
pub mod environment;
pub mod format;
pub mod generator;
pub mod invariants;
pub mod quorum;
pub mod runner;
pub mod script;
