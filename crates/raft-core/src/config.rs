//! # Configuration
//!
//! What a user chooses, and the check that the choices fit together.
//!
//! - Source: etcd `raft.Config`.

use crate::progress::InflightLimits;
use crate::types::{LogIndex, NodeId};

/// How one server runs. All times are in ticks; the driver decides how long a
/// tick is.
///
/// There are two places to start from: [`Config::new`] does what etcd's raft does
/// by default, message for message; [`Config::protected`] turns on everything that
/// protects a cluster from what etcd's raft lets happen, and is the one to run.
///
/// ```
/// use raft_core::{Config, NodeId, Protections};
///
/// let id = NodeId::new(1).expect("1 is a node id");
/// let config = Config {
///     election_ticks: 20,
///     heartbeat_ticks: 2,
///     ..Config::protected(id)
/// };
/// assert!(config.validate().is_ok());
/// assert_eq!(config.protections, Protections::On);
/// assert_eq!(Config::new(id).protections, Protections::Off);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switch is independent, and a struct literal names it"
)]
pub struct Config {
    /// This server.
    pub id: NodeId,
    /// Ticks without a leader before this server campaigns; the actual time is
    /// drawn from `[election_ticks, 2 * election_ticks)` for each term. Must be
    /// greater than `heartbeat_ticks`; ten times is usual. Too small: elections
    /// without need. Too large: a longer time without a leader. Default 10.
    pub election_ticks: u32,
    /// Ticks between two heartbeats. At least 1. Default 1.
    pub heartbeat_ticks: u32,
    /// The last entry that the state machine has applied already; zero if it
    /// starts from the snapshot. Nothing up to here is handed out again.
    pub applied: LogIndex,
    /// Whether the driver carries a Ready out before it takes the next one.
    pub storage_writes: StorageWrites,
    /// Bytes of encoded entries in one append message; one entry goes in any
    /// case. Default 1 MiB.
    pub append_bytes_max: u64,
    /// Bytes of encoded committed entries that are handed out before the state
    /// machine has applied them; one entry goes in any case. `None` takes
    /// `append_bytes_max`.
    pub committed_bytes_max: Option<u64>,
    /// Bytes of entry data that a leader appends before they are applied. More
    /// are refused, one proposal goes in any case. Default: no limit.
    pub uncommitted_bytes_max: u64,
    /// Append messages with entries on their way to one follower. At least 1.
    /// Default 512.
    pub inflight_messages_max: usize,
    /// Bytes of entry data on their way to one follower; one message may go
    /// over. With a round trip of `t` seconds it bounds the throughput to
    /// `inflight_bytes_max / t`. At least `append_bytes_max`. Default: no limit.
    pub inflight_bytes_max: u64,
    /// Whether a leader steps down that has not heard of a quorum for
    /// `election_ticks`, and servers that hear of a leader refuse votes (thesis
    /// §6.2, §4.2.3). Default false; true if protected.
    pub check_quorum: bool,
    /// Whether elections begin with a round that raises no term (thesis §9.6).
    /// Default false; true if protected.
    pub pre_vote: bool,
    /// How reads are made linearizable. Default [`ReadOnly::Safe`].
    pub read_only: ReadOnly,
    /// Whether a follower passes proposals on to the leader. Default true.
    pub proposal_forwarding: bool,
    /// Whether a leader refuses configuration changes that it can tell to be
    /// impossible. Default true.
    pub conf_change_validation: bool,
    /// Whether a leader that applied its own removal or demotion becomes a
    /// follower. Default false; true if protected.
    pub step_down_on_removal: bool,
    /// Whether this server protects itself and its cluster where etcd's does not.
    /// Default [`Protections::Off`].
    pub protections: Protections,
    /// Where the randomized election times are drawn from. Servers of one
    /// cluster need different seeds.
    pub seed: u64,
}

/// Whether writing to the storage is part of carrying a Ready out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageWrites {
    /// The driver writes, sends, applies, then calls
    /// [`advance`](crate::RawNode::advance).
    #[default]
    Synchronous,
    /// Writing and applying go on while more Readys are taken; each hands its
    /// receipts back when it is done. (etcd `AsyncStorageWrites`.)
    Asynchronous,
}

/// How reads are made linearizable (thesis §6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// A quorum confirms by heartbeat that the leader still leads.
    #[default]
    Safe,
    /// The leader trusts that nobody else was elected while a quorum answered
    /// within an election timeout. Needs `check_quorum`, and clocks that run at
    /// nearly the same speed.
    LeaseBased,
}

