//! # What the protocol carries
//!
//! Length and checksum of a snapshot's data, in place of the data: one format
//! byte, the length as `u64`, the CRC-32C as `u32`, both little-endian. Together
//! with the place in the log they tell data from any other, so that a transfer
//! can be resumed, by another sender too if it has the same bytes.
//!
//! - Owns: nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::{Snapshot, SnapshotMetadata};

const FORMAT: u8 = 1;
const ENCODED_BYTES: usize = 13;

/// What is known of a snapshot's data without having it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotManifest {
    /// Its length, in bytes.
    pub data_bytes: u64,
    /// Its CRC-32C.
    pub crc32c: u32,
}

/// A snapshot comes without a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot has no manifest of its data; is its sender another version?")]
pub struct MalformedManifest;

impl SnapshotManifest {
    /// The manifest of data in memory.
    pub fn of_data(data: &[u8]) -> Self {
        Self {
            data_bytes: len_u64(data),
            crc32c: crc32c::crc32c(data),
        }
    }

    /// The manifest that a snapshot carries.
    ///
    /// # Errors
    /// It carries something else.
    pub fn of(snapshot: &Snapshot) -> Result<Self, MalformedManifest> {
        let mut data = snapshot.data.as_ref();
        if data.len() != ENCODED_BYTES || data.get_u8() != FORMAT {
            return Err(MalformedManifest);
        }
        Ok(Self {
            data_bytes: data.get_u64_le(),
            crc32c: data.get_u32_le(),
        })
    }

    /// A snapshot that carries this manifest.
    pub fn snapshot(self, metadata: SnapshotMetadata) -> Snapshot {
        Snapshot {
            metadata,
            data: self.encode(),
        }
    }

    /// The bytes that stand for the data.
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(ENCODED_BYTES);
        out.put_u8(FORMAT);
        out.put_u64_le(self.data_bytes);
        out.put_u32_le(self.crc32c);
        out.freeze()
    }
}

pub(super) fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_manifest_is_read_as_one() {
        let manifest = SnapshotManifest::of_data(b"state");
        let snapshot = manifest.snapshot(SnapshotMetadata::default());
        assert_eq!(SnapshotManifest::of(&snapshot), Ok(manifest));
        for data in [&b""[..], b"state", &[2; 13], &[1; 12], &[1; 14]] {
            let other = Snapshot {
                data: Bytes::copy_from_slice(data),
                ..snapshot.clone()
            };
            assert_eq!(SnapshotManifest::of(&other), Err(MalformedManifest));
        }
    }
}
