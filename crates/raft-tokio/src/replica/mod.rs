//! # The replica
//!
//! A node whose Readys are carried out: entries written, messages sent,
//! commands applied, callers answered. [`Raft`] is the handle to it.
//!
//! | file | room |
//! |---|---|
//! | `handle.rs` | what users call |
//! | `host.rs` | the loop's host: takes requests, carries Readys out |
//! | `waiters.rs` | who waits for which entry |
//! | `reads.rs` | who waits for which read round |
//! | `forwards.rs` | who waits for which answer of the leader |
//! | `changes.rs` | who waits for a change of members or of the leader |
//! | `apply.rs` | the task of the state machine |
//! | `start.rs` | from a stored log to a running replica |

mod apply;
mod changes;
mod forwards;
mod handle;
mod host;
mod reads;
mod request;
mod start;
mod waiters;

pub use handle::{Applied, Raft};
