//! # Operations on messages as bytes

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use raft_core::{AppendResponse, Body, Entries, Entry, EntryId, LogIndex, Message, NodeId, Term};
use raft_wire::frame::{FrameLimits, Packet, encode_packet, try_decode_frame};

fn packet(body: Body) -> Packet {
    Packet::Raft {
        group: 1,
        message: Message {
            to: NodeId::new(2).expect("a node id"),
            from: NodeId::new(1).expect("a node id"),
            term: Term::new(3),
            body,
        },
    }
}

/// An append as a leader sends it to a follower that has everything before.
///
/// # Panics
/// If there are more entries than an append can have.
pub fn append_packet(count: u64, payload_bytes: usize) -> Packet {
    let payload = Bytes::from(vec![7; payload_bytes]);
    let entries = (100_000..100_000 + count)
        .map(|index| Entry::normal(Term::new(3), LogIndex::new(index), payload.clone()))
        .collect();
    packet(Body::Append {
        prev: EntryId::new(Term::new(3), LogIndex::new(99_999)),
        entries: Entries::from_batch(entries).expect("consecutive"),
        commit: LogIndex::new(99_000),
    })
}

/// What a follower answers to an append.
pub fn acknowledgement_packet() -> Packet {
    packet(Body::AppendResponse(AppendResponse::Accepted {
        matched: LogIndex::new(100_000),
    }))
}

pub(super) fn encode(times: u32, packet: &Packet) {
    let mut out = BytesMut::with_capacity(1 << 20);
    for _ in 0..times {
        out.clear();
        encode_packet(black_box(packet), &mut out).expect("it fits a frame");
        black_box(&out);
    }
}

pub(super) fn decode(times: u32, packet: &Packet) {
    let limits = FrameLimits::default();
    let mut encoded = BytesMut::new();
    encode_packet(packet, &mut encoded).expect("it fits a frame");
    for _ in 0..times {
        let mut received = BytesMut::from(&encoded[..]);
        let frame = try_decode_frame(black_box(&mut received), &limits).expect("a frame");
        assert!(frame.is_some(), "the frame is whole");
    }
}
