//! # Invariants
//!
//! Every documented invariant of a node, executable: tests, simulation and
//! fuzzing look after each step. What a type makes impossible is not looked at.
//!
//! - Owns: nothing.

use crate::config::OddMessages;
use crate::membership::ConfChangeError;
use crate::raft::Raft;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, Round, Term};

/// An invariant that does not hold: a bug of this crate, or of the driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenInvariant {
    /// applied <= applying <= committed <= last index.
    #[error("the cursors are out of order: {applied} {applying} {committed} {last}")]
    CursorsOutOfOrder {
        /// The last applied index.
        applied: LogIndex,
        /// The last index handed out to be applied.
        applying: LogIndex,
        /// The commit index.
        committed: LogIndex,
        /// The last index.
        last: LogIndex,
    },
    /// The log starts behind what is committed.
    #[error("the log starts at {first}, but only {committed} is committed")]
    CommittedBeforeLog {
        /// The first index.
        first: LogIndex,
        /// The commit index.
        committed: LogIndex,
    },
    /// The marks of the unstable log are out of order.
    #[error("the unstable log is [{offset}, {next}) and in progress up to {in_progress}")]
    UnstableOutOfOrder {
        /// The first unstable index.
        offset: LogIndex,
        /// The index after the last that is being written.
        in_progress: LogIndex,
        /// The index after the last entry.
        next: LogIndex,
    },
    /// The unstable entries have a gap, or begin elsewhere than they say.
    #[error("the unstable entries from {offset} on are not consecutive")]
    UnstableNotConsecutive {
        /// The first unstable index.
        offset: LogIndex,
    },
    /// Unstable entries begin before the snapshot that is before them.
    #[error("the unstable log starts at {offset}, but a snapshot of {snapshot} is before it")]
    UnstableBeforeSnapshot {
        /// The first unstable index.
        offset: LogIndex,
        /// The index of the snapshot.
        snapshot: LogIndex,
    },
    /// The last entry has a later term than the node. (Only checked with
    /// [`OddMessages::Refuse`].)
    #[error("the last entry is of term {last}, but the node is in term {term}")]
    LogAheadOfTerm {
        /// The term of the last entry.
        last: Term,
        /// The term of the node.
        term: Term,
    },
    /// The active configuration contradicts itself.
    #[error("the configuration is broken: {0}")]
    Membership(ConfChangeError),
    /// The members are not sorted, or one is named twice.
    #[error("the members are not sorted and different")]
    MembersOutOfOrder,
    /// A candidate that asks for votes did not vote for itself.
    #[error("a candidate has not voted for itself")]
    CandidateWithoutOwnVote,
    /// The leader replicates to others than the members.
    #[error("the leader does not replicate to exactly the members")]
    FollowersAreNotMembers,
    /// matched < next, and matched is in the leader's log. (Only checked with
    /// [`OddMessages::Refuse`]: a follower that acknowledges more than the leader
    /// has is believed otherwise, and so it stays when the log has grown.)
    #[error("the progress of {id} is broken: matched {matched}, next {next}, last {last}")]
    Progress {
        /// The follower.
        id: NodeId,
        /// Its last matching index.
        matched: LogIndex,
        /// The next index to send to it.
        next: LogIndex,
        /// The last index of the leader's log.
        last: LogIndex,
    },
    /// A follower's window is over its limit.
    #[error("{id} has more messages in flight than allowed")]
    InflightsOverLimit {
        /// The follower.
        id: NodeId,
    },
    /// A follower's window has lost count of its bytes or the order of its
    /// messages.
    #[error("the window of {id} has lost count")]
    InflightsOutOfOrder {
        /// The follower.
        id: NodeId,
    },
    /// A leader did not vote for itself. (Only checked with
    /// [`OddMessages::Refuse`].)
    #[error("the leader of term {term} has not voted for itself")]
    LeaderWithoutOwnVote {
        /// The leader's term.
        term: Term,
    },
    /// A leader has a last entry of another term: it did not append its no-op.
    #[error("a leader of term {term} has no entry of its term at the end of its log")]
    LeaderWithoutOwnEntry {
        /// The leader's term.
        term: Term,
    },
}

pub(crate) fn check<S: Storage>(raft: &Raft<S>) -> Result<(), BrokenInvariant> {
    let common = &raft.common;
    let log = &common.log;
    let (applied, applying, committed, last) = (
        log.applied(),
        log.applying(),
        log.committed(),
        log.last_index(),
    );
    if !(applied <= applying && applying <= committed && committed <= last) {
        return Err(BrokenInvariant::CursorsOutOfOrder {
            applied,
            applying,
            committed,
            last,
        });
    }
    let first = log.first_index();
    if committed < first.prev() {
        return Err(BrokenInvariant::CommittedBeforeLog { first, committed });
    }
    log.unstable().check()?;
    let last_term = log.last_id().map(|id| id.term).unwrap_or_default();
    let peers_are_sound = common.config.odd_messages == OddMessages::Refuse;
    if peers_are_sound && last_term > common.term && common.term > Term::ZERO {
        return Err(BrokenInvariant::LogAheadOfTerm {
            last: last_term,
            term: common.term,
        });
    }
    common
        .membership
        .check()
        .map_err(BrokenInvariant::Membership)?;
    let membership = &common.membership;
    let lists = [
        membership.voters().incoming.ids(),
        membership.voters().outgoing.ids(),
        membership.learners(),
        membership.learners_next(),
    ];
    if !lists.iter().all(|ids| ids.is_sorted_by(|a, b| a < b)) {
        return Err(BrokenInvariant::MembersOutOfOrder);
    }
    match &raft.role {
        Role::Follower(_) => Ok(()),
        Role::Candidate(candidate) => {
            if candidate.round() == Round::Vote && common.vote != Some(common.id()) {
                return Err(BrokenInvariant::CandidateWithoutOwnVote);
            }
            Ok(())
        }
        Role::Leader(leader) => {
            if last_term != common.term {
                return Err(BrokenInvariant::LeaderWithoutOwnEntry { term: common.term });
            }
            if peers_are_sound && common.vote != Some(common.id()) {
                return Err(BrokenInvariant::LeaderWithoutOwnVote { term: common.term });
            }
            // No list is made of either: this is looked at in every turn of a loop
            // whose allocations are counted.
            let followers = leader.followers();
            let is_in_order = followers.iter().is_sorted_by(|(a, _), (b, _)| a < b);
            let are_members = followers.iter().all(|(id, _)| membership.contains(id));
            let [incoming, outgoing, learners, _] = lists;
            let mut members = incoming.iter().chain(outgoing).chain(learners);
            if !is_in_order || !are_members || !members.all(|id| followers.progress(*id).is_some())
            {
                return Err(BrokenInvariant::FollowersAreNotMembers);
            }
            for (id, progress) in leader.followers().iter() {
                let (matched, next) = (progress.matched(), progress.next());
                if peers_are_sound && (matched > last || matched >= next) {
                    return Err(BrokenInvariant::Progress {
                        id,
                        matched,
                        next,
                        last,
                    });
                }
                if progress.state().inflight_messages > common.config.inflight_messages_max {
                    return Err(BrokenInvariant::InflightsOverLimit { id });
                }
                if !progress.inflights_are_sound() {
                    return Err(BrokenInvariant::InflightsOutOfOrder { id });
                }
            }
            Ok(())
        }
    }
}
