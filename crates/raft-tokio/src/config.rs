//! # Configuration of a replica
//!
//! What a user chooses, with defaults for a cluster in one data centre.

use std::time::Duration;

use raft_core::{Config, LogIndex, NodeId, ReadOnly, StorageWrites};

/// How one replica runs.
///
/// ```
/// use raft_tokio::{NodeId, RaftConfig};
/// use std::time::Duration;
///
/// let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
/// let config = RaftConfig {
///     snapshot_entries: 50_000,
///     proposal_timeout: Duration::from_secs(2),
///     ..RaftConfig::new(ids[0], ids.clone())
/// };
/// assert_eq!(config.initial_voters.len(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This server.
    pub id: NodeId,
    /// The voters of a new cluster, the same on each of them. Ignored once the
    /// log has something. Empty for a server that is to be added to a running
    /// cluster.
    pub initial_voters: Vec<NodeId>,
    /// How long a tick is. Default 100 ms.
    pub tick: Duration,
    /// Ticks without a leader before this server campaigns, at least; drawn from
    /// `[election_ticks, 2 * election_ticks)`. Default 10.
    pub election_ticks: u32,
    /// Ticks between two heartbeats. Default 1.
    pub heartbeat_ticks: u32,
    /// How long a proposal or a read may take before the caller hears that its
    /// outcome is unknown, or that nobody leads. In steps of a tick. Default
    /// 5 s.
    pub proposal_timeout: Duration,
    /// How long a new member may take to catch up before it is refused a vote.
    /// Default 30 s: a snapshot may have to travel first.
    pub catch_up_timeout: Duration,
    /// Requests that may wait in front of the event loop, and proposals that a
    /// follower has passed on and that are not answered. Default 8192: enough to
    /// fill one append of the loop twice.
    pub requests_waiting_max: usize,
    /// Bytes of commands that may wait in front of the event loop, where
    /// commands of less than this divided by `requests_waiting_max` are not
    /// counted: together they are not more than this either. Default 64 MiB.
    pub requests_bytes_max: usize,
    /// Bytes of packets of other servers that may wait in front of the event loop,
    /// beside their number, which is at most 4096; packets up to 4 KiB are not counted.
    /// Beyond that connections wait. One packet per connection may go over. Default
    /// 128 MiB: what one leader has under way, twice.
    pub packets_bytes_max: usize,
    /// Reads that may wait to be confirmed. More are refused. Default 65 536.
    pub reads_waiting_max: usize,
    /// Bytes in one command. Larger ones are refused. Default 16 MiB.
    pub command_bytes_max: usize,
    /// Bytes of commands in the leader's log that are not applied. More are
    /// refused until some are. Default 256 MiB.
    pub uncommitted_bytes_max: u64,
    /// Entries in the log that are not applied. Beyond that a leader takes no more
    /// requests, a follower no more entries, and both go on with everything else:
    /// a state machine or a disk that stalls must not become a log that grows. It
    /// bounds the waiting callers and the writes on their way to the disk as well.
    /// One append may go over. Default 262 144.
    pub unapplied_entries_max: u64,
    /// The same in bytes of encoded entries. More than `uncommitted_bytes_max`,
    /// so that a follower has room for what its leader takes. Default 512 MiB.
    pub unapplied_bytes_max: u64,
    /// Bytes of encoded entries, applied ones, that stay in memory at the end of
    /// the log. Followers that lack older ones get them from the disk. Default
    /// 64 MiB.
    pub log_tail_bytes_max: u64,
    /// Applied entries that stay in memory at the end of the log. Default
    /// 100 000.
    pub log_tail_entries_max: u64,
    /// Bytes of encoded entries that were read back from the disk and stay in
    /// memory for followers that are about to need them. A single read may go
    /// over. Default 16 MiB.
    pub log_read_bytes_max: u64,
    /// Bytes of encoded entries in one append message. Default 1 MiB.
    pub append_bytes_max: u64,
    /// Bytes of committed entries handed to the state machine that it has not
    /// applied. Default 64 MiB.
    pub applying_bytes_max: u64,
    /// Append messages on their way to one follower. Default 512.
    pub inflight_messages_max: usize,
    /// Bytes of commands on their way to one follower. Default 64 MiB.
    pub inflight_bytes_max: u64,
    /// Whether elections begin with a round that raises no term. Default true.
    pub pre_vote: bool,
    /// Whether [`query_lease`](crate::Raft::query_lease) may trust the leader's
    /// lease instead of asking a quorum. To be set on every server or on none:
    /// a server that restarts then takes part in no election for an election
    /// timeout, since it may have forgotten a promise. Default false.
    pub lease_reads: bool,
    /// By how much the clocks of two servers may differ in speed, in
    /// thousandths. A lease is shorter by that: it lasts
    /// `(election_ticks - 1) * tick * (1 - drift)` from the moment at which the
    /// quorum that confirmed it was asked. With clocks that differ by more, or
    /// that jump, leases are not safe. Default 100, which is a thousand times
    /// what oscillators do, and leaves room for a virtual machine's.
    pub lease_drift_per_mille: u32,
    /// Applied entries after which a snapshot is taken. Zero: never. Default
    /// 100 000.
    pub snapshot_entries: u64,
    /// Entries that stay in the log behind a snapshot, so that a follower that
    /// is a little late needs none. With at least `snapshot_entries` of them, a node
    /// whose latest snapshot is damaged starts from the one before it. Default
    /// 10 000.
    pub snapshot_keep_entries: u64,
    /// How long the leader keeps the log for a follower to which it has sent a
    /// snapshot, and which is not back in the log. Whoever takes longer gets
    /// another snapshot if the log was cut meanwhile. Default 10 minutes.
    pub snapshot_hold_timeout: Duration,
    /// Bytes of encoded entries that the leader keeps at the most for that, and
    /// more that its disk has to have room for. Default 1 GiB.
    pub snapshot_hold_bytes_max: u64,
    /// Whether a follower passes requests on to the leader. Default true.
    pub forwarding: bool,
    /// Where the randomized election times are drawn from. Default: the process
    /// draws one.
    pub seed: u64,
}

