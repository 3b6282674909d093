//! # Membership
//!
//! From what a user wants of the members to the change that brings it about, or
//! to why it cannot be. What is refused here is refused by the loop that knows
//! the configuration, not by the core, which would make nothing of it in
//! silence.
//!
//! Addresses travel in the context of the change that adds a server, or moves it,
//! so every replica learns them with the entry, and whoever gets a snapshot instead
//! with that (`configuration.rs`).
//!
//! - Owns: nothing.
//! - Source: thesis §4.2 to §4.4.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::{
    ConfChange, ConfChangeError, ConfChangeRefusal, ConfChangeSingle, ConfChangeType, Membership,
    NodeId,
};

use crate::address_book::{AddressBook, NotListed};
use crate::error::ChangeMembershipError;

/// What a user wants of the members.
#[derive(Clone, Debug)]
pub(super) enum MembershipGoal {
    /// Exactly this change.
    Change(ConfChange),
    /// A member is reached at the address from now on.
    Move { id: NodeId, address: String },
    /// A server listens, and is reached at the address.
    AddLearner { id: NodeId, address: Option<String> },
    /// Those of these that are no members listen.
    AddMissingLearners { ids: Vec<NodeId> },
    /// A learner votes.
    Promote { id: NodeId },
    /// A server leaves.
    Remove { id: NodeId },
    /// A learner votes in the place of a voter that leaves, in one step.
    Replace { old: NodeId, new: NodeId },
    /// These vote, who are members already, those listen, everybody else leaves.
    Set {
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    },
}

/// The change to propose; `None` if the goal is reached.
pub(super) fn plan(
    now: &Membership,
    addresses: &AddressBook,
    goal: MembershipGoal,
) -> Result<Option<ConfChange>, ChangeMembershipError> {
    if let MembershipGoal::Change(change) = goal {
        return Ok(Some(change));
    }
    if now.is_joint() {
        return Err(ConfChangeRefusal::MustLeaveJoint.into());
    }
    let votes = |id: NodeId| now.voters().contains(id);
    let single = |change_type, id| Ok(Some(ConfChange::single(change_type, id)));
    match goal {
        MembershipGoal::Change(change) => Ok(Some(change)),
        // To add a voter as a learner would take its vote away.
        MembershipGoal::AddLearner { id, .. } if now.contains(id) => {
            Err(ChangeMembershipError::AlreadyMember { id })
        }
        MembershipGoal::AddLearner { id, address } => {
            let mut change = ConfChange::single(ConfChangeType::AddLearnerNode, id);
            if let Some(address) = address {
                change.context = context(addresses, id, &address)?;
            }
            Ok(Some(change))
        }
        MembershipGoal::AddMissingLearners { ids } => {
            let missing = ids.into_iter().filter(|id| !now.contains(*id));
            Ok(several(missing.map(|id| {
                ConfChangeSingle::new(ConfChangeType::AddLearnerNode, id)
            })))
        }
        MembershipGoal::Promote { id } if votes(id) => {
            Err(ChangeMembershipError::AlreadyVoter { id })
        }
        MembershipGoal::Move { id, .. }
        | MembershipGoal::Promote { id }
        | MembershipGoal::Remove { id }
        | MembershipGoal::Replace { old: id, .. }
        | MembershipGoal::Replace { new: id, .. }
            if !now.contains(id) =>
        {
            Err(ChangeMembershipError::NotMember { id })
        }
        MembershipGoal::Move { id, address } if addresses.get(id) == Some(&address) => Ok(None),
        MembershipGoal::Move { id, address } => Ok(Some(ConfChange {
            context: context(addresses, id, &address)?,
            ..ConfChange::single(ConfChangeType::UpdateNode, id)
        })),
        MembershipGoal::Promote { id } => single(ConfChangeType::AddNode, id),
        MembershipGoal::Remove { id } => single(ConfChangeType::RemoveNode, id),
        MembershipGoal::Replace { new, .. } if !now.contains(new) => {
            Err(ChangeMembershipError::NotMember { id: new })
        }
        MembershipGoal::Replace { new, .. } if votes(new) => {
            Err(ChangeMembershipError::AlreadyVoter { id: new })
        }
        MembershipGoal::Replace { old, new } => Ok(several([
            ConfChangeSingle::new(ConfChangeType::AddNode, new),
            ConfChangeSingle::new(ConfChangeType::RemoveNode, old),
        ])),
        MembershipGoal::Set { voters, learners } => plan_set(now, &voters, &learners),
    }
}

