//! # Status
//!
//! What a replica is doing, published whenever it changes.

use std::time::Duration;

use raft_core::{ConfState, LogIndex, LostEntries, NodeId, ProgressState, RoleKind, Term};

use crate::address_book::AddressBook;
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
    /// Where members are reached, as far as the cluster has agreed on it.
    pub addresses: AddressBook,
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
    /// How long the disk has owed a read of old entries, if that is longer than
    /// five election timeouts. Followers that lack them get snapshots.
    pub log_read_stall: Option<Duration>,
    /// A damaged entry of the log was met here, or a little further on, since the
    /// start.
    pub log_damaged_at: Option<LogIndex>,
    /// Evidence that the disk of this server lost what it had acknowledged. Since
    /// then it neither votes nor campaigns.
    pub lost_entries: Option<LostEntries>,
    /// For how long the state machine has finished nothing, if it has something
    /// to do and that is longer than an election timeout.
    pub apply_stall: Option<Duration>,
    /// Whether as much is unapplied as may be: a leader takes no requests until
    /// some of it is applied, a follower no entries.
    pub overloaded: bool,
    /// What the entries in the log take that are not applied, encoded, in bytes.
    pub unapplied_bytes: u64,
    /// How often entries of the leader were not taken because of that, since the
    /// start. The leader sends them again.
    pub appends_dropped: u64,
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
/// ready should get no requests. One that is both may still have something that
/// somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Everything that is wrong; empty if nothing is.
    pub reasons: Vec<Unfit>,
}

/// What is wrong with a replica. [`severity`](Unfit::severity) says what that
/// means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It has stopped.
    #[error("it has stopped: {0}")]
    Stopped(StopReason),
    /// Its disk finishes no write.
    #[error("its disk has finished nothing for {} ms", lag.as_millis())]
    DiskStalled {
        /// How old the oldest write is.
        lag: Duration,
    },
    /// Its disk answers no read of old entries.
    #[error("its disk has not answered a read for {} ms", lag.as_millis())]
    LogReadsStalled {
        /// How old the oldest read is.
        lag: Duration,
    },
    /// Its log is damaged. What it has in memory is not, so it works on; a restart
    /// would find the damage. Remove it from the cluster, and add another one.
    #[error(
        "its log is damaged near entry {index}; do not restart it, but remove it from the \
         cluster, wipe its folder and add it anew"
    )]
    LogDamaged {
        /// Where, or a little before.
        index: LogIndex,
    },
    /// Its disk lost entries that it had acknowledged, so it no longer votes.
    /// Remove it from the cluster, and add another one.
    #[error(
        "its disk lost entries from {last} to {acknowledged} that it had acknowledged, so it no \
         longer votes; remove it from the cluster, wipe its folder and add it anew"
    )]
    Quarantined {
        /// What a leader knew to be there.
        acknowledged: LogIndex,
        /// Where the log ended instead.
        last: LogIndex,
    },
    /// It is shutting down.
    #[error("it is shutting down")]
    ShuttingDown,
    /// It was removed from the cluster.
    #[error("it was removed from the cluster")]
    Removed,
    /// It knows no members: it was not added to a cluster yet.
    #[error("it is not a member of a cluster yet")]
    NotMember,
    /// Nobody leads as far as it knows.
    #[error("it knows no leader")]
    NoLeader,
    /// Its state machine finishes nothing.
    #[error("its state machine has finished nothing for {} ms", lag.as_millis())]
    ApplyStalled {
        /// For how long.
        lag: Duration,
    },
    /// It takes nothing more until more is applied.
    #[error("{entries} entries wait to be applied")]
    Overloaded {
        /// How many wait.
        entries: u64,
    },
}

/// What something that is wrong means for whoever looks after a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It serves all the same. Somebody should look at it.
    Degraded,
    /// It should get no requests for now. A restart does not help.
    NotReady,
    /// It does not go on by itself. Restart it.
    NotAlive,
}

