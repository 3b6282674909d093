//! A Ready that is filled in again says what a new one would say, and nothing of
//! what the one before it said.

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Body, ConfState, Config, Entries, Entry, EntryId, LogIndex, MemoryStorage,
    Message, NodeId, RawNode, Ready, ReadyError, Term,
};

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn follower() -> RawNode<MemoryStorage> {
    let voters = ConfState::of_voters((1..=3).map(id));
    RawNode::new(
        Config::protected(id(1)),
        MemoryStorage::with_conf_state(voters),
    )
    .unwrap()
}

fn from_leader(body: Body) -> Message {
    Message {
        to: id(1),
        from: id(2),
        term: Term::new(1),
        body,
    }
}

fn append(index: u64, commit: u64) -> Message {
    let prev_term = Term::new(u64::from(index > 1));
    let data = Bytes::from(vec![7; 16]);
    from_leader(Body::Append {
        prev: EntryId::new(prev_term, LogIndex::new(index - 1)),
        entries: Entries::from(Entry::normal(Term::new(1), LogIndex::new(index), data)),
        commit: LogIndex::new(commit),
    })
}

fn heartbeat() -> Message {
    from_leader(Body::Heartbeat {
        commit: LogIndex::ZERO,
        context: Bytes::new(),
    })
}

fn assert_same(filled_in: &Ready, new: &Ready) {
    assert_eq!(filled_in.soft_state, new.soft_state);
    assert_eq!(filled_in.read_states, new.read_states);
    assert_eq!(filled_in.messages, new.messages);
    assert_eq!(filled_in.must_sync, new.must_sync);
    assert_eq!(filled_in.append.is_some(), new.append.is_some());
    assert_eq!(filled_in.hard_state(), new.hard_state());
    assert_eq!(filled_in.entries(), new.entries());
    assert_eq!(filled_in.committed_entries(), new.committed_entries());
    assert_eq!(responses(filled_in), responses(new));
}

fn responses(ready: &Ready) -> Vec<&Message> {
    let outcomes = ready.append.iter().flat_map(|append| &append.responses);
    outcomes
        .map(|outcome| match outcome {
            AppendOutcome::Send(message) => message,
            AppendOutcome::Receipt(_) => panic!("no receipts in synchronous use"),
        })
        .collect()
}

fn carry_out(node: &mut RawNode<MemoryStorage>, ready: &Ready) {
    node.storage_mut().append(ready.entries()).unwrap();
    if let Some(hard_state) = ready.hard_state() {
        node.storage_mut().set_hard_state(hard_state);
    }
    node.advance().unwrap();
}

#[test]
fn a_ready_filled_in_again_says_what_a_new_one_would() {
    let (mut one, mut other) = (follower(), follower());
    let mut filled_in = Ready::default();
    let script = [
        vec![append(1, 0), append(2, 1)],
        vec![heartbeat()],
        vec![append(3, 3), heartbeat()],
        vec![heartbeat(), heartbeat()],
        vec![append(4, 3)],
    ];
    for messages in script {
        for message in messages {
            one.step(message.clone()).unwrap();
            other.step(message).unwrap();
        }
        // Nothing is taken out of the lists, so what is left would be seen.
        one.ready_into(&mut filled_in).unwrap();
        let new = other.ready().unwrap();
        assert_same(&filled_in, &new);
        carry_out(&mut one, &filled_in);
        carry_out(&mut other, &new);
        one.check().unwrap();
    }
    assert_eq!(one.applied_index(), LogIndex::new(3));
}

#[test]
fn a_message_stepped_where_it_lies_does_what_a_moved_one_does_and_is_emptied() {
    let (mut one, mut other) = (follower(), follower());
    for mut message in [append(1, 0), heartbeat(), append(2, 1), append(9, 1)] {
        one.step(message.clone()).unwrap();
        other.step_in_place(&mut message).unwrap();
        if let Body::Append { entries, .. } = &message.body {
            assert!(entries.is_empty(), "what is kept is taken out");
        }
        let (moved, in_place) = (one.ready().unwrap(), other.ready().unwrap());
        assert_same(&in_place, &moved);
        carry_out(&mut one, &moved);
        carry_out(&mut other, &in_place);
    }
    assert_eq!(other.last_index(), LogIndex::new(2));
    // Refused, it has changed nothing.
    let mut stray = append(3, 1);
    stray.to = id(3);
    other.step_in_place(&mut stray).unwrap_err();
    assert!(!other.has_ready());
}

#[test]
fn a_ready_is_left_as_it_is_while_another_is_outstanding() {
    let mut node = follower();
    node.step(append(1, 0)).unwrap();
    let mut ready = Ready::default();
    node.ready_into(&mut ready).unwrap();
    node.step(append(2, 1)).unwrap();
    let refused = node.ready_into(&mut ready);
    assert!(matches!(refused, Err(ReadyError::Outstanding)));
    assert_eq!(ready.entries().count(), 1);
    assert_eq!(responses(&ready).len(), 1);
}
