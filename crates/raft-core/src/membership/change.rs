//! # Changing the configuration
//!
//! Pure functions from one configuration to the next. A change that would break
//! the overlap of majorities is refused, and nothing has happened.
//!
//! - Owns: nothing.
//! - Source: thesis §4.1 (one voter at a time), §4.3 (joint consensus); etcd
//!   `confchange.Changer`.

use alloc::vec::Vec;

use super::{Membership, insert_sorted};
use crate::types::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, MalformedConfChange, NodeId,
};

/// A configuration change that cannot be made. The configuration is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// A joint configuration must be left before another is entered.
    #[error("the configuration is joint already; leave it first")]
    AlreadyJoint,
    /// There is no joint configuration to leave.
    #[error("the configuration is not joint, so it cannot be left")]
    NotJoint,
    /// A joint configuration needs voters to start from.
    #[error("a configuration without voters cannot become joint")]
    JointWithoutVoters,
    /// A direct change was asked for while the configuration is joint.
    #[error("a direct change is not possible in a joint configuration; leave it first")]
    SimpleWhileJoint,
    /// Two or more voters would change in one direct step.
    #[error("more than one voter changes; use a joint configuration")]
    MoreThanOneVoter,
    /// Nobody would be left to vote.
    #[error("the change leaves no voters")]
    NoVotersLeft,
    /// A staged learner does not vote in the outgoing half.
    #[error("node {0} is staged as a learner but does not vote in the outgoing half")]
    StagedLearnerNotOutgoing(NodeId),
    /// A staged learner is a learner already.
    #[error("node {0} is staged as a learner but is one already")]
    StagedLearnerIsLearner(NodeId),
    /// A learner votes.
    #[error("node {0} is a learner and a voter")]
    LearnerVotes(NodeId),
    /// The stored configuration is not the one that its changes lead to.
    #[error("the stored configuration contradicts itself")]
    Inconsistent,
    /// The entry's data is not a configuration change.
    #[error(transparent)]
    Malformed(#[from] MalformedConfChange),
}

/// The next configuration, and who is new in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfiguration {
    /// The next configuration.
    pub membership: Membership,
    /// Members whose replication starts anew, in the order in which they came.
    pub joined: Vec<NodeId>,
}

impl Membership {
    /// The configuration after `change`.
    ///
    /// # Errors
    /// The change cannot be made from this configuration.
    pub fn changed(&self, change: &ConfChange) -> Result<Reconfiguration, ConfChangeError> {
        if change.leaves_joint() {
            return self.leave_joint();
        }
        let auto_leave = match change.transition {
            // One change at most goes directly (etcd `EnterJoint`).
            ConfChangeTransition::Auto if change.changes.len() <= 1 => {
                return self.simple(&change.changes);
            }
            ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit => true,
            ConfChangeTransition::JointExplicit => false,
        };
        self.enter_joint(auto_leave, &change.changes)
    }

    /// Changes at most one voter, directly.
    ///
    /// # Errors
    /// The configuration is joint, more than one voter changes, or none is left.
    pub fn simple(&self, changes: &[ConfChangeSingle]) -> Result<Reconfiguration, ConfChangeError> {
        self.check()?;
        if self.is_joint() {
            return Err(ConfChangeError::SimpleWhileJoint);
        }
        let next = Editor::new(self).apply(changes)?;
        let before = &self.voters.incoming;
        let after = &next.membership.voters.incoming;
        let gone = before.ids().iter().filter(|id| !after.contains(**id));
        let come = after.ids().iter().filter(|id| !before.contains(**id));
        if gone.count().saturating_add(come.count()) > 1 {
            return Err(ConfChangeError::MoreThanOneVoter);
        }
        next.membership.check()?;
        Ok(next)
    }

    /// Keeps the voters of now as the outgoing half and makes the changes to
    /// the incoming one.
    ///
    /// # Errors
    /// The configuration is joint already, or has no voters.
    pub fn enter_joint(
        &self,
        auto_leave: bool,
        changes: &[ConfChangeSingle],
    ) -> Result<Reconfiguration, ConfChangeError> {
        self.check()?;
        if self.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if self.voters.incoming.is_empty() {
            return Err(ConfChangeError::JointWithoutVoters);
        }
        let mut start = self.clone();
        start.voters.outgoing = start.voters.incoming.clone();
        let mut next = Editor::new(&start).apply(changes)?;
        next.membership.auto_leave = auto_leave;
        next.membership.check()?;
        Ok(next)
    }

    /// Drops the outgoing half; its staged learners become learners.
    ///
    /// # Errors
    /// The configuration is not joint.
    pub fn leave_joint(&self) -> Result<Reconfiguration, ConfChangeError> {
        self.check()?;
        if !self.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        let mut membership = self.clone();
        for id in core::mem::take(&mut membership.learners_next) {
            insert_sorted(&mut membership.learners, id);
        }
        membership.voters.outgoing = <_>::default();
        membership.auto_leave = false;
        membership.check()?;
        Ok(Reconfiguration {
            membership,
            joined: Vec::new(),
        })
    }
}

/// Makes changes one by one, and remembers who is being replicated to: a member
/// that leaves and comes back within one change starts anew.
struct Editor {
    next: Membership,
    tracked: Vec<NodeId>,
    joined: Vec<NodeId>,
}

impl Editor {
    fn new(start: &Membership) -> Self {
        Self {
            next: start.clone(),
            tracked: start.ids(),
            joined: Vec::new(),
        }
    }

    fn apply(mut self, changes: &[ConfChangeSingle]) -> Result<Reconfiguration, ConfChangeError> {
        for change in changes {
            let Some(id) = change.node_id else {
                continue;
            };
            match change.change_type {
                ConfChangeType::AddNode => self.make_voter(id),
                ConfChangeType::AddLearnerNode => self.make_learner(id),
                ConfChangeType::RemoveNode => self.remove(id),
                ConfChangeType::UpdateNode => {}
            }
        }
        if self.next.voters.incoming.is_empty() {
            return Err(ConfChangeError::NoVotersLeft);
        }
        Ok(Reconfiguration {
            membership: self.next,
            joined: self.joined,
        })
    }

    fn make_voter(&mut self, id: NodeId) {
        self.track(id);
        self.next.learners.retain(|learner| *learner != id);
        self.next.learners_next.retain(|learner| *learner != id);
        self.next.voters.incoming.insert(id);
    }

    fn make_learner(&mut self, id: NodeId) {
        if self.next.is_learner(id) {
            return;
        }
        if self.tracked.contains(&id) {
            self.next.voters.incoming.remove(id);
            self.next.learners_next.retain(|learner| *learner != id);
        } else {
            self.track(id);
        }
        // A voter of the outgoing half cannot be a learner at the same time: it
        // waits until that half is left.
        if self.next.voters.outgoing.contains(id) {
            insert_sorted(&mut self.next.learners_next, id);
        } else {
            insert_sorted(&mut self.next.learners, id);
        }
    }

    fn remove(&mut self, id: NodeId) {
        if !self.tracked.contains(&id) {
            return;
        }
        self.next.voters.incoming.remove(id);
        self.next.learners.retain(|learner| *learner != id);
        self.next.learners_next.retain(|learner| *learner != id);
        if !self.next.voters.outgoing.contains(id) {
            self.tracked.retain(|tracked| *tracked != id);
            self.joined.retain(|joined| *joined != id);
        }
    }

    fn track(&mut self, id: NodeId) {
        if !self.tracked.contains(&id) {
            self.tracked.push(id);
            self.joined.push(id);
        }
    }
}
