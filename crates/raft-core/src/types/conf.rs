//! # Configurations and their changes
//!
//! Who votes, who only listens, and what moves one set to the next (Raft §6,
//! thesis §4.3). The meaning is in `membership`; here are the words.

use alloc::vec::Vec;

use bytes::Bytes;

use super::NodeId;

/// The members of the cluster at one point of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// The voters; in a joint configuration, those of the new half.
    pub voters: Vec<NodeId>,
    /// Members that receive the log and do not count for any quorum.
    pub learners: Vec<NodeId>,
    /// The voters of the old half; empty unless the configuration is joint.
    pub voters_outgoing: Vec<NodeId>,
    /// Voters of the old half that become learners when it is left.
    pub learners_next: Vec<NodeId>,
    /// Whether the leader leaves the joint configuration on its own.
    pub auto_leave: bool,
}

impl ConfState {
    /// A configuration of voters only.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether two majorities decide together (thesis §4.3).
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether `id` receives the log in this configuration.
    pub fn contains(&self, id: NodeId) -> bool {
        [
            &self.voters,
            &self.learners,
            &self.voters_outgoing,
            &self.learners_next,
        ]
        .iter()
        .any(|set| set.contains(&id))
    }

    /// Whether both name the same members, in whatever order.
    pub fn is_equivalent_to(&self, other: &Self) -> bool {
        fn sorted(set: &[NodeId]) -> Vec<NodeId> {
            let mut ids = set.to_vec();
            ids.sort_unstable();
            ids
        }
        sorted(&self.voters) == sorted(&other.voters)
            && sorted(&self.learners) == sorted(&other.learners)
            && sorted(&self.voters_outgoing) == sorted(&other.voters_outgoing)
            && sorted(&self.learners_next) == sorted(&other.learners_next)
            && self.auto_leave == other.auto_leave
    }
}

/// What happens to one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeType {
    /// Becomes a voter.
    #[default]
    AddNode,
    /// Leaves the cluster.
    RemoveNode,
    /// Nothing changes; carries a context through the log.
    UpdateNode,
    /// Becomes a learner.
    AddLearnerNode,
}

/// One step of a configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What happens.
    pub change_type: ConfChangeType,
    /// To whom. `None` is a change that was called off: it does nothing.
    pub node_id: Option<NodeId>,
}

impl ConfChangeSingle {
    /// `change_type` for `node_id`.
    pub const fn new(change_type: ConfChangeType, node_id: NodeId) -> Self {
        Self {
            change_type,
            node_id: Some(node_id),
        }
    }
}

/// How to get from one configuration to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeTransition {
    /// Directly where one voter changes at most, else jointly with auto-leave.
    #[default]
    Auto,
    /// Through a joint configuration that the leader leaves on its own.
    JointImplicit,
    /// Through a joint configuration that somebody must propose to leave.
    JointExplicit,
}

/// A change of the configuration. With no changes and
/// [`ConfChangeTransition::Auto`] it leaves a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// How to get to the new configuration.
    pub transition: ConfChangeTransition,
    /// What changes, in order.
    pub changes: Vec<ConfChangeSingle>,
    /// Opaque to the protocol.
    pub context: Bytes,
}

impl ConfChange {
    /// One change, made directly.
    pub fn single(change_type: ConfChangeType, node_id: NodeId) -> Self {
        Self {
            changes: Vec::from([ConfChangeSingle::new(change_type, node_id)]),
            ..Self::default()
        }
    }

    /// Leaves a joint configuration.
    pub fn leave_joint() -> Self {
        Self::default()
    }

    /// Whether this asks to leave a joint configuration.
    pub fn leaves_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}

/// A single change in etcd's first format, which old clusters have in their
/// logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChangeV1 {
    /// An id chosen by the proposer; opaque to the protocol.
    pub id: u64,
    /// What changes.
    pub change: ConfChangeSingle,
    /// Opaque to the protocol.
    pub context: Bytes,
}

impl From<ConfChangeV1> for ConfChange {
    fn from(v1: ConfChangeV1) -> Self {
        Self {
            transition: ConfChangeTransition::Auto,
            changes: Vec::from([v1.change]),
            context: v1.context,
        }
    }
}