fn plan_set(
    now: &Membership,
    voters: &[NodeId],
    learners: &[NodeId],
) -> Result<Option<ConfChange>, ChangeMembershipError> {
    if voters.is_empty() {
        return Err(ConfChangeError::NoVotersLeft.into());
    }
    if let Some(id) = voters.iter().find(|id| learners.contains(id)) {
        return Err(ChangeMembershipError::VoterAndLearner { id: *id });
    }
    let mut changes = Vec::new();
    for id in voters {
        // Only whoever has the log gets a vote, and only members get the log.
        if !now.contains(*id) {
            return Err(ChangeMembershipError::NotMember { id: *id });
        }
        if !now.voters().contains(*id) {
            changes.push(ConfChangeSingle::new(ConfChangeType::AddNode, *id));
        }
    }
    for id in learners {
        if !now.is_learner(*id) {
            changes.push(ConfChangeSingle::new(ConfChangeType::AddLearnerNode, *id));
        }
    }
    for id in now.ids() {
        if !voters.contains(&id) && !learners.contains(&id) {
            changes.push(ConfChangeSingle::new(ConfChangeType::RemoveNode, id));
        }
    }
    Ok(several(changes))
}

/// One change goes directly, several go through a joint configuration that the
/// leader leaves on its own.
fn several(changes: impl IntoIterator<Item = ConfChangeSingle>) -> Option<ConfChange> {
    let changes: Vec<_> = changes.into_iter().collect();
    (!changes.is_empty()).then(|| ConfChange {
        changes,
        ..ConfChange::default()
    })
}

/// What tells our contexts from those of users.
const ADDRESS_MARK: &[u8] = b"raft-tokio address\0";

/// The context of a change that says where a member is reached.
fn context(
    addresses: &AddressBook,
    id: NodeId,
    address: &str,
) -> Result<Bytes, ChangeMembershipError> {
    match addresses.clone().set(id, address) {
        Ok(()) => Ok(encode_address(id, address)),
        Err(NotListed::Address) => Err(ChangeMembershipError::BadAddress { id }),
        Err(NotListed::Full) => Err(ChangeMembershipError::TooManyAddresses { id }),
    }
}

pub(super) fn encode_address(id: NodeId, address: &str) -> Bytes {
    let len = u16::try_from(address.len()).unwrap_or(u16::MAX);
    let mut out = BytesMut::with_capacity(ADDRESS_MARK.len() + 10 + address.len());
    out.put_slice(ADDRESS_MARK);
    out.put_u64_le(id.get());
    out.put_u16_le(len);
    out.put_slice(address.as_bytes());
    out.freeze()
}

