//! # Exactly once
//!
//! A command whose outcome is unknown may be proposed again, if the replicated
//! state remembers what it has applied. [`Sessions`] wraps a state machine and
//! does that: commands carry a session and a number in it, and a command that
//! comes again gets the reply of the first time.
//!
//! The commands of a session are applied in the order of their numbers. Several
//! may be under way at once: the replies of those that the client may still ask
//! for are remembered, and each command says below which number it asks for none.
//! So whatever was lost on the way can be proposed again, and nothing behind it
//! overtakes it.
//!
//! Sessions expire by the log, never by a clock, so every replica forgets the
//! same ones at the same entry. A command of a forgotten session is refused; it
//! is never applied a second time.
//!
//! | file | room |
//! |---|---|
//! | `command.rs` | what stands in the log, and what is answered |
//! | `table.rs` | what is remembered, and for how long |
//! | `machine.rs` | the state machine around the user's |
//! | `client.rs` | one command after the other |
//! | `pipeline.rs` | several commands under way, in order |
//! | `retry.rs` | whether and when to try again |
//!
//! - Source: Raft §8, thesis §6.3.

mod client;
mod command;
mod machine;
mod pipeline;
mod retry;
mod table;

pub use client::SessionClient;
pub use command::{SESSION_BYTES_MAX, SessionCommand, SessionId, SessionReply};
pub use machine::Sessions;
pub use pipeline::SessionPipeline;
pub use retry::SessionError;
pub use table::{SessionLimits, WINDOW_MAX};
