//! # The replica
//!
//! A node whose Readys are carried out: entries written, messages sent,
//! commands applied, callers answered. [`Raft`] is the handle to it.
//!
//! | file | room |
//! |---|---|
//! | `handle.rs` | what users call: reads, transfers, watching, stopping |
//! | `propose.rs` | what users call: proposals in all their forms |
//! | `members.rs` | what users call: changes of the members |
//! | `request.rs` | what the handle asks of the loop, and what the workers report |
//! | `reply.rs` | how the caller of a command hears what became of it |
//! | `room.rs` | how many bytes of commands may wait in front of the loop |
//! | `host/` | the loop's host: takes requests, carries Readys out |
//! | `log_view/` | what the node reads of its log |
//! | `waiters.rs` | who waits for which entry |
//! | `owed.rs` | who waits for the state machine |
//! | `reads.rs` | who waits for which read round |
//! | `forwards.rs` | who waits for which answer of the leader |
//! | `lease.rs` | how long a leader may answer reads without asking |
//! | `membership.rs` | from what is wanted of the members to the change |
//! | `configuration.rs` | the members and where they are reached, at one place in the log |
//! | `changes.rs` | who waits for a change of members or of the leader |
//! | `apply.rs` | the task of the state machine |
//! | `reports.rs` | how far that is, until the loop looks |
//! | `written.rs` | which writes are done, until the loop looks |
//! | `restore.rs` | from a stored snapshot to the state machine |
//! | `replay.rs` | entries that are applied before the replica takes part |
//! | `start.rs` | what users call: the start; from a stored log to a running replica |
//!
//! Who uses whom goes one way: `start.rs` makes both sides, `propose.rs` and
//! `members.rs` add to the handle, and the handle and the host know each other only
//! by what travels between them, `request.rs` and `reply.rs`.

mod apply;
mod changes;
mod configuration;
mod forwards;
mod handle;
mod host;
mod lease;
mod log_view;
mod members;
mod membership;
mod owed;
mod propose;
mod reads;
mod replay;
mod reply;
mod reports;
mod request;
mod restore;
mod room;
mod start;
mod waiters;
mod written;

pub use handle::Raft;
pub use propose::Permit;
pub use reply::{Applied, PendingReply};