impl RaftConfig {
    /// The defaults for a server of a cluster that begins with these voters.
    pub fn new(id: NodeId, initial_voters: Vec<NodeId>) -> Self {
        Self {
            id,
            initial_voters,
            tick: Duration::from_millis(100),
            election_ticks: 10,
            heartbeat_ticks: 1,
            proposal_timeout: Duration::from_secs(5),
            catch_up_timeout: Duration::from_secs(30),
            requests_waiting_max: 8192,
            requests_bytes_max: 64 * 1024 * 1024,
            packets_bytes_max: 128 * 1024 * 1024,
            reads_waiting_max: 65_536,
            command_bytes_max: 16 * 1024 * 1024,
            uncommitted_bytes_max: 256 * 1024 * 1024,
            unapplied_entries_max: 262_144,
            unapplied_bytes_max: 512 * 1024 * 1024,
            log_tail_bytes_max: 64 * 1024 * 1024,
            log_tail_entries_max: 100_000,
            log_read_bytes_max: 16 * 1024 * 1024,
            append_bytes_max: 1024 * 1024,
            applying_bytes_max: 64 * 1024 * 1024,
            inflight_messages_max: 512,
            inflight_bytes_max: 64 * 1024 * 1024,
            pre_vote: true,
            lease_reads: false,
            lease_drift_per_mille: 100,
            snapshot_entries: 100_000,
            snapshot_keep_entries: 10_000,
            snapshot_hold_timeout: Duration::from_secs(600),
            snapshot_hold_bytes_max: 1024 * 1024 * 1024,
            forwarding: true,
            seed: process_seed(id),
        }
    }

    pub(crate) fn core(&self, applied: LogIndex) -> Config {
        Config {
            election_ticks: self.election_ticks,
            heartbeat_ticks: self.heartbeat_ticks,
            applied,
            storage_writes: StorageWrites::Asynchronous,
            append_bytes_max: self.append_bytes_max,
            committed_bytes_max: Some(self.applying_bytes_max),
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            inflight_messages_max: self.inflight_messages_max,
            inflight_bytes_max: self.inflight_bytes_max.max(self.append_bytes_max),
            check_quorum: true,
            pre_vote: self.pre_vote,
            // Leases are measured on a clock, which the core does not have.
            read_only: ReadOnly::Safe,
            // A follower passes requests on itself, with an answer.
            proposal_forwarding: false,
            conf_change_validation: true,
            step_down_on_removal: true,
            seed: self.seed,
            ..Config::protected(self.id)
        }
    }

    /// How long the promise of a quorum lasts from when it was asked. A
    /// follower's first tick may come right after the leader's message.
    pub(crate) fn lease_length(&self) -> Duration {
        let promised = self.tick * self.election_ticks.saturating_sub(1);
        let kept_per_mille = 1000_u32.saturating_sub(self.lease_drift_per_mille);
        promised * kept_per_mille / 1000
    }

    /// `proposal_timeout` in ticks, at least one.
    pub(crate) fn timeout_ticks(&self) -> u64 {
        self.ticks(self.proposal_timeout)
    }

    /// A time in ticks, at least one.
    pub(crate) fn ticks(&self, time: Duration) -> u64 {
        let ticks = time.as_nanos() / self.tick.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
    }
}

/// A number that differs between processes, from the standard library's source
/// of hash seeds.
pub(crate) fn process_seed(id: NodeId) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(id)
}

#[cfg(test)]
mod tests {
    use raft_core::Protections;

    use super::*;

    #[test]
    fn a_replica_is_protected_and_the_core_alone_is_not() {
        let id = NodeId::new(1).expect("1 is a node id");
        let core = RaftConfig::new(id, vec![id]).core(LogIndex::ZERO);
        assert_eq!(core.protections, Protections::On);
        assert!(core.check_quorum && core.pre_vote && core.step_down_on_removal);
        assert!(!core.proposal_forwarding, "a request is asked and answered");
        assert_eq!(Config::new(id).protections, Protections::Off);
    }
}