/// Whether a server protects itself and its cluster where etcd's does not, and
/// where one can see the difference. What etcd panics at is refused in any case.
///
/// `docs/DIVERGENCES.md` lists each protection, with its reason and its test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protections {
    /// Exactly as etcd: to be compared with it, or to take its place in a cluster
    /// that relies on what it does. Then a message without a term is taken for one
    /// of the current term, and throws a candidate back to term zero, so that a
    /// node can vote twice in a term; entries, snapshots and acknowledgements are
    /// believed that no correct peer sends; a leader with a single voter answers
    /// reads at once, before it has committed anything and whether or not it is
    /// that voter, so that reads can be stale; a follower passes on what others
    /// passed on to it, without end where two followers take each other for the
    /// leader; a candidate asks for votes before its log and its term are durable,
    /// which a crash can turn into the loss of committed entries.
    #[default]
    Off,
    /// None of that: what no correct peer sends is refused, and what rests on the
    /// disk or on a quorum waits for it.
    On,
}

/// Choices that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Heartbeats would never be sent.
    #[error("heartbeat_ticks is 0; use at least 1")]
    NoHeartbeat,
    /// Followers would campaign between two heartbeats.
    #[error("election_ticks must be greater than heartbeat_ticks; ten times is usual")]
    ElectionNotLongerThanHeartbeat,
    /// Nothing could be sent.
    #[error("inflight_messages_max is 0; use at least 1")]
    NoInflights,
    /// A single message would fill the window.
    #[error("inflight_bytes_max must be at least append_bytes_max")]
    InflightBytesTooFew,
    /// Leases rest on the check of the quorum.
    #[error("lease-based reads need check_quorum")]
    LeaseWithoutCheckQuorum,
}

impl Config {
    /// What etcd's raft does by default. Its two limits without a default are
    /// those of the etcd server.
    pub const fn new(id: NodeId) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            applied: LogIndex::ZERO,
            storage_writes: StorageWrites::Synchronous,
            append_bytes_max: 1024 * 1024,
            committed_bytes_max: None,
            uncommitted_bytes_max: u64::MAX,
            inflight_messages_max: 512,
            inflight_bytes_max: u64::MAX,
            check_quorum: false,
            pre_vote: false,
            read_only: ReadOnly::Safe,
            proposal_forwarding: true,
            conf_change_validation: true,
            step_down_on_removal: false,
            protections: Protections::Off,
            seed: id.get(),
        }
    }

    /// The same, with everything turned on that protects a cluster.
    pub const fn protected(id: NodeId) -> Self {
        let mut config = Self::new(id);
        config.check_quorum = true;
        config.pre_vote = true;
        config.step_down_on_removal = true;
        config.protections = Protections::On;
        config
    }

    /// Checks that the choices fit together.
    ///
    /// # Errors
    /// Names the first that do not.
    pub const fn validate(&self) -> Result<(), ConfigError> {
        if self.heartbeat_ticks == 0 {
            return Err(ConfigError::NoHeartbeat);
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return Err(ConfigError::ElectionNotLongerThanHeartbeat);
        }
        if self.inflight_messages_max == 0 {
            return Err(ConfigError::NoInflights);
        }
        if self.inflight_bytes_max < self.append_bytes_max {
            return Err(ConfigError::InflightBytesTooFew);
        }
        if matches!(self.read_only, ReadOnly::LeaseBased) && !self.check_quorum {
            return Err(ConfigError::LeaseWithoutCheckQuorum);
        }
        Ok(())
    }

    pub(crate) fn is_protected(&self) -> bool {
        self.protections == Protections::On
    }

    pub(crate) fn committed_bytes_max(&self) -> u64 {
        self.committed_bytes_max.unwrap_or(self.append_bytes_max)
    }

    pub(crate) const fn inflight_limits(&self) -> InflightLimits {
        InflightLimits {
            messages_max: self.inflight_messages_max,
            bytes_max: self.inflight_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_etcds_and_protected_turns_everything_on() {
        let id = NodeId::new(1).unwrap();
        let exact = Config::new(id);
        assert_eq!(exact.validate(), Ok(()));
        assert_eq!(exact.protections, Protections::default());
        assert_eq!(exact.protections, Protections::Off);
        assert!(!exact.check_quorum && !exact.pre_vote && !exact.step_down_on_removal);
        assert!(exact.proposal_forwarding && exact.conf_change_validation);
        // Nothing else is chosen otherwise.
        let protected = Config {
            check_quorum: true,
            pre_vote: true,
            step_down_on_removal: true,
            protections: Protections::On,
            ..exact
        };
        assert_eq!(Config::protected(id), protected);
        assert_eq!(protected.validate(), Ok(()));
    }
}
