//! # The bodies of frames
//!
//! A Raft message, which there are many of, goes straight between buffer and
//! type. The others go through the generated protobuf types.
//!
//! - Owns: nothing.
//! - Emits: the encodings of `proto/transport.proto`, [`WireError`].
//! - Source: ours.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use raft_core::{Body, Message};

use super::{
    ConnectionPurpose, Frame, FrameKind, Handshake, HandshakeRejection, HandshakeReply, Packet,
    RequestKind, ResponseOutcome, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
};
use crate::decode::{self, decode_message, node_id};
use crate::encode::{encode_message, encoded_message_len};
use crate::error::WireError;
use crate::proto::rafttransport as pb;
use crate::reader::Reader;
use crate::sink::{Encode, Sink};

use pb::handshake_reply::Reply as PbHandshakeReply;
use pb::response::Outcome as PbOutcome;
use pb::snapshot_reply::Reply as PbSnapshotReply;

/// A body that is ready to be written.
pub(super) trait FrameBody {
    /// Its length in bytes.
    fn len(&self) -> usize;

    /// Appends it to `out`.
    fn write(&self, out: &mut BytesMut);
}

impl<T: prost::Message> FrameBody for T {
    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, out: &mut BytesMut) {
        self.encode_raw(out);
    }
}

struct RaftPacket<'a> {
    group: u64,
    message: &'a Message,
}

impl Encode for RaftPacket<'_> {
    fn fields(&self, sink: &mut impl Sink) {
        // proto3 leaves a zero out.
        if self.group != 0 {
            sink.number(1, self.group);
        }
        sink.message(2, self.message);
    }
}

impl FrameBody for RaftPacket<'_> {
    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, out: &mut BytesMut) {
        self.fields(out);
    }
}

/// Calls `with` on what `packet` consists of. Payloads are shared, not copied.
pub(super) fn of_packet<T>(
    packet: &Packet,
    with: impl FnOnce(FrameKind, &dyn FrameBody) -> T,
) -> T {
    match packet {
        Packet::Raft { group, message } => with(
            FrameKind::Raft,
            &RaftPacket {
                group: *group,
                message,
            },
        ),
        Packet::Request { id, kind, payload } => with(
            FrameKind::Request,
            &pb::Request {
                id: *id,
                kind: request_kind(*kind).into(),
                payload: payload.clone(),
            },
        ),
        Packet::Response { id, outcome } => with(
            FrameKind::Response,
            &pb::Response {
                id: *id,
                outcome: Some(pb_outcome(outcome)),
            },
        ),
    }
}

/// Calls `with` on what `frame` consists of.
pub(super) fn of_frame<T>(
    frame: &Frame,
    with: impl FnOnce(FrameKind, &dyn FrameBody) -> Result<T, WireError>,
) -> Result<T, WireError> {
    match frame {
        Frame::Packet(packet) => of_packet(packet, with),
        Frame::Handshake(handshake) => with(FrameKind::Handshake, &pb_handshake(*handshake)),
        Frame::HandshakeReply(reply) => with(
            FrameKind::HandshakeReply,
            &pb::HandshakeReply {
                reply: Some(pb_handshake_reply(*reply)),
            },
        ),
        Frame::SnapshotHeader(header) => {
            with(FrameKind::SnapshotHeader, &pb_snapshot_header(header)?)
        }
        Frame::SnapshotChunk(chunk) => with(
            FrameKind::SnapshotChunk,
            &pb::SnapshotChunk {
                offset: chunk.offset,
                data: chunk.data.clone(),
                crc32c: chunk.crc32c,
            },
        ),
        Frame::SnapshotReply(reply) => with(
            FrameKind::SnapshotReply,
            &pb::SnapshotReply {
                reply: Some(pb_snapshot_reply(*reply)),
            },
        ),
    }
}

/// Reads the body of a frame of this kind.
pub(super) fn read(kind: FrameKind, body: Bytes) -> Result<Frame, WireError> {
    Ok(match kind {
        FrameKind::Raft => Frame::Packet(read_raft(&body)?),
        FrameKind::Request => Frame::Packet(read_request(body)?),
        FrameKind::Response => Frame::Packet(read_response(body)?),
        FrameKind::Handshake => Frame::Handshake(read_handshake(body)?),
        FrameKind::HandshakeReply => Frame::HandshakeReply(read_handshake_reply(body)?),
        FrameKind::SnapshotHeader => Frame::SnapshotHeader(read_snapshot_header(body)?),
        FrameKind::SnapshotChunk => Frame::SnapshotChunk(read_snapshot_chunk(body)?),
        FrameKind::SnapshotReply => Frame::SnapshotReply(read_snapshot_reply(body)?),
    })
}

