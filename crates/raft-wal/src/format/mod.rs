//! # The bytes
//!
//! Layout and checksums of segments and records; `docs/WAL.md` has the tables.
//! Every number is little endian. Reading is total: bytes that mean nothing are
//! `None` or an error, never a panic.
//!
//! | file | room |
//! |---|---|
//! | `segment_header.rs` | the head of a segment |
//! | `record.rs` | the records of a batch |
//! | `record_header.rs` | what a record begins with |
//! | `payload.rs` | what records carry |
//! | `encoder.rs` | from a batch to bytes |
//! | `size.rs` | how long records will be |
//! | `reader.rs` | from bytes to numbers |
//!
//! - Owns: the lengths that the rooms share.
//! - Emits: bytes that are valid at one offset of one segment only.

mod encoder;
mod payload;
mod reader;
mod record;
mod record_header;
mod segment_header;
pub(crate) mod size;

pub(crate) use self::encoder::Encoder;
pub(crate) use self::payload::{decode_conf_state, put_conf_state};
pub(crate) use self::reader::Reader;
pub(crate) use self::record::{GroupState, Record, Trailer};
pub(crate) use self::record_header::{Kind, RecordHeader};
pub(crate) use self::segment_header::{BadSegmentHeader, SegmentHeader};

/// The version of the log that this crate writes, and the only one that there is.
/// Snapshot files count theirs for themselves.
pub const FORMAT_VERSION: u32 = 1;
/// The length of a segment's header, in bytes. Records begin behind it, so
/// that no sector holds both.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
/// The length of a record's header, in bytes.
pub(crate) const RECORD_HEADER_BYTES: u64 = 48;
/// The length of a batch trailer with its header, in bytes.
pub(crate) const TRAILER_BYTES: u64 = RECORD_HEADER_BYTES + 24;
/// The length of the batch that seals a segment, in bytes.
pub(crate) const SEAL_BYTES: u64 = RECORD_HEADER_BYTES + 8 + TRAILER_BYTES;
/// The most that a batch takes that only records durability, in bytes.
pub(crate) const MARK_BYTES_MAX: u64 = 2 * SECTOR_BYTES + TRAILER_BYTES;
/// What a disk writes as a whole, in bytes.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_valid_in_its_segment_and_at_its_place_only() {
        let mut encoder = Encoder::new();
        encoder.begin(7, 4096, 0);
        encoder.purge(1);
        let (bytes, chain) = encoder.encoded();
        let header = RecordHeader::decode(7, 4096, bytes).expect("a record");
        assert_eq!(header.chain, chain);
        assert_eq!(RecordHeader::decode(8, 4096, bytes), None);
        assert_eq!(RecordHeader::decode(7, 4104, bytes), None);
    }

    #[test]
    fn a_seal_is_as_long_as_its_reserve() {
        let mut encoder = Encoder::new();
        encoder.begin(7, 4096, 0);
        encoder.seal(2);
        encoder.trailer(1, 0, 0);
        assert_eq!(len_u64(encoder.encoded().0.len()), SEAL_BYTES);
    }

    #[test]
    fn a_mark_is_never_longer_than_its_reserve_and_begins_a_sector() {
        for start in (4096..8192).step_by(8) {
            let mut encoder = Encoder::new();
            encoder.begin(7, start, 0);
            encoder.pad_to_sector();
            assert_eq!((start + len_u64(encoder.position())) % SECTOR_BYTES, 0);
            encoder.trailer(1, 0, 0);
            assert!(len_u64(encoder.position()) <= MARK_BYTES_MAX);
        }
    }
}
