//! Frames survive any way of cutting a stream into pieces; damaged ones do not
//! get through.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use raft_core::{Body, Message, Snapshot, Term};
use raft_wire::WireError;
use raft_wire::frame::{
    ConnectionPurpose, Frame, FrameLimits, Handshake, HandshakeRejection, HandshakeReply, Packet,
    RequestKind, ResponseOutcome, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
    encode_frame, encode_packet, encoded_packet_len, try_decode_frame,
};
use raft_wire::proto::rafttransport as pb;

use crate::support::{self, node, number, payload, prost_way};

const HEADER_BYTES: usize = 9;

fn packet() -> impl Strategy<Value = Packet> {
    let kind = prop_oneof![
        Just(RequestKind::Propose),
        Just(RequestKind::ReadIndex),
        Just(RequestKind::Query),
    ];
    let outcome = prop_oneof![
        payload().prop_map(|payload| ResponseOutcome::Done { payload }),
        (any::<u32>(), payload())
            .prop_map(|(code, detail)| ResponseOutcome::Refused { code, detail }),
        Just(ResponseOutcome::Unknown),
    ];
    prop_oneof![
        (number(), support::message()).prop_map(|(group, message)| Packet::Raft { group, message }),
        (number(), kind, payload()).prop_map(|(id, kind, payload)| Packet::Request {
            id,
            kind,
            payload
        }),
        (number(), outcome).prop_map(|(id, outcome)| Packet::Response { id, outcome }),
    ]
}

fn handshake() -> impl Strategy<Value = Handshake> {
    let purpose = prop_oneof![
        Just(ConnectionPurpose::Messages),
        Just(ConnectionPurpose::Snapshot),
    ];
    let nodes = (support::node_id(), support::node_id());
    let folder = (any::<Option<u128>>(), any::<u64>());
    (
        any::<u32>(),
        any::<u128>(),
        nodes,
        number(),
        purpose,
        folder,
        any::<u16>().prop_map(NonZeroU16::new),
    )
        .prop_map(
            |(
                protocol_version,
                cluster_id,
                (from, to),
                incarnation,
                purpose,
                folder,
                listen_port,
            )| Handshake {
                protocol_version,
                cluster_id,
                from,
                to,
                incarnation,
                purpose,
                folder: folder.0,
                process: folder.1,
                listen_port,
            },
        )
}

fn handshake_reply() -> impl Strategy<Value = HandshakeReply> {
    let rejection = prop_oneof![
        any::<u128>().prop_map(|theirs| HandshakeRejection::ClusterMismatch { theirs }),
        support::node_id().prop_map(|theirs| HandshakeRejection::WrongNode { theirs }),
        any::<u32>().prop_map(|theirs| HandshakeRejection::VersionMismatch { theirs }),
        Just(HandshakeRejection::StaleIncarnation),
        Just(HandshakeRejection::OtherFolder),
        Just(HandshakeRejection::Twin),
        Just(HandshakeRejection::Removed),
    ];
    prop_oneof![
        Just(HandshakeReply::Welcome),
        rejection.prop_map(HandshakeReply::Rejected),
    ]
}

fn snapshot_header() -> impl Strategy<Value = SnapshotHeader> {
    let nodes = (support::node_id(), support::node_id());
    let data = (number(), any::<u32>(), payload());
    let metadata = support::snapshot_metadata();
    (number(), nodes, support::term(), metadata, data).prop_map(
        |(group, (from, to), term, metadata, (total_bytes, crc32c, addresses))| SnapshotHeader {
            group,
            message: Message {
                to,
                from,
                term,
                body: Body::Snapshot(Box::new(Snapshot {
                    metadata,
                    data: Bytes::new(),
                })),
            },
            total_bytes,
            crc32c,
            addresses,
        },
    )
}

