//! # Frames
//!
//! What two servers write to each other over a stream of bytes. A connection
//! begins with a [`Handshake`] and its [`HandshakeReply`]. Then it carries
//! [`Packet`]s, or on a connection of its own a [`SnapshotHeader`], answered by
//! how much of it the receiver has, as many [`SnapshotChunk`]s as are missing, and
//! a last [`SnapshotReply`].
//!
//! ```text
//! length u32 LE | kind u8 | checksum u32 LE | body
//! ```
//!
//! `length` counts the bytes behind it. The checksum is the CRC-32C of kind and
//! body. The bodies are in `proto/transport.proto`.
//!
//! - Owns: the layout of a frame.
//! - Emits: [`Frame`], [`WireError`].
//! - Source: ours.

mod body;

use std::num::NonZeroU16;

use body::FrameBody;
use bytes::{BufMut, Bytes, BytesMut};
use raft_core::{Message, NodeId};

use crate::error::WireError;

/// The version of the frames in this module.
pub const PROTOCOL_VERSION: u32 = 1;

/// `kind` and `checksum`, which `length` counts.
const COUNTED_HEADER_BYTES: usize = 5;
const HEADER_BYTES: usize = 9;
const CHECKSUM_AT: core::ops::Range<usize> = 5..HEADER_BYTES;

/// How long a frame that we read may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The longest frame, in bytes, header included. It must hold the largest
    /// entry, or that entry is never replicated; a peer can make us reserve this
    /// much per connection.
    pub frame_bytes_max: u32,
}

impl FrameLimits {
    /// For a connection that has not said yet who it is: 4 KiB.
    pub const HANDSHAKE: Self = Self {
        frame_bytes_max: 4 << 10,
    };
}

impl Default for FrameLimits {
    /// 16 MiB.
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
        }
    }
}

/// Anything that may come over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Work, on a connection for messages.
    Packet(Packet),
    /// Who connects, and what for.
    Handshake(Handshake),
    /// Whether it may.
    HandshakeReply(HandshakeReply),
    /// A snapshot begins.
    SnapshotHeader(SnapshotHeader),
    /// A part of its data.
    SnapshotChunk(SnapshotChunk),
    /// What became of it.
    SnapshotReply(SnapshotReply),
}

/// What a connection for messages carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet {
    /// A Raft message.
    Raft {
        /// The group that it belongs to.
        group: u64,
        /// The message.
        message: Message,
    },
    /// Something that a server asks for a client.
    Request {
        /// Chosen by the sender; the response carries it back.
        id: u64,
        /// What is wanted.
        kind: RequestKind,
        /// Opaque here.
        payload: Bytes,
    },
    /// Answers a request.
    Response {
        /// The id of the request.
        id: u64,
        /// What came of it.
        outcome: ResponseOutcome,
    },
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// Append the payload to the log and apply it.
    Propose,
    /// An index at which a read is linearizable.
    ReadIndex,
    /// Answer the payload from the state machine, linearizably.
    Query,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseOutcome {
    /// It was done.
    Done {
        /// The result; opaque here.
        payload: Bytes,
    },
    /// It was not done and will not be.
    Refused {
        /// Why, in numbers of the layer above.
        code: u32,
        /// Opaque here.
        detail: Bytes,
    },
    /// Whether it was or will be done is not known.
    Unknown,
}

/// The first frame on a connection, from the side that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The version that the sender speaks, [`PROTOCOL_VERSION`].
    pub protocol_version: u32,
    /// The cluster that the sender belongs to.
    pub cluster_id: u128,
    /// The sender.
    pub from: NodeId,
    /// Whom it means to reach.
    pub to: NodeId,
    /// Grows with every start of the sender, so that its past can be told from
    /// its present.
    pub incarnation: u64,
    /// What the connection is for.
    pub purpose: ConnectionPurpose,
    /// The data folder of the sender, a number that was drawn when it was made,
    /// if it keeps one.
    pub folder: Option<u128>,
    /// Drawn at random by the sender's process, so that two processes which were
    /// started with copies of one folder can be told apart.
    pub process: u64,
    /// The port on which the sender listens, on the machine that it connects
    /// from, if it says so.
    pub listen_port: Option<NonZeroU16>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionPurpose {
    /// [`Packet`]s.
    Messages,
    /// Snapshots, one after the other, so that none delays a heartbeat.
    Snapshot,
}

