//! # One majority
//!
//! - Owns: a set of voters.
//! - Source: Raft §5.2, §5.3; etcd `quorum.MajorityConfig`.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::VoteResult;
use crate::sorted;
use crate::types::NodeId;

/// A set of voters, a majority of which decides.
///
/// # Invariants
/// - The voters are sorted and different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig {
    voters: Vec<NodeId>,
}

impl MajorityConfig {
    /// The voters in ascending order.
    pub fn ids(&self) -> &[NodeId] {
        &self.voters
    }

    /// Whether there are no voters.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// Whether `id` is a voter.
    pub fn contains(&self, id: NodeId) -> bool {
        sorted::position(&self.voters, id, |voter| *voter).is_ok()
    }

    /// Makes `id` a voter.
    pub fn insert(&mut self, id: NodeId) {
        if let Err(at) = self.voters.binary_search(&id) {
            self.voters.insert(at, id);
        }
    }

    /// Makes `id` no voter.
    pub fn remove(&mut self, id: NodeId) {
        self.voters.retain(|voter| *voter != id);
    }

    /// How many votes are a majority.
    pub fn quorum(&self) -> usize {
        (self.voters.len() / 2).saturating_add(1)
    }

    /// The largest value that a majority has acknowledged; a voter without an
    /// answer counts as zero. `None` if there are no voters: then nobody has
    /// to agree, and every value is committed.
    pub fn committed(&self, acked: impl Fn(NodeId) -> Option<u64>) -> Option<u64> {
        let acked = |id: &NodeId| acked(*id).unwrap_or(0);
        match self.voters.as_slice() {
            [] => None,
            [only] => Some(acked(only)),
            // The usual size, and asked for with every acknowledgement.
            [a, b, c] => Some(median(acked(a), acked(b), acked(c))),
            voters => {
                let mut values: SmallVec<[u64; 7]> = voters.iter().map(acked).collect();
                values.sort_unstable();
                // With the values in ascending order, a majority has this one
                // or more.
                let at = values.len().saturating_sub(self.quorum());
                values.get(at).copied()
            }
        }
    }

    /// The outcome of a vote. Without voters it is won.
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.voters.is_empty() {
            return VoteResult::Won;
        }
        let mut yes = 0_usize;
        let mut missing = 0_usize;
        for id in &self.voters {
            match vote(*id) {
                Some(true) => yes = yes.saturating_add(1),
                Some(false) => {}
                None => missing = missing.saturating_add(1),
            }
        }
        if yes >= self.quorum() {
            VoteResult::Won
        } else if yes.saturating_add(missing) >= self.quorum() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

fn median(a: u64, b: u64, c: u64) -> u64 {
    a.max(b).min(a.min(b).max(c))
}

impl FromIterator<NodeId> for MajorityConfig {
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> Self {
        let mut voters: Vec<NodeId> = ids.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Self { voters }
    }
}
