//! Messages survive the wire, as prost would have written them; nothing else
//! gets in.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;
use raft_core::{Body, Entry, HardState, LogIndex, Message, Term};
use raft_wire::proto::raftpb as pb;
use raft_wire::{
    WireError, decode_conf_state, decode_entry, decode_hard_state, decode_message,
    decode_snapshot_metadata, encode_conf_state, encode_entry, encode_hard_state, encode_message,
    encode_snapshot_metadata, encoded_message_len,
};

use crate::support::{self, node, prost_way, written};

fn message_bytes(message: &Message) -> Bytes {
    written(|out| encode_message(message, out))
}

/// Whether only this crate's decoder minds: a group, or an enum's number whose
/// upper half protobuf cuts off.
fn is_stricter_than_protobuf(error: &WireError) -> bool {
    match error {
        WireError::WrongWireType { .. } => true,
        WireError::UnknownValue { value, .. } => i32::try_from(*value).is_err(),
        _ => false,
    }
}

/// Both ways of reading say the same.
fn agree(bytes: &Bytes) -> Result<(), TestCaseError> {
    let ours = decode_message(bytes.clone());
    let prosts = prost_way::decode_message(bytes.clone());
    match (&ours, &prosts) {
        (Ok(ours), Ok(prosts)) => prop_assert_eq!(ours, prosts),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => prop_assert!(is_stricter_than_protobuf(error), "{:?}", error),
        (Ok(_), Err(_)) => prop_assert!(false, "ours {:?}, prost's {:?}", ours, prosts),
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in support::message()) {
        let bytes = message_bytes(&message);
        prop_assert_eq!(bytes.len(), encoded_message_len(&message));
        prop_assert_eq!(decode_message(bytes), Ok(message));
    }

    #[test]
    fn prost_writes_the_same_bytes(message in support::message()) {
        prop_assert_eq!(message_bytes(&message), prost_way::message(&message).encode_to_vec());
    }

    #[test]
    fn every_truncation_is_read_or_refused_as_prost_does(message in support::message()) {
        let bytes = message_bytes(&message);
        for end in 0..bytes.len() {
            agree(&bytes.slice(..end))?;
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused_as_prost_does(
        message in support::message(),
        damage in support::damage(),
    ) {
        agree(&support::damaged(&message_bytes(&message), &damage))?;
    }

    #[test]
    fn protobuf_of_any_shape_is_read_or_refused_as_prost_does(
        bytes in support::protobuf_like(),
    ) {
        agree(&bytes)?;
        // With the parts that every message needs in front of it.
        for message_type in 0..25 {
            let head = [0x08, message_type, 0x10, 1, 0x18, 2];
            agree(&Bytes::from([&head[..], &bytes].concat()))?;
        }
    }

    #[test]
    fn two_messages_in_a_row_merge_as_prost_merges_them(
        first in support::message(),
        second in support::message(),
    ) {
        agree(&Bytes::from([message_bytes(&first), message_bytes(&second)].concat()))?;
    }

    #[test]
    fn an_entry_takes_the_bytes_that_it_says(entry in support::entry_at(support::index())) {
        let bytes = written(|out| encode_entry(&entry, out));
        prop_assert_eq!(u64::try_from(bytes.len()).unwrap(), entry.encoded_len());
        prop_assert_eq!(&bytes, &prost_way::entry(&entry).encode_to_vec());
        prop_assert_eq!(decode_entry(bytes), Ok(entry));
    }

    #[test]
    fn states_survive(
        metadata in support::snapshot_metadata(),
        term in support::term(),
        commit in support::index(),
        vote in proptest::option::of(support::node_id()),
    ) {
        let bytes = written(|out| encode_snapshot_metadata(&metadata, out));
        prop_assert_eq!(&bytes, &prost_way::snapshot_metadata(&metadata).encode_to_vec());
        prop_assert_eq!(&decode_snapshot_metadata(&bytes), &Ok(metadata.clone()));

        let conf_state = metadata.conf_state;
        let bytes = written(|out| encode_conf_state(&conf_state, out));
        prop_assert_eq!(&bytes, &prost_way::conf_state(&conf_state).encode_to_vec());
        prop_assert_eq!(decode_conf_state(&bytes), Ok(conf_state));

        let hard_state = HardState { term, vote, commit };
        let bytes = written(|out| encode_hard_state(&hard_state, out));
        prop_assert_eq!(&bytes, &prost_way::hard_state(&hard_state).encode_to_vec());
        prop_assert_eq!(decode_hard_state(&bytes), Ok(hard_state));
    }

    #[test]
    fn no_bytes_make_a_reader_of_states_panic(bytes in support::protobuf_like()) {
        let _ = decode_entry(bytes.clone());
        let _ = decode_snapshot_metadata(&bytes);
        let _ = decode_conf_state(&bytes);
        let _ = decode_hard_state(&bytes);
    }

    /// etcd before 3.7 writes every number of a message, and before 3.6 an empty
    /// snapshot as well.
    #[test]
    fn zeros_written_out_change_nothing(message in support::message()) {
        let mut raw = prost_way::message(&message);
        let filled = |number: &mut Option<u64>| { number.get_or_insert(0); };
        filled(&mut raw.term);
        filled(&mut raw.log_term);
        filled(&mut raw.index);
        filled(&mut raw.commit);
        filled(&mut raw.reject_hint);
        filled(&mut raw.vote);
        raw.reject.get_or_insert(false);
        raw.context.get_or_insert_default();
        raw.snapshot.get_or_insert_with(|| Box::new(pb::Snapshot {
            data: None,
            metadata: Some(pb::SnapshotMetadata {
                conf_state: Some(pb::ConfState { auto_leave: Some(false), ..Default::default() }),
                index: Some(0),
                term: Some(0),
            }),
        }));
        prop_assert_eq!(decode_message(raw.encode_to_vec().into()), Ok(message));
    }
}

#[test]
fn payloads_share_the_memory_of_the_message() {
    let entry = Entry::normal(Term::new(1), LogIndex::new(1), Bytes::from(vec![7; 1000]));
    let bytes = message_bytes(&Message {
        to: node(1),
        from: node(2),
        term: Term::new(1),
        body: Body::Append {
            prev: raft_core::EntryId::default(),
            entries: entry.into(),
            commit: LogIndex::ZERO,
        },
    });
    let memory = bytes.as_ptr_range();
    let Body::Append { entries, .. } = decode_message(bytes).unwrap().body else {
        panic!("an append comes back as one");
    };
    let payload = entries.first().unwrap().data().as_ptr_range();
    assert!(memory.start <= payload.start && payload.end <= memory.end);
}

/// A message of this type that says nothing else than who and when.
fn bare(message_type: pb::MessageType) -> pb::Message {
    pb::Message {
        r#type: Some(message_type.into()),
        to: Some(1),
        from: Some(2),
        term: Some(3),
        ..Default::default()
    }
}

fn read(raw: &pb::Message) -> Result<Message, WireError> {
    decode_message(raw.encode_to_vec().into())
}

#[test]
fn local_messages_are_refused() {
    let local = [0, 1, 10, 11, 12, 19, 20, 21, 22];
    for number in 0..24 {
        let message_type = pb::MessageType::try_from(number).unwrap();
        let refused = WireError::LocalMessage {
            name: message_type.as_str_name(),
        };
        let is_refused = read(&bare(message_type)) == Err(refused);
        assert_eq!(is_refused, local.contains(&number), "{message_type:?}");
    }
}

#[test]
fn unknown_types_are_refused() {
    for value in [24, u64::from(u32::MAX), 1 << 32 | 3, u64::MAX] {
        let mut bytes = BytesMut::from(&[0x10, 1, 0x18, 2, 0x08][..]);
        prost::encoding::encode_varint(value, &mut bytes);
        let field = "Message.type";
        assert_eq!(
            decode_message(bytes.freeze()),
            Err(WireError::UnknownValue { field, value })
        );
    }
    let no_type = pb::Message {
        r#type: None,
        ..bare(pb::MessageType::MsgApp)
    };
    let field = "Message.type";
    assert_eq!(read(&no_type), Err(WireError::Absent { field }));

    let mut append = bare(pb::MessageType::MsgApp);
    append.entries.push(pb::Entry {
        r#type: Some(3),
        index: Some(1),
        ..Default::default()
    });
    let field = "Entry.Type";
    assert_eq!(
        read(&append),
        Err(WireError::UnknownValue { field, value: 3 })
    );
}

#[test]
fn ids_that_no_server_has_are_refused() {
    for id in [0, u64::MAX - 1, u64::MAX] {
        let heartbeat = bare(pb::MessageType::MsgHeartbeat);
        let to = pb::Message {
            to: Some(id),
            ..heartbeat.clone()
        };
        let from = pb::Message {
            from: Some(id),
            ..heartbeat
        };
        let mut voter = bare(pb::MessageType::MsgSnap);
        voter
            .snapshot
            .get_or_insert_default()
            .metadata
            .get_or_insert_default()
            .conf_state
            .get_or_insert_default()
            .voters
            .push(id);
        for (raw, field) in [
            (to, "Message.to"),
            (from, "Message.from"),
            (voter, "ConfState.voters"),
        ] {
            assert_eq!(read(&raw), Err(WireError::InvalidNodeId { field, id }));
        }
    }
}

#[test]
fn entries_that_do_not_follow_each_other_are_refused() {
    for (after, found) in [(1, 1), (1, 3), (2, 1), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        let mut append = bare(pb::MessageType::MsgApp);
        append.entries = [after, found]
            .map(|index| pb::Entry {
                term: Some(1),
                index: Some(index),
                ..Default::default()
            })
            .into();
        let (after, found) = (LogIndex::new(after), LogIndex::new(found));
        assert_eq!(
            read(&append),
            Err(WireError::EntriesNotConsecutive { after, found })
        );
    }
}

#[test]
fn messages_without_their_main_part_are_refused() {
    let field = "Message.snapshot";
    assert_eq!(
        read(&bare(pb::MessageType::MsgSnap)),
        Err(WireError::Absent { field })
    );
    for message_type in [
        pb::MessageType::MsgReadIndex,
        pb::MessageType::MsgReadIndexResp,
    ] {
        for count in [0, 2, 1000] {
            let mut raw = bare(message_type);
            raw.entries = vec![pb::Entry::default(); count];
            assert_eq!(read(&raw), Err(WireError::WrongEntryCount { count }));
        }
    }
}

#[test]
fn messages_within_messages_are_refused() {
    // Deeper than prost itself goes.
    let mut bytes = vec![];
    for _ in 0..10_000 {
        let mut outer = vec![0x72];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.append(&mut bytes);
        bytes = outer;
    }
    let field = "Message.responses";
    assert_eq!(
        decode_message(bytes.into()),
        Err(WireError::Unexpected { field })
    );
}

#[test]
fn errors_say_where_and_what_to_do() {
    let cut = decode_message(Bytes::from_static(&[0x08]));
    assert_eq!(cut, Err(WireError::Truncated { inside: "Message" }));
    let long = decode_message(Bytes::from_static(&[
        0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ]));
    assert_eq!(long, Err(WireError::Malformed { inside: "Message" }));
    let in_entry = decode_message(Bytes::from_static(&[0x08, 3, 0x3a, 2, 0x22, 9]));
    assert_eq!(in_entry, Err(WireError::Truncated { inside: "Entry" }));
    let wrong = decode_message(Bytes::from_static(&[0x0a, 0]));
    let wrong_type = WireError::WrongWireType {
        inside: "Message",
        number: 1,
    };
    assert_eq!(wrong, Err(wrong_type));
    assert_eq!(
        wrong_type.to_string(),
        "field 1 of a Message has the wrong wire type; check what the peer runs"
    );
}
