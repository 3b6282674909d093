//! # Etcd's text
//!
//! Messages, Readys, states and errors in the words of etcd-raft's tests, which the
//! scenarios are written in.
//!
//! - Owns: nothing.
//! - Source: etcd `util.go` (`Describe*`), `tracker.Progress`.

mod errors;
mod message;
mod ready;
mod words;

pub use errors::{conf_change_error, propose_error, step_error, storage_error};
pub use message::{append_work, apply_work, letter, letter_kind, message_kind};
pub use ready::ready;
pub use words::{entries, entry, progress, role};
