//! # The look at the invariants
//!
//! Every invariant of a node, executable: tests, simulation and fuzzing look
//! after each step. What a type makes impossible is not looked at.
//!
//! - Owns: nothing.

use crate::invariant::BrokenInvariant;
use crate::raft::Raft;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{Round, Term};

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
    let is_protected = common.config.is_protected();
    if is_protected && last_term > common.term && common.term > Term::ZERO {
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
            if is_protected && common.vote != Some(common.id()) {
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
                if is_protected && (matched > last || matched >= next) {
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

#[cfg(test)]
mod tests;
