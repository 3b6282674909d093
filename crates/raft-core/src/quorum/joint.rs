//! # Two majorities at once
//!
//! - Owns: the voters of both halves of a joint configuration.
//! - Source: Raft §6, thesis §4.3; etcd `quorum.JointConfig`.

use alloc::vec::Vec;

use super::{MajorityConfig, VoteResult};
use crate::types::NodeId;

/// The voters of both halves. Where the outgoing half is empty, the incoming
/// one decides alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    /// The new half.
    pub incoming: MajorityConfig,
    /// The old half; empty unless the configuration is joint.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// Whether both halves decide.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` votes in either half.
    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The voters of both halves in ascending order.
    pub fn ids(&self) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self
            .incoming
            .ids()
            .iter()
            .chain(self.outgoing.ids())
            .copied()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether a single voter decides alone.
    pub fn is_singleton(&self) -> bool {
        self.incoming.ids().len() == 1 && self.outgoing.is_empty()
    }

    /// The largest value that a majority of each half has acknowledged; `None`
    /// if there are no voters at all.
    pub fn committed(&self, acked: impl Fn(NodeId) -> Option<u64>) -> Option<u64> {
        let incoming = self.incoming.committed(&acked);
        let outgoing = self.outgoing.committed(&acked);
        match (incoming, outgoing) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The outcome of a vote: won if both halves won, lost if one lost.
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let incoming = self.incoming.vote_result(&vote);
        let outgoing = self.outgoing.vote_result(&vote);
        match (incoming, outgoing) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            _ => VoteResult::Pending,
        }
    }
}