fn read_prost<M: prost::Message + Default>(
    inside: &'static str,
    body: Bytes,
) -> Result<M, WireError> {
    M::decode(body).map_err(|_| WireError::Malformed { inside })
}

fn read_raft(body: &Bytes) -> Result<Packet, WireError> {
    let mut group = 0;
    let mut message = None;
    let mut reader = Reader::new("RaftPacket", body);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => group = field.number()?,
            2 => message = Some(field.message(decode::MESSAGE)?),
            _ => {}
        }
    }
    let message = message.ok_or(WireError::Absent {
        field: "RaftPacket.message",
    })?;
    Ok(Packet::Raft {
        group,
        message: decode::message(body, message)?,
    })
}

const fn request_kind(kind: RequestKind) -> pb::RequestKind {
    match kind {
        RequestKind::Propose => pb::RequestKind::Propose,
        RequestKind::ReadIndex => pb::RequestKind::ReadIndex,
        RequestKind::Query => pb::RequestKind::Query,
    }
}

fn read_request(body: Bytes) -> Result<Packet, WireError> {
    let request: pb::Request = read_prost("Request", body)?;
    let kind = match pb::RequestKind::try_from(request.kind) {
        Ok(pb::RequestKind::Propose) => RequestKind::Propose,
        Ok(pb::RequestKind::ReadIndex) => RequestKind::ReadIndex,
        Ok(pb::RequestKind::Query) => RequestKind::Query,
        Ok(pb::RequestKind::Unspecified) | Err(_) => {
            return Err(WireError::UnknownValue {
                field: "Request.kind",
                value: u64::from(request.kind.cast_unsigned()),
            });
        }
    };
    Ok(Packet::Request {
        id: request.id,
        kind,
        payload: request.payload,
    })
}

fn pb_outcome(outcome: &ResponseOutcome) -> PbOutcome {
    match outcome {
        ResponseOutcome::Done { payload } => PbOutcome::Done(pb::Done {
            payload: payload.clone(),
        }),
        ResponseOutcome::Refused { code, detail } => PbOutcome::Refused(pb::Refused {
            code: *code,
            detail: detail.clone(),
        }),
        ResponseOutcome::Unknown => PbOutcome::Unknown(pb::OutcomeUnknown {}),
    }
}

fn read_response(body: Bytes) -> Result<Packet, WireError> {
    let response: pb::Response = read_prost("Response", body)?;
    let outcome = match response.outcome {
        Some(PbOutcome::Done(done)) => ResponseOutcome::Done {
            payload: done.payload,
        },
        Some(PbOutcome::Refused(refused)) => ResponseOutcome::Refused {
            code: refused.code,
            detail: refused.detail,
        },
        Some(PbOutcome::Unknown(pb::OutcomeUnknown {})) => ResponseOutcome::Unknown,
        None => {
            return Err(WireError::Absent {
                field: "Response.outcome",
            });
        }
    };
    Ok(Packet::Response {
        id: response.id,
        outcome,
    })
}

fn pb_handshake(handshake: Handshake) -> pb::Handshake {
    let (cluster_id_high, cluster_id_low) = halves(handshake.cluster_id);
    pb::Handshake {
        protocol_version: handshake.protocol_version,
        cluster_id_high,
        cluster_id_low,
        from: handshake.from.get(),
        to: handshake.to.get(),
        incarnation: handshake.incarnation,
        purpose: match handshake.purpose {
            ConnectionPurpose::Messages => pb::ConnectionPurpose::Messages,
            ConnectionPurpose::Snapshot => pb::ConnectionPurpose::Snapshot,
        }
        .into(),
        folder: handshake.folder.map(|id| {
            let (id_high, id_low) = halves(id);
            pb::Folder { id_high, id_low }
        }),
        process: handshake.process,
        listen_port: handshake.listen_port.map_or(0, |port| port.get().into()),
    }
}

