//! The Raft protocol as a synchronous state machine, with the semantics of
//! etcd's raft 3.7.
//!
//! There is no clock, no thread, no file and no socket in here. Input goes in
//! through [`RawNode`]; effects come out as a [`Ready`]: messages to send,
//! entries to write, entries to apply. The same input gives the same effects,
//! always.
//!
//! # Raft in a page
//!
//! Time is divided into [`Term`]s. In each, a majority elects at most one leader
//! (Raft §5.2): voters vote once per term, and only for a log that is at least
//! as up to date as their own. The leader puts what clients propose into its
//! log, sends it to everybody ([`Body::Append`]), and *commits* what a majority
//! has on disk, if the last of it is of its own term (§5.4.2). Committed entries
//! are never lost and have the same order everywhere; each server applies them
//! to its state machine. A follower whose log parts from the leader's gives its
//! own part up (§5.3); one that is too far behind gets a [`Snapshot`] (§7). The
//! members change one voter at a time, or through a joint configuration in which
//! both majorities must agree (§6, [`ConfChange`]).
//!
//! # Which semantics?
//!
//! [`Config::new`] does what etcd's raft does by default, message for message, where
//! etcd's does not panic. [`Config::protected`] also turns on what protects a cluster
//! where etcd's does not; run that one. `docs/DIVERGENCES.md` has every difference.
//!
//! # Where is it?
//!
//! | rule | file |
//! |---|---|
//! | what a message's term means | `gate.rs` |
//! | who gets a vote, who may campaign | `vote.rs`, `campaign.rs` |
//! | followers, candidates, leaders | `role/` |
//! | replication, commitment, reads, transfer | `role/leader/` |
//! | what waits for the disk | `outbox.rs` |
//! | the log | `log/` |
//! | majorities, members, flow control | `quorum/`, `membership/`, `progress/` |
//! | Ready and receipts | `ready.rs`, `raw_node/` |

#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::panic,
        clippy::panic_in_result_fn,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::allow_attributes,
        clippy::std_instead_of_core,
        clippy::std_instead_of_alloc,
        clippy::alloc_instead_of_core,
        clippy::fn_params_excessive_bools
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod campaign;
mod check;
mod common;
mod config;
mod error;
mod gate;
mod invariant;
mod log;
mod membership;
mod memory_storage;
mod outbox;
mod progress;
mod proposed;
mod quorum;
mod raft;
mod raw_node;
mod ready;
mod role;
mod sorted;
mod status;
mod storage;
mod timer;
mod types;
mod vote;

// The public interface is:

pub use common::{Candidacy, LostEntries};
pub use config::{Config, ConfigError, Protections, ReadOnly, StorageWrites};
pub use error::{
    ConfChangeRefusal, Halted, Misbehaved, ProposeError, ReadIndexError, ReadyError, StartError,
    StepError,
};
pub use invariant::BrokenInvariant;
pub use log::EntrySequence;
pub use membership::{ConfChangeError, Membership, Reconfiguration};
pub use memory_storage::{MemoryStorage, MemoryStorageError};
pub use progress::{Flow, Followers, InflightLimits, Inflights, Progress, ProgressState};
pub use proposed::Proposed;
pub use quorum::{JointConfig, MajorityConfig, VoteResult};
pub use raw_node::RawNode;
pub use ready::{
    AppendOutcome, AppendReceipt, ApplyReceipt, ReadState, Ready, ReceiptKind, StorageAppend,
    StorageApply,
};
pub use role::leader::SnapshotOutcome;
pub use status::Status;
pub use storage::{InitialState, Storage, StorageError};
pub use types::{
    AppendResponse, Body, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType,
    ConfChangeV1, ConfState, Entries, Entry, EntryId, EntryType, HardState, InvalidNodeId,
    LogIndex, MalformedConfChange, Message, NodeId, Proposal, RoleKind, Round, Snapshot,
    SnapshotMetadata, SoftState, Term, TermRuns, VoteResponse,
};
