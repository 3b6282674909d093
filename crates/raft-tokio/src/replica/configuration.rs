//! # The configuration
//!
//! Who the members are and where they are reached, as of one place in the log.
//! The protocol knows the former; the latter is of this runtime, and goes the same
//! way: it comes with a snapshot, and changes with the entries that change the
//! members.
//!
//! - Owns: nothing; a value. The loop's host has the one at what was handed out,
//!   the state machine's task the one at what is applied.
//! - Source: Raft §6; etcd `membership.RaftCluster`.

use raft_core::{ConfChange, ConfState, NodeId, Snapshot};

use super::membership;
use crate::address_book::AddressBook;
use crate::snapshot::{MalformedManifest, SnapshotManifest};

/// The members, and where they are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) conf_state: ConfState,
    pub(super) addresses: AddressBook,
}

impl Configuration {
    /// The one in a snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, MalformedManifest> {
        Ok(Self {
            conf_state: snapshot.metadata.conf_state.clone(),
            addresses: SnapshotManifest::of(snapshot)?.addresses,
        })
    }

    /// The next one, where `change` has led to these members. Whoever left has no
    /// address any more.
    pub(super) fn after(&self, change: &ConfChange, conf_state: ConfState) -> Self {
        let mut addresses = self.addresses.clone();
        addresses.retain(|id| conf_state.contains(id));
        if let Some((id, address)) = membership::decode_address(&change.context)
            && conf_state.contains(id)
        {
            // What is not taken is taken nowhere; a leader of this version proposes
            // none such.
            let _ = addresses.set(id, address);
        }
        Self {
            conf_state,
            addresses,
        }
    }

    /// The members, each once or twice.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        let conf_state = &self.conf_state;
        let lists = [
            &conf_state.voters,
            &conf_state.learners,
            &conf_state.voters_outgoing,
        ];
        lists.into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::{ConfChangeType, Membership};

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn voters(numbers: &[u64]) -> ConfState {
        ConfState::of_voters(numbers.iter().copied().map(id))
    }

    fn with_address(change_type: ConfChangeType, number: u64, address: &str) -> ConfChange {
        ConfChange {
            context: membership::encode_address(id(number), address),
            ..ConfChange::single(change_type, id(number))
        }
    }

    #[test]
    fn an_address_comes_with_its_member_moves_with_it_and_leaves_with_it() {
        let first = Configuration {
            conf_state: voters(&[1, 2]),
            ..Configuration::default()
        };
        let add = with_address(ConfChangeType::AddNode, 3, "there");
        let added = first.after(&add, voters(&[1, 2, 3]));
        assert_eq!(added.addresses.get(id(3)), Some("there"));
        let update = with_address(ConfChangeType::UpdateNode, 3, "elsewhere");
        let moved = added.after(&update, voters(&[1, 2, 3]));
        assert_eq!(moved.addresses.get(id(3)), Some("elsewhere"));
        let remove = ConfChange::single(ConfChangeType::RemoveNode, id(3));
        let removed = moved.after(&remove, voters(&[1, 2]));
        assert_eq!(removed, first);
        // Nobody has the address of somebody who is no member.
        let moved = removed.after(&update, voters(&[1, 2]));
        assert!(moved.addresses.is_empty());
    }

    #[test]
    fn who_leaves_through_a_joint_configuration_is_reached_until_it_is_left() {
        let members = Membership::restore(&voters(&[1, 2, 3])).unwrap();
        let configuration = Configuration {
            conf_state: members.conf_state(),
            ..Configuration::default()
        };
        let update = with_address(ConfChangeType::UpdateNode, 3, "there");
        let configuration = configuration.after(&update, members.conf_state());
        let change = ConfChange {
            changes: [
                (ConfChangeType::AddNode, 4),
                (ConfChangeType::RemoveNode, 3),
            ]
            .map(|(kind, number)| raft_core::ConfChangeSingle::new(kind, id(number)))
            .into(),
            ..ConfChange::default()
        };
        let joint = members.changed(&change).unwrap().membership;
        let configuration = configuration.after(&change, joint.conf_state());
        assert_eq!(configuration.addresses.get(id(3)), Some("there"));
        assert!(configuration.ids().any(|member| member == id(3)));
        let left = joint.leave_joint().unwrap().membership;
        let leave = ConfChange::leave_joint();
        let configuration = configuration.after(&leave, left.conf_state());
        assert!(configuration.addresses.is_empty());
        assert!(!configuration.ids().any(|member| member == id(3)));
    }
}