/// Answers a [`Handshake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// The connection may be used.
    Welcome,
    /// It may not, and is closed.
    Rejected(HandshakeRejection),
}

/// Why a connection may not be used. `theirs` is of the server that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRejection {
    /// The servers belong to different clusters.
    #[error("the peer belongs to cluster {theirs:032x}; correct its address or the cluster id")]
    ClusterMismatch {
        /// The id of the other cluster.
        theirs: u128,
    },
    /// Another server answers at this address.
    #[error("node {theirs} answers at this address; correct the address")]
    WrongNode {
        /// The server that was reached.
        theirs: NodeId,
    },
    /// The servers speak different versions.
    #[error("the peer speaks version {theirs} of the protocol; upgrade the older side")]
    VersionMismatch {
        /// The version of the server that was reached.
        theirs: u32,
    },
    /// A later start of the same server has connected already.
    #[error("a later start of this node has connected already; stop one of the two")]
    StaleIncarnation,
    /// The server has connected before, with another data folder.
    #[error(
        "this node is known with another data folder; start it with that one, or remove it \
         from the cluster and add a node with a new id"
    )]
    OtherFolder,
    /// Another process has connected that uses the same data folder, or a copy.
    #[error(
        "another process runs with this node's data folder or a copy of it; stop the one that \
         was started with the copy"
    )]
    Twin,
    /// The server was removed from the cluster.
    #[error("this node was removed from the cluster; stop it, and add another one with a new id")]
    Removed,
}

/// Announces a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The group that the message belongs to.
    pub group: u64,
    /// A [`raft_core::Body::Snapshot`] without data.
    pub message: Message,
    /// The length of the data, which follows in chunks. Length and checksum tell
    /// this data from any other, so that a transfer can be resumed.
    pub total_bytes: u64,
    /// The CRC-32C of the data.
    pub crc32c: u32,
    /// Where the members are reached, in the runtime's own encoding.
    pub addresses: Bytes,
}

/// A part of a snapshot's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// The part.
    pub data: Bytes,
    /// The CRC-32C of the part.
    pub crc32c: u32,
}

/// Answers a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotReply {
    /// The header is answered: the data is wanted from here on.
    Accepted {
        /// How much of it the receiver has, in bytes.
        offset: u64,
    },
    /// The receiver's disk is at work, and another answer will come.
    Working,
    /// All of it arrived, and the server has it.
    Received,
    /// It was not taken. A sender may stop in the middle.
    Refused(SnapshotRefusal),
}

/// Why a snapshot was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotRefusal {
    /// The receiver takes another one at the moment.
    #[error("the peer takes another snapshot at the moment; try again later")]
    Busy,
    /// The receiver has this or a later one.
    #[error("the peer does not need this snapshot any more; go on with the log")]
    NotNeeded,
    /// The data is longer than the receiver takes.
    #[error("the peer takes snapshots of up to {bytes_max} bytes; raise its limit")]
    TooLarge {
        /// How long it may be.
        bytes_max: u64,
    },
    /// The data did not arrive as it was sent.
    #[error("the snapshot's data is wrong behind byte {offset}; send it again")]
    Corrupt {
        /// Up to where it was good, in bytes.
        offset: u64,
    },
    /// The receiver's disk did not take it.
    #[error("the peer could not store the snapshot; look at its disk")]
    StorageFailed,
}

/// The second part of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Raft,
    Request,
    Response,
    Handshake,
    HandshakeReply,
    SnapshotHeader,
    SnapshotChunk,
    SnapshotReply,
}

impl FrameKind {
    const ALL: [Self; 8] = [
        Self::Raft,
        Self::Request,
        Self::Response,
        Self::Handshake,
        Self::HandshakeReply,
        Self::SnapshotHeader,
        Self::SnapshotChunk,
        Self::SnapshotReply,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Raft => 1,
            Self::Request => 2,
            Self::Response => 3,
            Self::Handshake => 4,
            Self::HandshakeReply => 5,
            Self::SnapshotHeader => 6,
            Self::SnapshotChunk => 7,
            Self::SnapshotReply => 8,
        }
    }

    fn from_number(number: u8) -> Result<Self, WireError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.number() == number);
        kind.ok_or(WireError::UnknownFrameKind(number))
    }
}

