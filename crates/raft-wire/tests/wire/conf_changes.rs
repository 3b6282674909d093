//! raft-core reads and writes configuration changes without protobuf's help.
//! Here protobuf checks it.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use raft_core::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV1, EntryType,
    MalformedConfChange, NodeId, Proposal,
};
use raft_wire::proto::raftpb as pb;

use crate::support;

fn change_type() -> impl Strategy<Value = ConfChangeType> {
    prop_oneof![
        Just(ConfChangeType::AddNode),
        Just(ConfChangeType::RemoveNode),
        Just(ConfChangeType::UpdateNode),
        Just(ConfChangeType::AddLearnerNode),
    ]
}

fn single() -> impl Strategy<Value = ConfChangeSingle> {
    (change_type(), option::of(support::node_id())).prop_map(|(change_type, node_id)| {
        ConfChangeSingle {
            change_type,
            node_id,
        }
    })
}

fn conf_change() -> impl Strategy<Value = ConfChange> {
    let transition = prop_oneof![
        Just(ConfChangeTransition::Auto),
        Just(ConfChangeTransition::JointImplicit),
        Just(ConfChangeTransition::JointExplicit),
    ];
    (transition, vec(single(), 0..5), support::payload()).prop_map(
        |(transition, changes, context)| ConfChange {
            transition,
            changes,
            context,
        },
    )
}

fn conf_change_v1() -> impl Strategy<Value = ConfChangeV1> {
    (support::number(), single(), support::payload()).prop_map(|(id, change, context)| {
        ConfChangeV1 {
            id,
            change,
            context,
        }
    })
}

fn type_number(change_type: ConfChangeType) -> i32 {
    match change_type {
        ConfChangeType::AddNode => 0,
        ConfChangeType::RemoveNode => 1,
        ConfChangeType::UpdateNode => 2,
        ConfChangeType::AddLearnerNode => 3,
    }
}

fn read_type(number: i32) -> Option<ConfChangeType> {
    Some(match number {
        0 => ConfChangeType::AddNode,
        1 => ConfChangeType::RemoveNode,
        2 => ConfChangeType::UpdateNode,
        3 => ConfChangeType::AddLearnerNode,
        _ => return None,
    })
}

fn transition_number(transition: ConfChangeTransition) -> i32 {
    match transition {
        ConfChangeTransition::Auto => 0,
        ConfChangeTransition::JointImplicit => 1,
        ConfChangeTransition::JointExplicit => 2,
    }
}

fn raw_single(change: &ConfChangeSingle) -> pb::ConfChangeSingle {
    pb::ConfChangeSingle {
        r#type: Some(type_number(change.change_type)),
        node_id: Some(change.node_id.map_or(0, NodeId::get)),
    }
}

fn raw(change: &ConfChange) -> pb::ConfChangeV2 {
    pb::ConfChangeV2 {
        transition: Some(transition_number(change.transition)),
        changes: change.changes.iter().map(raw_single).collect(),
        context: Some(change.context.clone()).filter(|context| !context.is_empty()),
    }
}

fn raw_v1(v1: &ConfChangeV1) -> pb::ConfChange {
    let single = raw_single(&v1.change);
    pb::ConfChange {
        id: Some(v1.id).filter(|id| *id != 0),
        r#type: single.r#type,
        node_id: single.node_id,
        context: Some(v1.context.clone()).filter(|context| !context.is_empty()),
    }
}

fn read_single(change_type: i32, node_id: u64) -> Option<ConfChangeSingle> {
    Some(ConfChangeSingle {
        change_type: read_type(change_type)?,
        node_id: match node_id {
            0 => None,
            id => Some(NodeId::new(id)?),
        },
    })
}

/// What the bytes of an entry of this type mean on prost's way.
fn prosts(entry_type: EntryType, data: &Bytes) -> Option<ConfChange> {
    if entry_type == EntryType::ConfChange {
        let raw = pb::ConfChange::decode(data.clone()).ok()?;
        let change = read_single(raw.r#type.unwrap_or(0), raw.node_id())?;
        return Some(ConfChange {
            transition: ConfChangeTransition::Auto,
            changes: vec![change],
            context: raw.context().to_vec().into(),
        });
    }
    let raw = pb::ConfChangeV2::decode(data.clone()).ok()?;
    let changes = raw.changes.iter();
    Some(ConfChange {
        transition: match raw.transition.unwrap_or(0) {
            0 => ConfChangeTransition::Auto,
            1 => ConfChangeTransition::JointImplicit,
            2 => ConfChangeTransition::JointExplicit,
            _ => return None,
        },
        changes: changes
            .map(|change| read_single(change.r#type.unwrap_or(0), change.node_id()))
            .collect::<Option<_>>()?,
        context: raw.context().to_vec().into(),
    })
}

/// raft-core minds what protobuf does not: groups, and the upper half of an
/// enum's number. It also judges every transition where several are given, of
/// which only the last counts.
fn is_stricter_than_protobuf(error: MalformedConfChange) -> bool {
    match error {
        MalformedConfChange::UnknownType(number) => i32::try_from(number).is_err(),
        MalformedConfChange::WrongKind { .. } | MalformedConfChange::UnknownTransition(_) => true,
        _ => false,
    }
}

fn agree(data: &Bytes) -> Result<(), TestCaseError> {
    for entry_type in [EntryType::ConfChange, EntryType::ConfChangeV2] {
        let proposal = Proposal {
            entry_type,
            data: data.clone(),
        };
        match (proposal.conf_change(), prosts(entry_type, data)) {
            (Ok(ours), prosts) => prop_assert_eq!(ours, prosts),
            (Err(_), None) => {}
            (Err(error), Some(_)) => {
                prop_assert!(is_stricter_than_protobuf(error), "{:?}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn changes_are_written_as_prost_writes_them(change in conf_change()) {
        let proposal = change.to_proposal();
        prop_assert_eq!(proposal.entry_type, EntryType::ConfChangeV2);
        prop_assert_eq!(&proposal.data, &raw(&change).encode_to_vec());
        prop_assert_eq!(prosts(EntryType::ConfChangeV2, &proposal.data), Some(change.clone()));
        prop_assert_eq!(proposal.conf_change(), Ok(Some(change)));
    }

    #[test]
    fn changes_in_the_first_format_are_written_as_prost_writes_them(v1 in conf_change_v1()) {
        let proposal = v1.to_proposal();
        prop_assert_eq!(proposal.entry_type, EntryType::ConfChange);
        prop_assert_eq!(&proposal.data, &raw_v1(&v1).encode_to_vec());
        let change = ConfChange::from(v1);
        prop_assert_eq!(prosts(EntryType::ConfChange, &proposal.data), Some(change.clone()));
        prop_assert_eq!(proposal.conf_change(), Ok(Some(change)));
    }

    #[test]
    fn damaged_changes_are_read_or_refused_as_prost_does(
        change in conf_change(),
        v1 in conf_change_v1(),
        damage in support::damage(),
    ) {
        agree(&support::damaged(&change.to_proposal().data, &damage))?;
        agree(&support::damaged(&v1.to_proposal().data, &damage))?;
    }

    #[test]
    fn protobuf_of_any_shape_is_read_or_refused_as_prost_does(
        data in support::protobuf_like(),
    ) {
        agree(&data)?;
    }
}
