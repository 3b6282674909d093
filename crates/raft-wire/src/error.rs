//! # Errors
//!
//! What can be wrong with bytes. All of it is the sender's fault or the
//! network's, except [`WireError::FrameTooLarge`] and
//! [`WireError::NotASnapshotHeader`] when they come from an encoder.

use raft_core::LogIndex;

/// Bytes cannot be read, or a value cannot be written. Fields have protobuf's
/// names, `Message.rejectHint` for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("a {inside} ends inside a field; drop it and check what the peer runs")]
    Truncated {
        /// The protobuf message.
        inside: &'static str,
    },
    /// A number or a field's tag is not one.
    #[error("a {inside} is not protobuf; drop it and check what the peer runs")]
    Malformed {
        /// The protobuf message.
        inside: &'static str,
    },
    /// A field has a wire type that its number does not allow, or one that
    /// proto2 gave up (groups).
    #[error("field {number} of a {inside} has the wrong wire type; check what the peer runs")]
    WrongWireType {
        /// The protobuf message.
        inside: &'static str,
        /// The number of the field.
        number: u32,
    },
    /// A part that the message is useless without is not there.
    #[error("{field} is absent; drop the message and check what the peer runs")]
    Absent {
        /// The field.
        field: &'static str,
    },
    /// A part is there that no server sends to another.
    #[error("{field} is only for a server's own storage; drop the message")]
    Unexpected {
        /// The field.
        field: &'static str,
    },
    /// The number names nothing that this version knows.
    #[error("{field} is {value}, which this version does not know; upgrade it")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// The type is one of etcd's nine that never leave a server.
    #[error("a {name} never leaves a server; drop the message and mistrust the peer")]
    LocalMessage {
        /// etcd's name of the type.
        name: &'static str,
    },
    /// The number is none that a server may have.
    #[error("{field} is {id}, which no server may be; drop the message")]
    InvalidNodeId {
        /// The field.
        field: &'static str,
        /// The number.
        id: u64,
    },
    /// The entries of an append have a gap or go back.
    #[error("the entry after {after} has index {found}; drop the message")]
    EntriesNotConsecutive {
        /// The index of the entry before.
        after: LogIndex,
        /// The index of the entry that should follow it.
        found: LogIndex,
    },
    /// A read carries its context as one entry, and has another number of them.
    #[error("a read has {count} entries instead of one; drop the message")]
    WrongEntryCount {
        /// How many entries there are.
        count: usize,
    },
    /// A snapshot's header carries something else than a snapshot without data.
    #[error("a snapshot's header needs a snapshot message without data; send the data in chunks")]
    NotASnapshotHeader,
    /// A frame is longer than it may be. From [`try_decode_frame`] the stream is
    /// of no more use; from an encoder nothing was written.
    ///
    /// [`try_decode_frame`]: crate::frame::try_decode_frame
    #[error("a frame of {frame_bytes} bytes exceeds the limit of {frame_bytes_max}; send less")]
    FrameTooLarge {
        /// Its length with the header.
        frame_bytes: u64,
        /// How long it may be.
        frame_bytes_max: u64,
    },
    /// A frame claims to be shorter than its own header.
    #[error("a frame claims a length of {length}, less than its header; close the connection")]
    FrameTooShort {
        /// The length it claims.
        length: u32,
    },
    /// A frame did not arrive as it was sent.
    #[error("a frame has checksum {found:#010x} instead of {claimed:#010x}; close the connection")]
    ChecksumMismatch {
        /// The checksum that came with it.
        claimed: u32,
        /// The checksum of what came.
        found: u32,
    },
    /// A frame is of a kind that this version does not know.
    #[error("a frame is of kind {0}, which this version does not know; pass over it")]
    UnknownFrameKind(u8),
}

impl WireError {
    /// Whether the place where the next frame begins is not known any more, so
    /// that the connection must be closed. After any other error the stream
    /// stands behind the frame that was refused.
    pub const fn loses_the_stream(&self) -> bool {
        matches!(
            self,
            Self::FrameTooLarge { .. } | Self::FrameTooShort { .. } | Self::ChecksumMismatch { .. }
        )
    }
}