/// Appends `packet` to `out` as one frame, encoded in place.
///
/// # Errors
/// [`WireError::FrameTooLarge`] if the frame's length does not fit its header.
/// Nothing was appended. What the peer accepts is less;
/// [`encoded_packet_len`] tells beforehand.
pub fn encode_packet(packet: &Packet, out: &mut BytesMut) -> Result<(), WireError> {
    body::of_packet(packet, |kind, body| put_frame(kind, body, out))
}

/// The length in bytes of what [`encode_packet`] appends, header included.
pub fn encoded_packet_len(packet: &Packet) -> usize {
    body::of_packet(packet, |_, body| body.len()).saturating_add(HEADER_BYTES)
}

/// Appends `frame` to `out`.
///
/// # Errors
/// - [`WireError::FrameTooLarge`] if its length does not fit its header.
/// - [`WireError::NotASnapshotHeader`] if a snapshot's header carries another
///   message, or one with data.
///
/// Nothing was appended.
pub fn encode_frame(frame: &Frame, out: &mut BytesMut) -> Result<(), WireError> {
    body::of_frame(frame, |kind, body| put_frame(kind, body, out))
}

/// Takes the first frame out of `buffer`, or nothing if not all of it is there
/// yet. In that case room for the rest of it is reserved. Payloads share the
/// buffer's memory.
///
/// # Errors
/// The bytes are not a frame. If [`WireError::loses_the_stream`], close the
/// connection; else the frame was taken out and the next one can be.
pub fn try_decode_frame(
    buffer: &mut BytesMut,
    limits: &FrameLimits,
) -> Result<Option<Frame>, WireError> {
    let Some(length) = buffer.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length);
    // Before a single byte is reserved for it.
    let frame_bytes = u64::from(length).saturating_add(4);
    let frame_bytes_max = u64::from(limits.frame_bytes_max);
    let too_large = WireError::FrameTooLarge {
        frame_bytes,
        frame_bytes_max,
    };
    if frame_bytes > frame_bytes_max {
        return Err(too_large);
    }
    let frame_bytes = usize::try_from(frame_bytes).map_err(|_| too_large)?;
    if frame_bytes < HEADER_BYTES {
        return Err(WireError::FrameTooShort { length });
    }
    if buffer.len() < frame_bytes {
        buffer.reserve(frame_bytes.saturating_sub(buffer.len()));
        return Ok(None);
    }
    let mut frame = buffer.split_to(frame_bytes).freeze();
    let body = frame.split_off(HEADER_BYTES);
    let [_, _, _, _, kind, checksum @ ..] = frame
        .first_chunk::<HEADER_BYTES>()
        .copied()
        .ok_or(WireError::FrameTooShort { length })?;
    let claimed = u32::from_le_bytes(checksum);
    let found = checksum_of(kind, &body);
    if claimed != found {
        return Err(WireError::ChecksumMismatch { claimed, found });
    }
    body::read(FrameKind::from_number(kind)?, body).map(Some)
}

fn put_frame(kind: FrameKind, body: &dyn FrameBody, out: &mut BytesMut) -> Result<(), WireError> {
    let body_len = body.len();
    let counted = body_len.saturating_add(COUNTED_HEADER_BYTES);
    let length = u32::try_from(counted).map_err(|_| WireError::FrameTooLarge {
        frame_bytes: u64::try_from(counted).unwrap_or(u64::MAX).saturating_add(4),
        frame_bytes_max: u64::from(u32::MAX).saturating_add(4),
    })?;
    let start = out.len();
    out.reserve(body_len.saturating_add(HEADER_BYTES));
    out.put_u32_le(length);
    out.put_u8(kind.number());
    out.put_u32_le(0);
    body.write(out);
    // The checksum is known once the body is there.
    let written = out.get_mut(start..).unwrap_or_default();
    if let Some((header, body)) = written.split_at_mut_checked(HEADER_BYTES)
        && let Some(checksum) = header.get_mut(CHECKSUM_AT)
    {
        checksum.copy_from_slice(&checksum_of(kind.number(), body).to_le_bytes());
    }
    Ok(())
}

fn checksum_of(kind: u8, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), body)
}
