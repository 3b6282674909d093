//! # Status
//!
//! What a replica is doing, published whenever it changes.

use std::time::Duration;

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
    /// Entries at the end of the log that are in memory.
    pub tail_entries: u64,
    /// What they take, encoded, in bytes.
    pub tail_bytes: u64,
    /// The members.
    pub conf_state: ConfState,
    /// The server that leadership is being handed to, on the leader.
    pub transferee: Option<NodeId>,
    /// What the leader knows of everybody; empty on other roles.
    pub progress: Vec<(NodeId, ProgressState)>,
    /// How often another leader was seen since the start.
    pub leader_changes: u64,
    /// How many proposals were refused, or ended with an unknown outcome, since
    /// the start.
    pub proposals_failed: u64,
    /// How long the oldest write that is not done has been on its way to the
    /// disk, in steps of a tick.
    pub disk_lag: Duration,
    /// Whether the disk has finished nothing for an election timeout. Then this
    /// server leaves leading to others.
    pub disk_stalled: bool,
    /// Whether a leader has as many unapplied entries as it may have, and takes
    /// no requests until some are applied.
    pub overloaded: bool,
    /// How much waits in this replica.
    pub waiting: Waiting,
    /// Whether a shutdown is under way.
    pub shutting_down: bool,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<StopReason>,
}

/// How much waits in a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Proposals whose entries are not committed.
    pub proposals: usize,
    /// Proposals that were passed on to the leader and are not answered.
    pub forwards: usize,
    /// Reads that are not confirmed, or not reached.
    pub reads: usize,
    /// Writes that are on their way to the disk.
    pub writes: usize,
    /// Reads of old entries, for followers that lack them, that the disk has not
    /// answered.
    pub log_reads: usize,
}

/// Whether a replica is alive, and whether it is of use.
///
/// A replica that is not alive should be restarted. One that is alive and not
/// ready should get no requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Everything that is wrong; empty if nothing is.
    pub reasons: Vec<Unfit>,
}

/// What is wrong with a replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It has stopped. Not alive.
    #[error("it has stopped: {0}")]
    Stopped(StopReason),
    /// Its disk finishes nothing. Not alive.
    #[error("its disk has finished nothing for {} ms", lag.as_millis())]
    DiskStalled {
        /// How old the oldest write is.
        lag: Duration,
    },
    /// It is shutting down. Alive.
    #[error("it is shutting down")]
    ShuttingDown,
    /// It was removed from the cluster, or not added yet. Alive.
    #[error("it is not a member of the cluster")]
    NotMember,
    /// Nobody leads as far as it knows. Alive.
    #[error("it knows no leader")]
    NoLeader,
    /// It takes no requests until more is applied. Alive.
    #[error("{entries} entries wait to be applied")]
    Overloaded {
        /// How many wait.
        entries: u64,
    },
}

impl Health {
    /// Whether the replica can go on by itself.
    pub fn is_live(&self) -> bool {
        !self
            .reasons
            .iter()
            .any(|reason| matches!(reason, Unfit::Stopped(_) | Unfit::DiskStalled { .. }))
    }

    /// Whether requests to this replica make sense.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
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
            tail_entries: 0,
            tail_bytes: 0,
            conf_state: ConfState::default(),
            transferee: None,
            progress: Vec::new(),
            leader_changes: 0,
            proposals_failed: 0,
            disk_lag: Duration::ZERO,
            disk_stalled: false,
            overloaded: false,
            waiting: Waiting::default(),
            shutting_down: false,
            stopped: None,
        }
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.role == RoleKind::Leader
    }

    /// Whether this server is in the configuration that it knows.
    pub fn is_member(&self) -> bool {
        self.conf_state.contains(self.id)
    }

    /// Whether this server knows a configuration, and is not in it.
    pub fn is_removed(&self) -> bool {
        !self.conf_state.voters.is_empty() && !self.is_member()
    }

    /// How many committed entries the state machine has not applied.
    pub fn apply_lag(&self) -> u64 {
        self.commit.distance_from(self.applied)
    }

    /// Whether this replica is alive and of use, and why not.
    pub fn health(&self) -> Health {
        let mut reasons = Vec::new();
        if let Some(reason) = &self.stopped {
            reasons.push(Unfit::Stopped(reason.clone()));
        }
        if self.disk_stalled {
            reasons.push(Unfit::DiskStalled { lag: self.disk_lag });
        }
        if self.shutting_down {
            reasons.push(Unfit::ShuttingDown);
        }
        if !self.is_member() {
            reasons.push(Unfit::NotMember);
        }
        if self.leader.is_none() {
            reasons.push(Unfit::NoLeader);
        }
        if self.overloaded {
            reasons.push(Unfit::Overloaded {
                entries: self.last_index.distance_from(self.applied),
            });
        }
        Health { reasons }
    }
}