fn snapshot_reply() -> impl Strategy<Value = SnapshotReply> {
    let refusal = prop_oneof![
        Just(SnapshotRefusal::Busy),
        Just(SnapshotRefusal::NotNeeded),
        number().prop_map(|bytes_max| SnapshotRefusal::TooLarge { bytes_max }),
        number().prop_map(|offset| SnapshotRefusal::Corrupt { offset }),
        Just(SnapshotRefusal::StorageFailed),
    ];
    prop_oneof![
        number().prop_map(|offset| SnapshotReply::Accepted { offset }),
        Just(SnapshotReply::Working),
        Just(SnapshotReply::Received),
        refusal.prop_map(SnapshotReply::Refused),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let chunk =
        (number(), payload(), any::<u32>()).prop_map(|(offset, data, crc32c)| SnapshotChunk {
            offset,
            data,
            crc32c,
        });
    prop_oneof![
        3 => packet().prop_map(Frame::Packet),
        1 => handshake().prop_map(Frame::Handshake),
        1 => handshake_reply().prop_map(Frame::HandshakeReply),
        1 => snapshot_header().prop_map(Frame::SnapshotHeader),
        1 => chunk.prop_map(Frame::SnapshotChunk),
        1 => snapshot_reply().prop_map(Frame::SnapshotReply),
    ]
}

fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
    try_decode_frame(buffer, &FrameLimits::default())
}

/// A frame with a right length and checksum around any body.
fn raw_frame(kind: u8, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u32_le(u32::try_from(body.len() + 5).unwrap());
    frame.put_u8(kind);
    frame.put_u32_le(crc32c::crc32c(&[&[kind], body].concat()));
    frame.put_slice(body);
    frame
}

