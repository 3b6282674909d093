//! # The head of a segment
//!
//! Whose log a segment belongs to, its place in it, and which segment it
//! follows.
//!
//! - Owns: the layout of the first sectors of a segment.

use super::{FORMAT_VERSION, Reader};
use crate::Identity;

const SEGMENT_HEADER_LEN: usize = 4096;
const SEGMENT_MAGIC: [u8; 8] = *b"RaftWAL\0";

/// What stands at the head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Drawn at random; every checksum in the segment depends on it.
    pub(crate) id: u128,
    /// Counts the segments of the log, from 1.
    pub(crate) sequence: u64,
    pub(crate) identity: Identity,
    /// The id and the last chain value of the segment before.
    pub(crate) previous_id: u128,
    pub(crate) previous_chain: u32,
    /// The oldest segment that the log needed when this one was made.
    pub(crate) oldest_sequence: u64,
    /// The number of the first batch.
    pub(crate) first_batch: u64,
    /// The last batch that was durable when the segment got its name. It may
    /// be one of this segment, if that was rewritten by a recovery.
    pub(crate) durable_batch: u64,
}

/// Why a segment's header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSegmentHeader {
    Unreadable,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        self.identity.encode(&mut out);
        out.extend_from_slice(&self.previous_id.to_le_bytes());
        out.extend_from_slice(&self.previous_chain.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.oldest_sequence.to_le_bytes());
        out.extend_from_slice(&self.first_batch.to_le_bytes());
        out.extend_from_slice(&self.durable_batch.to_le_bytes());
        out.resize(SEGMENT_HEADER_LEN - 4, 0);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadSegmentHeader> {
        let (covered, checksum) = bytes
            .get(..SEGMENT_HEADER_LEN)
            .and_then(|header| header.split_last_chunk::<4>())
            .ok_or(BadSegmentHeader::Unreadable)?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return Err(BadSegmentHeader::Unreadable);
        }
        let mut reader = Reader(covered);
        if reader.array() != Some(SEGMENT_MAGIC) {
            return Err(BadSegmentHeader::Unreadable);
        }
        let version = reader.u32().ok_or(BadSegmentHeader::Unreadable)?;
        if version != FORMAT_VERSION {
            return Err(BadSegmentHeader::Version(version));
        }
        Self::decode_fields(&mut reader)
            .filter(Self::is_possible)
            .ok_or(BadSegmentHeader::Unreadable)
    }

    /// Segments and batches are counted from 1, no log lives to see half of all
    /// numbers, and a segment is not older than what is needed.
    fn is_possible(&self) -> bool {
        let numbers = 1..=u64::MAX / 2;
        numbers.contains(&self.sequence)
            && numbers.contains(&self.first_batch)
            && self.oldest_sequence <= self.sequence
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u32()?;
        Some(Self {
            id: reader.u128()?,
            sequence: reader.u64()?,
            identity: Identity::decode(reader)?,
            previous_id: reader.u128()?,
            previous_chain: {
                let chain = reader.u32()?;
                reader.u32()?;
                chain
            },
            oldest_sequence: reader.u64()?,
            first_batch: reader.u64()?,
            durable_batch: reader.u64()?,
        })
    }

    /// Where the chain of the segment's records begins.
    pub(crate) fn chain(encoded: &[u8]) -> u32 {
        encoded
            .get(..SEGMENT_HEADER_LEN)
            .and_then(<[u8]>::last_chunk)
            .map_or(0, |checksum| u32::from_le_bytes(*checksum))
    }
}
