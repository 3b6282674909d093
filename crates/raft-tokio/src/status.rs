//! # Status
//!
//! What a replica is doing, published whenever it changes.

use raft_core::{ConfState, LogIndex, NodeId, ProgressState, RoleKind, Term};

use crate::task::StopReason;

/// What a replica is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// This server.
    pub id: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// The current term.
    pub term: Term,
    /// Who leads, as far as this server knows.
    pub leader: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit: LogIndex,
    /// The last index that the state machine applied.
    pub applied: LogIndex,
    /// The first index in the log.
    pub first_index: LogIndex,
    /// The last index in the log.
    pub last_index: LogIndex,
    /// The last index that the latest snapshot covers; zero if there is none.
    pub snapshot_index: LogIndex,
    /// The members.
    pub conf_state: ConfState,
    /// The server that leadership is being handed to, on the leader.
    pub transferee: Option<NodeId>,
    /// What the leader knows of everybody; empty on other roles.
    pub progress: Vec<(NodeId, ProgressState)>,
    /// How often another leader was seen since the start.
    pub leader_changes: u64,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<StopReason>,
}

impl ReplicaStatus {
    pub(crate) fn starting(id: NodeId) -> Self {
        Self {
            id,
            role: RoleKind::Follower,
            term: Term::ZERO,
            leader: None,
            commit: LogIndex::ZERO,
            applied: LogIndex::ZERO,
            first_index: LogIndex::new(1),
            last_index: LogIndex::ZERO,
            snapshot_index: LogIndex::ZERO,
            conf_state: ConfState::default(),
            transferee: None,
            progress: Vec::new(),
            leader_changes: 0,
            stopped: None,
        }
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.role == RoleKind::Leader
    }
}
