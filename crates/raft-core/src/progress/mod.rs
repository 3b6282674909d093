//! # Followers
//!
//! What a leader knows of everybody it replicates to: how far their logs match,
//! what is on its way, and how fast more may follow.
//!
//! - Owns: a [`Progress`] per member, the leader's own included.
//! - Source: Raft Fig. 2 (`nextIndex`, `matchIndex`), thesis §10.2.1; etcd
//!   `tracker`.

mod inflights;
#[expect(
    clippy::module_inception,
    reason = "the file is named after the type that the field knows"
)]
mod progress;

use alloc::vec::Vec;

use crate::membership::{Membership, Reconfiguration};
use crate::quorum::VoteResult;
use crate::sorted;
use crate::types::{LogIndex, NodeId};

pub use inflights::Inflights;
pub use progress::{Flow, Progress, ProgressState};

/// The limits of what may be on its way to one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflightLimits {
    /// How many append messages with entries.
    pub messages_max: usize,
    /// How many bytes of entry data. One message may go over.
    pub bytes_max: u64,
}

/// A [`Progress`] per member.
///
/// # Invariants
/// - Sorted by id, so that every walk has the same order.
#[derive(Clone, Debug)]
pub struct Followers {
    members: Vec<(NodeId, Progress)>,
    limits: InflightLimits,
}

impl Followers {
    /// Nobody yet.
    pub fn new(limits: InflightLimits) -> Self {
        Self {
            members: Vec::new(),
            limits,
        }
    }

    /// Everybody in `membership`, as a new leader sees them: nothing is known,
    /// and probing starts after `last_index`. The leader itself matches.
    pub fn at_election(
        membership: &Membership,
        limits: InflightLimits,
        leader: NodeId,
        last_index: LogIndex,
    ) -> Self {
        let members = membership
            .ids()
            .into_iter()
            .map(|id| {
                let progress = if id == leader {
                    Progress::of_leader(last_index, limits)
                } else {
                    Progress::at_election(last_index, limits, membership.is_learner(id))
                };
                (id, progress)
            })
            .collect();
        Self { members, limits }
    }

    /// Follows a change of the configuration: who left is forgotten, who joined
    /// starts to be probed, and learners are marked.
    pub fn reconfigure(&mut self, change: &Reconfiguration, last_index: LogIndex) {
        let membership = &change.membership;
        self.members
            .retain(|(id, _)| membership.contains(*id) && !change.joined.contains(id));
        for id in &change.joined {
            if membership.contains(*id) {
                let progress = Progress::joining(last_index, self.limits);
                if let Err(at) = self.position(*id) {
                    self.members.insert(at, (*id, progress));
                }
            }
        }
        for (id, progress) in &mut self.members {
            progress.is_learner = membership.is_learner(*id);
        }
    }

    fn position(&self, id: NodeId) -> Result<usize, usize> {
        sorted::position(&self.members, id, |(member, _)| *member)
    }

    /// What is known of `id`.
    pub fn progress(&self, id: NodeId) -> Option<&Progress> {
        let at = self.position(id).ok()?;
        self.members.get(at).map(|(_, progress)| progress)
    }

    /// What is known of `id`, to be changed.
    pub fn progress_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        let at = self.position(id).ok()?;
        self.members.get_mut(at).map(|(_, progress)| progress)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Everybody, in ascending order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Progress)> + '_ {
        self.members.iter().map(|(id, progress)| (*id, progress))
    }

    /// Everybody, in ascending order of ids, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Progress)> + '_ {
        self.members
            .iter_mut()
            .map(|(id, progress)| (*id, progress))
    }

    /// The largest index that is on a quorum (Raft §5.3). A configuration
    /// without voters commits everything.
    pub fn committed(&self, membership: &Membership) -> LogIndex {
        membership
            .voters()
            .committed(|id| self.progress(id).map(|progress| progress.matched.get()))
            .map_or(LogIndex::new(u64::MAX), LogIndex::new)
    }

    /// Whether a quorum has been heard of since it was last asked (thesis §6.2,
    /// etcd `QuorumActive`). Learners do not count.
    pub fn quorum_is_active(&self, membership: &Membership) -> bool {
        let result = membership.voters().vote_result(|id| {
            self.progress(id)
                .filter(|progress| !progress.is_learner)
                .map(Progress::recent_active)
        });
        result == VoteResult::Won
    }
}