impl Unfit {
    /// What this means.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Stopped(_) => Severity::NotAlive,
            // A disk that comes back finds everything as it was; a restart would
            // wait for it too, and lose what only memory has.
            Self::DiskStalled { .. }
            | Self::LogReadsStalled { .. }
            | Self::Quarantined { .. }
            | Self::ShuttingDown
            | Self::Removed
            | Self::NotMember
            | Self::NoLeader
            | Self::ApplyStalled { .. }
            | Self::Overloaded { .. } => Severity::NotReady,
            Self::LogDamaged { .. } => Severity::Degraded,
        }
    }
}

impl Health {
    /// The worst of what is wrong.
    pub fn severity(&self) -> Option<Severity> {
        self.reasons.iter().map(Unfit::severity).max()
    }

    /// Whether the replica can go on by itself.
    pub fn is_live(&self) -> bool {
        self.severity() < Some(Severity::NotAlive)
    }

    /// Whether requests to this replica make sense.
    pub fn is_ready(&self) -> bool {
        self.severity() < Some(Severity::NotReady)
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
            addresses: AddressBook::default(),
            transferee: None,
            progress: Vec::new(),
            leader_changes: 0,
            proposals_failed: 0,
            disk_lag: Duration::ZERO,
            disk_stalled: false,
            log_read_stall: None,
            log_damaged_at: None,
            lost_entries: None,
            apply_stall: None,
            overloaded: false,
            unapplied_bytes: 0,
            appends_dropped: 0,
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
        if let Some(lag) = self.log_read_stall {
            reasons.push(Unfit::LogReadsStalled { lag });
        }
        if let Some(index) = self.log_damaged_at {
            reasons.push(Unfit::LogDamaged { index });
        }
        if let Some(LostEntries { acknowledged, last }) = self.lost_entries {
            reasons.push(Unfit::Quarantined { acknowledged, last });
        }
        if self.shutting_down {
            reasons.push(Unfit::ShuttingDown);
        }
        if self.is_removed() {
            reasons.push(Unfit::Removed);
        } else if !self.is_member() {
            reasons.push(Unfit::NotMember);
        }
        if self.leader.is_none() {
            reasons.push(Unfit::NoLeader);
        }
        if let Some(lag) = self.apply_stall {
            reasons.push(Unfit::ApplyStalled { lag });
        }
        if self.overloaded {
            reasons.push(Unfit::Overloaded {
                entries: self.last_index.distance_from(self.applied),
            });
        }
        Health { reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_stopped_is_not_alive() {
        let lag = Duration::from_secs(2);
        let index = LogIndex::new(7);
        let degraded = [Unfit::LogDamaged { index }];
        let not_ready = [
            Unfit::DiskStalled { lag },
            Unfit::LogReadsStalled { lag },
            Unfit::Quarantined {
                acknowledged: index,
                last: LogIndex::new(5),
            },
            Unfit::ShuttingDown,
            Unfit::Removed,
            Unfit::NotMember,
            Unfit::NoLeader,
            Unfit::ApplyStalled { lag },
            Unfit::Overloaded { entries: 9 },
        ];
        let not_alive = [Unfit::Stopped(StopReason::Shutdown)];
        let all = degraded.iter().map(|unfit| (unfit, true, true));
        let all = all.chain(not_ready.iter().map(|unfit| (unfit, true, false)));
        let all = all.chain(not_alive.iter().map(|unfit| (unfit, false, false)));
        for (unfit, is_live, is_ready) in all {
            let health = Health {
                reasons: vec![unfit.clone()],
            };
            assert_eq!(health.is_live(), is_live, "{unfit}");
            assert_eq!(health.is_ready(), is_ready, "{unfit}");
        }
        // The worst counts.
        let reasons = [degraded.to_vec(), not_alive.to_vec()].concat();
        assert!(!Health { reasons }.is_live());
        assert!(Health { reasons: vec![] }.is_ready());
    }
}
