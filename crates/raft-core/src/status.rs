//! # Status
//!
//! What a node is doing, copied out for people and for tools.
//!
//! - Source: etcd `raft.Status`.

use alloc::vec::Vec;

use crate::common::LostEntries;
use crate::progress::ProgressState;
use crate::types::{ConfState, HardState, LogIndex, NodeId, SoftState};

/// What a node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Leader and role.
    pub soft_state: SoftState,
    /// The last index that the state machine applied.
    pub applied: LogIndex,
    /// The first index in the log.
    pub first_index: LogIndex,
    /// The last index in the log.
    pub last_index: LogIndex,
    /// The configuration.
    pub conf_state: ConfState,
    /// The server that leadership is being handed to.
    pub transferee: Option<NodeId>,
    /// What the leader knows of everybody, in ascending order of ids. Empty on
    /// other roles.
    pub progress: Vec<(NodeId, ProgressState)>,
    /// Why this server no longer votes, if its disk lost acknowledged entries.
    pub lost_entries: Option<LostEntries>,
}