fn read_handshake(body: Bytes) -> Result<Handshake, WireError> {
    let handshake: pb::Handshake = read_prost("Handshake", body)?;
    let purpose = match pb::ConnectionPurpose::try_from(handshake.purpose) {
        Ok(pb::ConnectionPurpose::Messages) => ConnectionPurpose::Messages,
        Ok(pb::ConnectionPurpose::Snapshot) => ConnectionPurpose::Snapshot,
        Ok(pb::ConnectionPurpose::Unspecified) | Err(_) => {
            return Err(WireError::UnknownValue {
                field: "Handshake.purpose",
                value: u64::from(handshake.purpose.cast_unsigned()),
            });
        }
    };
    Ok(Handshake {
        protocol_version: handshake.protocol_version,
        cluster_id: of_halves(handshake.cluster_id_high, handshake.cluster_id_low),
        from: node_id("Handshake.from", handshake.from)?,
        to: node_id("Handshake.to", handshake.to)?,
        incarnation: handshake.incarnation,
        purpose,
        folder: handshake
            .folder
            .map(|folder| of_halves(folder.id_high, folder.id_low)),
        process: handshake.process,
        // What is no port is as good as none.
        listen_port: u16::try_from(handshake.listen_port)
            .ok()
            .and_then(NonZeroU16::new),
    })
}

fn pb_handshake_reply(reply: HandshakeReply) -> PbHandshakeReply {
    let rejection = match reply {
        HandshakeReply::Welcome => return PbHandshakeReply::Welcome(pb::Welcome {}),
        HandshakeReply::Rejected(rejection) => rejection,
    };
    match rejection {
        HandshakeRejection::ClusterMismatch { theirs } => {
            let (cluster_id_high, cluster_id_low) = halves(theirs);
            PbHandshakeReply::ClusterMismatch(pb::ClusterMismatch {
                cluster_id_high,
                cluster_id_low,
            })
        }
        HandshakeRejection::WrongNode { theirs } => PbHandshakeReply::WrongNode(pb::WrongNode {
            node_id: theirs.get(),
        }),
        HandshakeRejection::VersionMismatch { theirs } => {
            PbHandshakeReply::VersionMismatch(pb::VersionMismatch {
                protocol_version: theirs,
            })
        }
        HandshakeRejection::StaleIncarnation => {
            PbHandshakeReply::StaleIncarnation(pb::StaleIncarnation {})
        }
        HandshakeRejection::OtherFolder => PbHandshakeReply::OtherFolder(pb::OtherFolder {}),
        HandshakeRejection::Twin => PbHandshakeReply::Twin(pb::Twin {}),
        HandshakeRejection::Removed => PbHandshakeReply::Removed(pb::Removed {}),
    }
}

fn read_handshake_reply(body: Bytes) -> Result<HandshakeReply, WireError> {
    let reply: pb::HandshakeReply = read_prost("HandshakeReply", body)?;
    let rejection = match reply.reply {
        Some(PbHandshakeReply::Welcome(pb::Welcome {})) => return Ok(HandshakeReply::Welcome),
        Some(PbHandshakeReply::ClusterMismatch(mismatch)) => HandshakeRejection::ClusterMismatch {
            theirs: of_halves(mismatch.cluster_id_high, mismatch.cluster_id_low),
        },
        Some(PbHandshakeReply::WrongNode(wrong)) => HandshakeRejection::WrongNode {
            theirs: node_id("WrongNode.node_id", wrong.node_id)?,
        },
        Some(PbHandshakeReply::VersionMismatch(mismatch)) => HandshakeRejection::VersionMismatch {
            theirs: mismatch.protocol_version,
        },
        Some(PbHandshakeReply::StaleIncarnation(pb::StaleIncarnation {})) => {
            HandshakeRejection::StaleIncarnation
        }
        Some(PbHandshakeReply::OtherFolder(pb::OtherFolder {})) => HandshakeRejection::OtherFolder,
        Some(PbHandshakeReply::Twin(pb::Twin {})) => HandshakeRejection::Twin,
        Some(PbHandshakeReply::Removed(pb::Removed {})) => HandshakeRejection::Removed,
        None => {
            return Err(WireError::Absent {
                field: "HandshakeReply.reply",
            });
        }
    };
    Ok(HandshakeReply::Rejected(rejection))
}

fn is_snapshot_without_data(message: &Message) -> bool {
    matches!(&message.body, Body::Snapshot(snapshot) if snapshot.data.is_empty())
}

