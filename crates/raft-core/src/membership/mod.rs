//! # Membership
//!
//! Who is in the cluster now: the active configuration, and the pure functions
//! that make the next one (Raft §6, thesis §4).
//!
//! - Owns: voters of both halves, learners, staged learners, auto-leave.
//! - Source: thesis §4.1, §4.3; etcd `tracker.Config`, `confchange`.

mod change;
mod restore;

use alloc::vec::Vec;

use crate::quorum::JointConfig;
use crate::types::{ConfState, NodeId};

pub use change::{ConfChangeError, Reconfiguration};

/// The active configuration.
///
/// # Invariants
/// - `learners` and `learners_next` are sorted and different.
/// - No learner votes in either half.
/// - Every staged learner votes in the outgoing half.
/// - Not joint ⇒ nothing is staged and `auto_leave` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    voters: JointConfig,
    learners: Vec<NodeId>,
    learners_next: Vec<NodeId>,
    auto_leave: bool,
}

impl Membership {
    /// The voters of both halves.
    pub fn voters(&self) -> &JointConfig {
        &self.voters
    }

    /// Members that only listen, in ascending order.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Voters of the outgoing half that become learners when it is left.
    pub fn learners_next(&self) -> &[NodeId] {
        &self.learners_next
    }

    /// Whether the leader leaves the joint configuration on its own.
    pub fn auto_leave(&self) -> bool {
        self.auto_leave
    }

    /// Whether two majorities decide.
    pub fn is_joint(&self) -> bool {
        self.voters.is_joint()
    }

    /// Whether `id` only listens.
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.learners.binary_search(&id).is_ok()
    }

    /// Whether `id` receives the log.
    pub fn contains(&self, id: NodeId) -> bool {
        self.voters.contains(id) || self.is_learner(id)
    }

    /// Everybody who receives the log, in ascending order.
    pub fn ids(&self) -> Vec<NodeId> {
        let mut ids = self.voters.ids();
        ids.extend_from_slice(&self.learners);
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// This configuration as it is stored and sent.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.ids().to_vec(),
            learners: self.learners.clone(),
            voters_outgoing: self.voters.outgoing.ids().to_vec(),
            learners_next: self.learners_next.clone(),
            auto_leave: self.auto_leave,
        }
    }

    /// Whether the invariants hold; the first that does not is named.
    ///
    /// # Errors
    /// An invariant is broken.
    pub fn check(&self) -> Result<(), ConfChangeError> {
        for id in &self.learners_next {
            if !self.voters.outgoing.contains(*id) {
                return Err(ConfChangeError::StagedLearnerNotOutgoing(*id));
            }
            if self.is_learner(*id) {
                return Err(ConfChangeError::StagedLearnerIsLearner(*id));
            }
        }
        for id in &self.learners {
            if self.voters.contains(*id) {
                return Err(ConfChangeError::LearnerVotes(*id));
            }
        }
        if !self.is_joint() && (!self.learners_next.is_empty() || self.auto_leave) {
            return Err(ConfChangeError::NotJoint);
        }
        Ok(())
    }
}

fn insert_sorted(set: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = set.binary_search(&id) {
        set.insert(at, id);
    }
}