/// The server and the address in a change's context, if it has one.
pub(super) fn decode_address(context: &[u8]) -> Option<(NodeId, &str)> {
    let mut rest = context.strip_prefix(ADDRESS_MARK)?;
    let id = NodeId::new(rest.try_get_u64_le().ok()?)?;
    let len = usize::from(rest.try_get_u16_le().ok()?);
    if rest.len() != len {
        return None;
    }
    Some((id, std::str::from_utf8(rest).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::ConfState;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(id).collect()
    }

    /// Voters 1 to 3, learner 4.
    fn membership() -> Membership {
        Membership::restore(&ConfState {
            learners: ids(&[4]),
            ..ConfState::of_voters(ids(&[1, 2, 3]))
        })
        .unwrap()
    }

    fn after(goal: MembershipGoal) -> ConfState {
        let now = membership();
        let change = plan(&now, &AddressBook::default(), goal).unwrap().unwrap();
        let mut next = now.changed(&change).unwrap().membership;
        if next.is_joint() {
            assert!(next.auto_leave());
            next = next.leave_joint().unwrap().membership;
        }
        next.conf_state()
    }

    #[test]
    fn what_would_change_nothing_or_the_wrong_thing_is_refused() {
        let refused = [
            (
                MembershipGoal::AddLearner {
                    id: id(1),
                    address: None,
                },
                ChangeMembershipError::AlreadyMember { id: id(1) },
            ),
            (
                MembershipGoal::AddLearner {
                    id: id(9),
                    address: Some("x".repeat(513)),
                },
                ChangeMembershipError::BadAddress { id: id(9) },
            ),
            (
                MembershipGoal::Move {
                    id: id(1),
                    address: String::new(),
                },
                ChangeMembershipError::BadAddress { id: id(1) },
            ),
            (
                MembershipGoal::Move {
                    id: id(9),
                    address: "there".to_owned(),
                },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Promote { id: id(2) },
                ChangeMembershipError::AlreadyVoter { id: id(2) },
            ),
            (
                MembershipGoal::Promote { id: id(9) },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Remove { id: id(9) },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Replace {
                    old: id(9),
                    new: id(4),
                },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Replace {
                    old: id(1),
                    new: id(9),
                },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Replace {
                    old: id(1),
                    new: id(2),
                },
                ChangeMembershipError::AlreadyVoter { id: id(2) },
            ),
            (
                MembershipGoal::Set {
                    voters: ids(&[1, 2]),
                    learners: ids(&[2]),
                },
                ChangeMembershipError::VoterAndLearner { id: id(2) },
            ),
            (
                // Somebody removed the learner while it caught up.
                MembershipGoal::Set {
                    voters: ids(&[3, 4, 9]),
                    learners: Vec::new(),
                },
                ChangeMembershipError::NotMember { id: id(9) },
            ),
            (
                MembershipGoal::Set {
                    voters: Vec::new(),
                    learners: ids(&[2]),
                },
                ConfChangeError::NoVotersLeft.into(),
            ),
        ];
        let no_addresses = AddressBook::default();
        for (goal, error) in refused {
            assert_eq!(plan(&membership(), &no_addresses, goal), Err(error));
        }
    }

    #[test]
    fn goals_lead_where_they_say() {
        let promoted = after(MembershipGoal::Promote { id: id(4) });
        assert_eq!(promoted.voters, ids(&[1, 2, 3, 4]));
        let replaced = after(MembershipGoal::Replace {
            old: id(1),
            new: id(4),
        });
        assert_eq!(replaced.voters, ids(&[2, 3, 4]));
        assert_eq!(replaced.learners, ids(&[]));
        let set = after(MembershipGoal::Set {
            voters: ids(&[3, 4]),
            learners: ids(&[1, 5]),
        });
        assert_eq!((set.voters, set.learners), (ids(&[3, 4]), ids(&[1, 5])));
        let same = MembershipGoal::Set {
            voters: ids(&[3, 2, 1]),
            learners: ids(&[4]),
        };
        let no_addresses = AddressBook::default();
        assert_eq!(plan(&membership(), &no_addresses, same), Ok(None));
    }

    #[test]
    fn an_address_comes_back_and_nothing_else_is_one() {
        let context = encode_address(id(7), "10.0.0.7:7000");
        assert_eq!(decode_address(&context), Some((id(7), "10.0.0.7:7000")));
        assert_eq!(decode_address(&context[..context.len() - 1]), None);
        assert_eq!(decode_address(b"a user's own context"), None);
    }
}
