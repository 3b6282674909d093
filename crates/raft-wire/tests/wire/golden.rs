//! Bytes written by hand from `proto/`, so that encoder and decoder cannot be
//! wrong in the same way.

use bytes::{Bytes, BytesMut};
use raft_core::{
    AppendResponse, Body, ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex,
    Message, Proposal, Round, Snapshot, SnapshotMetadata, Term,
};
use raft_wire::frame::{Frame, FrameLimits, Packet, RequestKind, encode_packet, try_decode_frame};
use raft_wire::{decode_hard_state, decode_message, encode_hard_state, encode_message};

use crate::support::{node, written};

/// Checks both directions for a message to node 1 from node 2.
fn assert_bytes(term: u64, body: Body, golden: &[&[u8]]) {
    let message = Message {
        to: node(1),
        from: node(2),
        term: Term::new(term),
        body,
    };
    let golden = Bytes::from(golden.concat());
    assert_eq!(written(|out| encode_message(&message, out)), golden);
    assert_eq!(decode_message(golden), Ok(message));
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), LogIndex::new(index))
}

#[test]
fn append() {
    let entries = Entries::from_batch(vec![
        Entry::normal(Term::new(2), LogIndex::new(5), Bytes::from_static(b"x")),
        Entry::refused_conf_change(Term::new(2), LogIndex::new(6)),
    ])
    .unwrap();
    assert_bytes(
        2,
        Body::Append {
            prev: id(1, 4),
            entries,
            commit: LogIndex::new(300),
        },
        &[
            &[0x08, 3, 0x10, 1, 0x18, 2, 0x20, 2, 0x28, 1, 0x30, 4],
            &[0x3a, 7, 0x10, 2, 0x18, 5, 0x22, 1, b'x'],
            &[0x3a, 6, 0x08, 0, 0x10, 2, 0x18, 6],
            &[0x40, 0xac, 0x02],
        ],
    );
}

#[test]
fn append_of_nothing_at_the_beginning() {
    assert_bytes(
        1,
        Body::Append {
            prev: EntryId::default(),
            entries: Entries::new(),
            commit: LogIndex::ZERO,
        },
        &[&[
            0x08, 3, 0x10, 1, 0x18, 2, 0x20, 1, 0x28, 0, 0x30, 0, 0x40, 0,
        ]],
    );
}

#[test]
fn append_response() {
    assert_bytes(
        3,
        Body::AppendResponse(AppendResponse::Rejected {
            at: LogIndex::new(9),
            hint: id(2, 4),
        }),
        &[&[
            0x08, 4, 0x10, 1, 0x18, 2, 0x20, 3, 0x28, 2, 0x30, 9, 0x50, 1, 0x58, 4,
        ]],
    );
    assert_bytes(
        3,
        Body::AppendResponse(AppendResponse::Accepted {
            matched: LogIndex::new(128),
        }),
        &[&[0x08, 4, 0x10, 1, 0x18, 2, 0x20, 3, 0x30, 0x80, 1]],
    );
}

#[test]
fn vote_after_a_transfer() {
    assert_bytes(
        7,
        Body::RequestVote {
            round: Round::Vote,
            last: id(6, 128),
            transfer: true,
        },
        &[
            &[0x08, 5, 0x10, 1, 0x18, 2, 0x20, 7, 0x28, 6, 0x30, 0x80, 1],
            &[0x62, 16],
            b"CampaignTransfer",
        ],
    );
}

#[test]
fn snapshot() {
    let conf_state = ConfState {
        voters: vec![node(1), node(2)],
        learners: vec![node(3)],
        ..ConfState::default()
    };
    let metadata = SnapshotMetadata {
        index: LogIndex::new(10),
        term: Term::new(3),
        conf_state,
    };
    assert_bytes(
        3,
        Body::Snapshot(Box::new(Snapshot {
            metadata,
            data: Bytes::from_static(b"s"),
        })),
        &[
            &[0x08, 7, 0x10, 1, 0x18, 2, 0x20, 3],
            &[0x4a, 19, 0x0a, 1, b's', 0x12, 14],
            &[0x0a, 8, 0x08, 1, 0x08, 2, 0x10, 3, 0x28, 0],
            &[0x10, 10, 0x18, 3],
        ],
    );
}

#[test]
fn heartbeat() {
    assert_bytes(
        5,
        Body::Heartbeat {
            commit: LogIndex::new(300),
            context: Bytes::from_static(b"ctx"),
        },
        &[
            &[0x08, 8, 0x10, 1, 0x18, 2, 0x20, 5, 0x40, 0xac, 0x02],
            &[0x62, 3, b'c', b't', b'x'],
        ],
    );
}

#[test]
fn forwarded_proposal_and_read_have_no_term() {
    let conf_change = Proposal {
        entry_type: EntryType::ConfChangeV2,
        data: Bytes::new(),
    };
    assert_bytes(
        0,
        Body::Propose {
            proposals: vec![Proposal::normal(Bytes::from_static(b"a")), conf_change],
        },
        &[
            &[0x08, 2, 0x10, 1, 0x18, 2],
            &[0x3a, 3, 0x22, 1, b'a', 0x3a, 2, 0x08, 2],
        ],
    );
    assert_bytes(
        0,
        Body::ReadIndex {
            context: Bytes::from_static(b"r"),
        },
        &[&[0x08, 15, 0x10, 1, 0x18, 2, 0x3a, 3, 0x22, 1, b'r']],
    );
}

#[test]
fn hard_state() {
    let golden = [0x08, 1, 0x10, 0, 0x18, 0xac, 0x02];
    let state = HardState {
        term: Term::new(1),
        vote: None,
        commit: LogIndex::new(300),
    };
    assert_eq!(written(|out| encode_hard_state(&state, out)), &golden[..]);
    assert_eq!(decode_hard_state(&golden), Ok(state));
}

#[test]
fn packed_members_are_read() {
    // The voters packed, the learners one by one.
    let packed = [0x0a, 3, 1, 0xac, 0x02, 0x10, 7];
    let read = raft_wire::decode_conf_state(&packed).unwrap();
    assert_eq!(read.voters, [node(1), node(300)]);
    assert_eq!(read.learners, [node(7)]);
}

#[test]
fn frame() {
    let packet = Packet::Request {
        id: 1,
        kind: RequestKind::Propose,
        payload: Bytes::from_static(b"p"),
    };
    let golden = [
        12, 0, 0, 0, 2, 0xdd, 0xc8, 0x8c, 0x88, 0x08, 1, 0x10, 1, 0x1a, 1, b'p',
    ];
    let mut out = BytesMut::new();
    encode_packet(&packet, &mut out).unwrap();
    assert_eq!(out, &golden[..]);
    let read = try_decode_frame(&mut out, &FrameLimits::default());
    assert_eq!(read, Ok(Some(Frame::Packet(packet))));
}
