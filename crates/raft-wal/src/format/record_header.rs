//! # The head of a record
//!
//! It is valid at one place of one segment only, and says what follows and how
//! long that is.
//!
//! - Owns: the layout of the header.

use raft_core::{EntryId, LogIndex, Term};

use super::{ALIGNMENT, RECORD_HEADER_BYTES, Reader, len_u64};

pub(super) const RECORD_HEADER_LEN: usize = 48;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entries,
    HardState,
    Snapshot,
    Compact,
    GroupState,
    Purge,
    Seal,
    Trailer,
    Padding,
}

impl Kind {
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Entries => 1,
            Self::HardState => 2,
            Self::Snapshot => 3,
            Self::Compact => 4,
            Self::GroupState => 5,
            Self::Purge => 6,
            Self::Seal => 7,
            Self::Trailer => 8,
            Self::Padding => 9,
        }
    }

    const fn of_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Entries,
            2 => Self::HardState,
            3 => Self::Snapshot,
            4 => Self::Compact,
            5 => Self::GroupState,
            6 => Self::Purge,
            7 => Self::Seal,
            8 => Self::Trailer,
            9 => Self::Padding,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Without padding.
    pub(crate) payload_len: u32,
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) id: EntryId,
    pub(crate) count: u32,
    /// The checksum of the header before, or of the segment's header.
    pub(crate) previous_chain: u32,
    pub(crate) payload_checksum: u32,
    /// This header's own checksum, on which the next record depends.
    pub(crate) chain: u32,
}

pub(super) fn padding(payload_len: usize) -> usize {
    payload_len.next_multiple_of(ALIGNMENT) - payload_len
}

/// The length of a record with this payload, in bytes.
pub(super) fn record_bytes(payload_len: u64) -> u64 {
    RECORD_HEADER_BYTES.saturating_add(
        payload_len
            .checked_next_multiple_of(len_u64(ALIGNMENT))
            .unwrap_or(u64::MAX),
    )
}

/// A header's checksum. It covers where the header is, so that a record of
/// another segment or offset is none here.
pub(super) fn header_checksum(segment_id: u128, offset: u64, covered: &[u8]) -> u32 {
    let salt = crc32c::crc32c(&segment_id.to_le_bytes());
    let salt = crc32c::crc32c_append(salt, &offset.to_le_bytes());
    crc32c::crc32c_append(salt, covered)
}

impl RecordHeader {
    /// Reads the header at the front of `bytes`, which are at `offset` of the
    /// segment. `None` if there is none that is valid there.
    pub(crate) fn decode(segment_id: u128, offset: u64, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let payload_len = reader.u32()?;
        // Zeros and most garbage end here, before the checksum.
        let kind = Kind::of_number(reader.u16()?)?;
        if reader.u16()? != 0 {
            return None;
        }
        let header = Self {
            payload_len,
            kind,
            group: reader.u64()?,
            id: EntryId::new(Term::new(reader.u64()?), LogIndex::new(reader.u64()?)),
            count: reader.u32()?,
            previous_chain: reader.u32()?,
            payload_checksum: reader.u32()?,
            chain: reader.u32()?,
        };
        let covered = bytes.get(..RECORD_HEADER_LEN - 4)?;
        (header_checksum(segment_id, offset, covered) == header.chain).then_some(header)
    }

    /// The length of the record with header and padding, in bytes.
    pub(crate) fn record_len(&self) -> usize {
        let len = usize::try_from(self.payload_len).unwrap_or(usize::MAX / 2);
        RECORD_HEADER_LEN + len + padding(len)
    }

    /// The payload of the record at the front of `bytes`, if it is undamaged.
    pub(crate) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let padded = bytes.get(RECORD_HEADER_LEN..self.record_len())?;
        if crc32c::crc32c(padded) != self.payload_checksum {
            return None;
        }
        padded.get(..usize::try_from(self.payload_len).ok()?)
    }
}
