//! Raft for tokio services.
//!
//! ```text
//! let applied = raft.propose(command).await?;
//! ```
//!
//! means: `command` is on the disks of a quorum, the state machine has applied
//! it, and `applied.reply` is what it answered. `docs/GUIDE.md` goes from an empty
//! project to a service in production.
//!
//! - [`Raft`]: the handle. [`StateMachine`]: the one trait to implement.
//! - `TypedRaft`: the same for a state that is a plain value, with commands and
//!   replies of your own types (the feature `serde`, which is on by default).
//! - [`Sessions`]: commands that are applied exactly once, however often they are
//!   tried.
//! - [`Node`]: for those who want to carry out the protocol's effects themselves.
//!
//! The feature `metrics` hands the numbers of every replica to the recorder of the
//! `metrics` crate.
//!
//! | part | between machines | in memory, for tests |
//! |---|---|---|
//! | [`Transport`] | [`TcpTransport`] | [`MemoryNetwork`] |
//! | [`LogStore`] | [`WalLogStore`] | [`MemoryLogStore`] |

mod address_book;
mod box_error;
mod config;
mod doorbell;
mod error;
mod event_loop;
mod fairness;
pub mod log_store;
mod metrics;
mod node;
mod queue;
mod replica;
pub mod sessions;
pub mod snapshot;
mod state_machine;
mod status;
mod task;
pub mod transport;
#[cfg(feature = "serde")]
mod typed;

/// The protocol without a runtime.
pub use raft_core as core;

// The public interface is:
pub use address_book::{AddressBook, MalformedAddressBook};
pub use box_error::BoxError;
pub use config::RaftConfig;
pub use error::{
    ChangeMembershipError, NotTaken, ProposeError, ReadError, StartError, TransferError,
};
pub use log_store::{LogStore, MemoryLogStore, WalLogStore, WalLogStoreError, WalLogStoreOptions};
pub use metrics::{Metric, MetricKind};
pub use node::{ApplyConfChangeError, Node, NodeProposeError, Readys, SharedStorage};
pub use raft_core::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfState, EntryId, Flow,
    LogIndex, LostEntries, NodeId, ProgressState, RoleKind, Term,
};
pub use replica::{Applied, PendingReply, Permit, Raft};
pub use sessions::{
    SessionClient, SessionError, SessionId, SessionLimits, SessionPipeline, Sessions,
};
pub use snapshot::{SnapshotJob, SnapshotReader};
pub use state_machine::StateMachine;
pub use status::{Health, ReplicaStatus, Severity, Unfit, Waiting};
pub use task::{StopReason, Stopped};
pub use transport::{MemoryNetwork, MemoryTransport, TcpTransport, TcpTransportConfig, Transport};
#[cfg(feature = "serde")]
pub use typed::{CodecError, SerdeMachine, Typed, TypedProposeError, TypedRaft};
