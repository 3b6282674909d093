//! # Metrics
//!
//! A replica's status in numbers, under the names that etcd's operators know:
//! etcd's with `raft` in the place of `etcd_server`. There is one list, for
//! whoever shows it; the feature `metrics` hands it to the `metrics` facade.
//!
//! - Reads: the status.

#[cfg(feature = "metrics")]
mod facade;

use raft_core::NodeId;

use crate::status::ReplicaStatus;

#[cfg(feature = "metrics")]
pub(crate) use facade::Recorder;

/// One number of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// Whom it is about, of those that a leader has for each member.
    pub to: Option<NodeId>,
    /// The number, in the unit that the name ends with.
    pub value: u64,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Up and down.
    Gauge,
    /// Up, and from zero with every start.
    Counter,
}

impl MetricKind {
    /// Its name in the text format of Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

impl ReplicaStatus {
    /// The status in numbers, always in the same order; those of the members
    /// come last.
    ///
    /// ```no_run
    /// # fn example(raft: raft_tokio::Raft) {
    /// for metric in raft.status().metrics() {
    ///     println!("{} {}", metric.name, metric.value);
    /// }
    /// # }
    /// ```
    pub fn metrics(&self) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let health = self.health();
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let own = [
            (
                "raft_has_leader",
                "Whether a leader is known.",
                Gauge,
                self.leader.is_some().into(),
            ),
            (
                "raft_is_leader",
                "Whether this node leads.",
                Gauge,
                self.is_leader().into(),
            ),
            (
                "raft_is_learner",
                "Whether this node is a learner.",
                Gauge,
                self.conf_state.learners.contains(&self.id).into(),
            ),
            (
                "raft_leader_changes_seen_total",
                "Changes of leader seen since the start.",
                Counter,
                self.leader_changes,
            ),
            ("raft_term", "The current term.", Gauge, self.term.get()),
            (
                "raft_proposals_committed_total",
                "The last index known to be committed.",
                Gauge,
                self.commit.get(),
            ),
            (
                "raft_proposals_applied_total",
                "The last index that was applied.",
                Gauge,
                self.applied.get(),
            ),
            (
                "raft_proposals_pending",
                "Proposals that are not committed, or passed on and not answered.",
                Gauge,
                count(self.waiting.proposals.saturating_add(self.waiting.forwards)),
            ),
            (
                "raft_proposals_failed_total",
                "Proposals that were refused or whose outcome is unknown, since the start.",
                Counter,
                self.proposals_failed,
            ),
            (
                "raft_read_indexes_pending",
                "Reads that are not confirmed, or not reached.",
                Gauge,
                count(self.waiting.reads),
            ),
            (
                "raft_disk_writes_pending",
                "Writes that are on their way to the disk.",
                Gauge,
                count(self.waiting.writes),
            ),
            (
                "raft_disk_lag_milliseconds",
                "How long the oldest write has been on its way to the disk.",
                Gauge,
                u64::try_from(self.disk_lag.as_millis()).unwrap_or(u64::MAX),
            ),
            (
                "raft_disk_stalled",
                "Whether the disk has finished no write for an election timeout.",
                Gauge,
                self.disk_stalled.into(),
            ),
            (
                "raft_log_reads_stalled",
                "Whether the disk owes a read of old entries for too long.",
                Gauge,
                self.log_read_stall.is_some().into(),
            ),
            (
                "raft_log_damaged",
                "Whether a damaged entry of the log was met since the start.",
                Gauge,
                self.log_damaged_at.is_some().into(),
            ),
            (
                "raft_quarantined",
                "Whether this node votes no more because its disk lost entries.",
                Gauge,
                self.lost_entries.is_some().into(),
            ),
            (
                "raft_apply_stalled",
                "Whether the state machine has finished nothing for an election timeout.",
                Gauge,
                self.apply_stall.is_some().into(),
            ),
            (
                "raft_overloaded",
                "Whether as much is unapplied as may be, so that nothing more is taken.",
                Gauge,
                self.overloaded.into(),
            ),
            (
                "raft_unapplied_bytes",
                "What the entries in the log take that are not applied, encoded.",
                Gauge,
                self.unapplied_bytes,
            ),
            (
                "raft_appends_dropped_total",
                "Entries of the leader that were not taken for that, since the start.",
                Counter,
                self.appends_dropped,
            ),
            (
                "raft_live",
                "Whether this node can go on by itself.",
                Gauge,
                health.is_live().into(),
            ),
            (
                "raft_ready",
                "Whether requests to this node make sense.",
                Gauge,
                health.is_ready().into(),
            ),
            (
                "raft_log_first_index",
                "The first index in the log.",
                Gauge,
                self.first_index.get(),
            ),
            (
                "raft_log_last_index",
                "The last index in the log.",
                Gauge,
                self.last_index.get(),
            ),
            (
                "raft_snapshot_index",
                "The last index that the latest snapshot covers.",
                Gauge,
                self.snapshot_index.get(),
            ),
        ];
        let own = own.into_iter().map(|(name, help, kind, value)| Metric {
            name,
            help,
            kind,
            to: None,
            value,
        });
        let members = self.progress.iter().map(|(id, progress)| Metric {
            name: "raft_follower_match_index",
            help: "The last index known to be in a member's log.",
            kind: Gauge,
            to: Some(*id),
            value: progress.matched.get(),
        });
        own.chain(members).collect()
    }
}