proptest! {
    #[test]
    fn frames_survive_a_stream_cut_anywhere(
        frames in vec(frame(), 1..4),
        cuts in vec(1_usize..60, 1..8),
    ) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            encode_frame(frame, &mut stream).unwrap();
        }
        let mut buffer = BytesMut::new();
        let mut read = vec![];
        for cut in cuts.iter().cycle() {
            buffer.extend_from_slice(&stream.split_to((*cut).min(stream.len())));
            while let Some(frame) = decode(&mut buffer).unwrap() {
                read.push(frame);
            }
            if stream.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn the_length_of_a_packet_is_known_beforehand(packet in packet()) {
        let mut out = BytesMut::from(&b"before"[..]);
        encode_packet(&packet, &mut out).unwrap();
        prop_assert_eq!(out.len(), 6 + encoded_packet_len(&packet));
        prop_assert_eq!(&out[..6], b"before");
    }

    #[test]
    fn raft_messages_travel_as_prost_would_write_them(
        group in number(),
        message in support::message(),
    ) {
        let body = pb::RaftPacket { group, message: Some(prost_way::message(&message)) };
        let mut out = BytesMut::new();
        encode_packet(&Packet::Raft { group, message }, &mut out).unwrap();
        prop_assert_eq!(&out, &raw_frame(1, &body.encode_to_vec()));
    }

    #[test]
    fn every_flipped_bit_is_noticed(frame in frame(), bits in 1_u8.., at: prop::sample::Index) {
        let mut bytes = BytesMut::new();
        encode_frame(&frame, &mut bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        match decode(&mut bytes) {
            // A longer length waits for bytes that are not there.
            Ok(None) => prop_assert!(at < 4),
            Ok(Some(_)) => prop_assert!(false, "the frame got through"),
            Err(error) => prop_assert!(error.loses_the_stream(), "{:?}", error),
        }
    }

    #[test]
    fn no_body_makes_the_reader_panic(
        kind in 0_u8..10,
        body in support::protobuf_like(),
    ) {
        let mut stream = raw_frame(kind, &body);
        stream.put_slice(&raw_frame(2, &[0x10, 1]));
        if let Err(error) = decode(&mut stream) {
            prop_assert!(!error.loses_the_stream());
        }
        // Whatever the first one was, the second one comes through.
        let second = Packet::Request { id: 0, kind: RequestKind::Propose, payload: Bytes::new() };
        prop_assert_eq!(decode(&mut stream), Ok(Some(Frame::Packet(second))));
    }

    #[test]
    fn damaged_bodies_do_not_make_the_reader_panic(
        frame in frame(),
        damage in support::damage(),
    ) {
        let mut bytes = BytesMut::new();
        encode_frame(&frame, &mut bytes).unwrap();
        let body = support::damaged(&bytes[HEADER_BYTES..], &damage);
        if let Err(error) = decode(&mut raw_frame(bytes[4], &body)) {
            prop_assert!(!error.loses_the_stream());
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_refused(bytes in vec(any::<u8>(), 0..64)) {
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut stream) {}
    }
}

#[test]
fn nothing_is_reserved_for_a_frame_beyond_the_limit() {
    let limits = FrameLimits {
        frame_bytes_max: 100,
    };
    let mut fits = BytesMut::new();
    fits.put_u32_le(96);
    assert_eq!(try_decode_frame(&mut fits, &limits), Ok(None));
    assert!(fits.capacity() >= 100);

    for length in [97, u32::MAX] {
        let mut stream = BytesMut::with_capacity(4);
        stream.put_u32_le(length);
        let capacity = stream.capacity();
        let too_large = WireError::FrameTooLarge {
            frame_bytes: u64::from(length) + 4,
            frame_bytes_max: 100,
        };
        assert_eq!(try_decode_frame(&mut stream, &limits), Err(too_large));
        assert_eq!(stream.capacity(), capacity);
    }
}

#[test]
fn a_frame_shorter_than_its_header_is_refused() {
    for length in 0..5 {
        let mut stream = BytesMut::new();
        stream.put_u32_le(length);
        assert_eq!(
            decode(&mut stream),
            Err(WireError::FrameTooShort { length })
        );
    }
}

#[test]
fn an_unknown_kind_is_passed_over() {
    let mut stream = raw_frame(200, b"from the future");
    assert_eq!(decode(&mut stream), Err(WireError::UnknownFrameKind(200)));
    assert!(stream.is_empty());
}

#[test]
fn bodies_without_their_main_part_are_refused() {
    for (kind, field) in [
        (1, "RaftPacket.message"),
        (3, "Response.outcome"),
        (5, "HandshakeReply.reply"),
        (8, "SnapshotReply.reply"),
    ] {
        let refused = decode(&mut raw_frame(kind, &[]));
        assert_eq!(refused, Err(WireError::Absent { field }));
    }
    for (value, bytes) in [(0, &[][..]), (4, &[0x10, 4])] {
        let field = "Request.kind";
        let refused = decode(&mut raw_frame(2, bytes));
        assert_eq!(refused, Err(WireError::UnknownValue { field, value }));
    }
    let field = "Handshake.purpose";
    let refused = decode(&mut raw_frame(4, &[]));
    assert_eq!(refused, Err(WireError::UnknownValue { field, value: 0 }));
}

#[test]
fn a_snapshots_header_carries_a_snapshot_without_data() {
    let with_data = Snapshot {
        data: Bytes::from_static(b"data"),
        ..Snapshot::default()
    };
    for body in [Body::TimeoutNow, Body::Snapshot(Box::new(with_data))] {
        let message = Message {
            to: node(1),
            from: node(2),
            term: Term::new(1),
            body,
        };
        let raw = pb::SnapshotHeader {
            message: prost_way::message(&message).encode_to_vec().into(),
            ..pb::SnapshotHeader::default()
        };
        let refused = decode(&mut raw_frame(6, &raw.encode_to_vec()));
        assert_eq!(refused, Err(WireError::NotASnapshotHeader));

        let mut out = BytesMut::new();
        let header = SnapshotHeader {
            group: 0,
            message,
            total_bytes: 0,
            crc32c: 0,
            addresses: Bytes::new(),
        };
        let refused = encode_frame(&Frame::SnapshotHeader(header), &mut out);
        assert_eq!(refused, Err(WireError::NotASnapshotHeader));
        assert!(out.is_empty());
    }
}
