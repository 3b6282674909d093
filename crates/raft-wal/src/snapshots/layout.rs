//! # The bytes around the data
//!
//! Header and footer of a snapshot's file; `docs/WAL.md` has the tables. Reading
//! is total: bytes that mean nothing are `None`. Files of version 1, which have no
//! note, are read and no longer written.
//!
//! - Owns: nothing.

use bytes::Bytes;
use raft_core::{LogIndex, SnapshotMetadata, Term};

use crate::format::{Reader, decode_conf_state, len_u64, put_conf_state};
use crate::identity::Identity;

pub(super) const MAGIC: [u8; 8] = *b"RaftSNAP";
pub(super) const FOOTER_BYTES: u64 = 24;
/// The largest header that is read: some thousands of members.
pub(super) const HEADER_BYTES_MAX: u64 = 1 << 20;
/// The longest note that is stored.
pub(super) const NOTE_BYTES_MAX: usize = 256 << 10;
/// The version that is written.
const VERSION: u32 = 2;
/// The version whose header ends with the members.
const VERSION_WITHOUT_NOTE: u32 = 1;
const FOOTER_MAGIC: [u8; 8] = *b"SnapEnd\0";

/// What has to be known of a header to end its file.
pub(super) fn header_checksum(header: &[u8]) -> &[u8] {
    header.last_chunk::<4>().map_or(&[][..], |sum| &sum[..])
}

pub(super) fn encode_header(
    identity: Identity,
    group: u64,
    metadata: &SnapshotMetadata,
    note: &[u8],
) -> Vec<u8> {
    let mut conf_state = Vec::new();
    put_conf_state(&mut conf_state, &metadata.conf_state);
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let header_bytes = 72 + len_u64(conf_state.len()) + len_u64(note.len());
    out.extend_from_slice(
        &u32::try_from(header_bytes)
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    identity.encode(&mut out);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&metadata.term.get().to_le_bytes());
    out.extend_from_slice(&metadata.index.get().to_le_bytes());
    out.extend_from_slice(&conf_state);
    out.extend_from_slice(&u32::try_from(note.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(note);
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The header without its checksum, if that is good.
pub(super) fn verified(header: &[u8]) -> Option<&[u8]> {
    let (covered, checksum) = header.split_last_chunk()?;
    (crc32c::crc32c(covered) == u32::from_le_bytes(*checksum)).then_some(covered)
}

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) group: u64,
    pub(super) metadata: SnapshotMetadata,
    pub(super) note: Bytes,
}

pub(super) fn is_supported(version: u32) -> bool {
    matches!(version, VERSION_WITHOUT_NOTE | VERSION)
}

pub(super) fn decode_header(version: u32, covered: &[u8]) -> Option<Header> {
    let mut reader = Reader(covered.get(16..)?);
    let identity = Identity::decode(&mut reader)?;
    let group = reader.u64()?;
    let term = Term::new(reader.u64()?);
    let index = LogIndex::new(reader.u64()?);
    let conf_state = decode_conf_state(&mut reader)?;
    let note = if version == VERSION_WITHOUT_NOTE {
        Bytes::new()
    } else {
        let note_bytes = usize::try_from(reader.u32()?).ok()?;
        if note_bytes > NOTE_BYTES_MAX {
            return None;
        }
        Bytes::copy_from_slice(reader.take(note_bytes)?)
    };
    reader.end()?;
    Some(Header {
        identity,
        group,
        metadata: SnapshotMetadata {
            index,
            term,
            conf_state,
        },
        note,
    })
}

/// The footer. Its checksum also covers the header's, so that the ends of two
/// files cannot be mixed up.
pub(super) fn encode_footer(
    header_checksum: &[u8],
    data_bytes: u64,
    data_checksum: u32,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&FOOTER_MAGIC);
    out.extend_from_slice(&data_bytes.to_le_bytes());
    out.extend_from_slice(&data_checksum.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(header_checksum), &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}
