//! # The words
//!
//! The nouns of the paper as types that hold their guarantees: terms, indexes,
//! entries, messages, configurations. Nothing here decides anything.

mod conf;
mod conf_codec;
mod entries;
mod entry;
mod ids;
mod message;
mod snapshot;
mod state;
mod term_runs;

pub use conf::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV1, ConfState,
};
pub use conf_codec::MalformedConfChange;
pub use entries::Entries;
pub(crate) use entries::{AtLeast, Run};
pub(crate) use entry::Proposals;
pub use entry::{Entry, EntryType, Proposal};
pub use ids::{EntryId, InvalidNodeId, LogIndex, NodeId, Term};
pub use message::{AppendResponse, Body, Message, Round, VoteResponse};
pub use snapshot::{Snapshot, SnapshotMetadata};
pub use state::{HardState, RoleKind, SoftState};
pub use term_runs::TermRuns;