fn pb_snapshot_header(header: &SnapshotHeader) -> Result<pb::SnapshotHeader, WireError> {
    if !is_snapshot_without_data(&header.message) {
        return Err(WireError::NotASnapshotHeader);
    }
    let mut message = BytesMut::with_capacity(encoded_message_len(&header.message));
    encode_message(&header.message, &mut message);
    Ok(pb::SnapshotHeader {
        message: message.freeze(),
        total_bytes: header.total_bytes,
        crc32c: header.crc32c,
        group: header.group,
        addresses: header.addresses.clone(),
    })
}

fn read_snapshot_header(body: Bytes) -> Result<SnapshotHeader, WireError> {
    let header: pb::SnapshotHeader = read_prost("SnapshotHeader", body)?;
    let message = decode_message(header.message)?;
    if !is_snapshot_without_data(&message) {
        return Err(WireError::NotASnapshotHeader);
    }
    Ok(SnapshotHeader {
        group: header.group,
        message,
        total_bytes: header.total_bytes,
        crc32c: header.crc32c,
        addresses: header.addresses,
    })
}

fn read_snapshot_chunk(body: Bytes) -> Result<SnapshotChunk, WireError> {
    let chunk: pb::SnapshotChunk = read_prost("SnapshotChunk", body)?;
    Ok(SnapshotChunk {
        offset: chunk.offset,
        data: chunk.data,
        crc32c: chunk.crc32c,
    })
}

fn pb_snapshot_reply(reply: SnapshotReply) -> PbSnapshotReply {
    let refusal = match reply {
        SnapshotReply::Accepted { offset } => {
            return PbSnapshotReply::Accepted(pb::SnapshotAccepted { offset });
        }
        SnapshotReply::Working => return PbSnapshotReply::Working(pb::SnapshotWorking {}),
        SnapshotReply::Received => return PbSnapshotReply::Received(pb::SnapshotReceived {}),
        SnapshotReply::Refused(refusal) => refusal,
    };
    match refusal {
        SnapshotRefusal::Busy => PbSnapshotReply::Busy(pb::SnapshotBusy {}),
        SnapshotRefusal::NotNeeded => PbSnapshotReply::NotNeeded(pb::SnapshotNotNeeded {}),
        SnapshotRefusal::TooLarge { bytes_max } => {
            PbSnapshotReply::TooLarge(pb::SnapshotTooLarge { bytes_max })
        }
        SnapshotRefusal::Corrupt { offset } => {
            PbSnapshotReply::Corrupt(pb::SnapshotCorrupt { offset })
        }
        SnapshotRefusal::StorageFailed => {
            PbSnapshotReply::StorageFailed(pb::SnapshotStorageFailed {})
        }
    }
}

fn read_snapshot_reply(body: Bytes) -> Result<SnapshotReply, WireError> {
    let reply: pb::SnapshotReply = read_prost("SnapshotReply", body)?;
    let refusal = match reply.reply {
        Some(PbSnapshotReply::Accepted(pb::SnapshotAccepted { offset })) => {
            return Ok(SnapshotReply::Accepted { offset });
        }
        Some(PbSnapshotReply::Working(pb::SnapshotWorking {})) => {
            return Ok(SnapshotReply::Working);
        }
        Some(PbSnapshotReply::Received(pb::SnapshotReceived {})) => {
            return Ok(SnapshotReply::Received);
        }
        Some(PbSnapshotReply::Busy(pb::SnapshotBusy {})) => SnapshotRefusal::Busy,
        Some(PbSnapshotReply::NotNeeded(pb::SnapshotNotNeeded {})) => SnapshotRefusal::NotNeeded,
        Some(PbSnapshotReply::TooLarge(pb::SnapshotTooLarge { bytes_max })) => {
            SnapshotRefusal::TooLarge { bytes_max }
        }
        Some(PbSnapshotReply::Corrupt(pb::SnapshotCorrupt { offset })) => {
            SnapshotRefusal::Corrupt { offset }
        }
        Some(PbSnapshotReply::StorageFailed(pb::SnapshotStorageFailed {})) => {
            SnapshotRefusal::StorageFailed
        }
        None => {
            return Err(WireError::Absent {
                field: "SnapshotReply.reply",
            });
        }
    };
    Ok(SnapshotReply::Refused(refusal))
}

fn halves(id: u128) -> (u64, u64) {
    let low = id & u128::from(u64::MAX);
    (
        u64::try_from(id >> 64).unwrap_or(u64::MAX),
        u64::try_from(low).unwrap_or(u64::MAX),
    )
}

fn of_halves(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
