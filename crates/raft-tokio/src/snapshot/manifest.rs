//! # What the protocol carries
//!
//! In place of a snapshot's data its length and checksum, and where the members
//! are reached: one format byte, the length as `u64`, the CRC-32C as `u32`, both
//! little-endian, then the [`AddressBook`]. Together with the place in the log
//! they tell data from any other, so that a transfer can be resumed, by another
//! sender too if it has the same bytes.
//!
//! - Owns: nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::{Snapshot, SnapshotMetadata};

use crate::address_book::AddressBook;

const FORMAT: u8 = 2;
/// Without the addresses.
const ENCODED_BYTES: usize = 13;

/// What is known of a snapshot's data without having it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotManifest {
    /// Its length, in bytes.
    pub data_bytes: u64,
    /// Its CRC-32C.
    pub crc32c: u32,
    /// Where the members are reached, as of the snapshot.
    pub addresses: AddressBook,
}

/// A snapshot comes without a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot has no manifest of its data; is its sender another version?")]
pub struct MalformedManifest;

impl SnapshotManifest {
    /// The manifest of data in memory, without addresses.
    pub fn of_data(data: &[u8]) -> Self {
        Self {
            data_bytes: len_u64(data),
            crc32c: crc32c::crc32c(data),
            addresses: AddressBook::default(),
        }
    }

    /// The manifest that a snapshot carries.
    ///
    /// # Errors
    /// It carries something else.
    pub fn of(snapshot: &Snapshot) -> Result<Self, MalformedManifest> {
        let mut data = snapshot.data.as_ref();
        if data.len() < ENCODED_BYTES || data.get_u8() != FORMAT {
            return Err(MalformedManifest);
        }
        Ok(Self {
            data_bytes: data.get_u64_le(),
            crc32c: data.get_u32_le(),
            addresses: AddressBook::decode(data).map_err(|_| MalformedManifest)?,
        })
    }

    /// A snapshot that carries this manifest.
    pub fn snapshot(&self, metadata: SnapshotMetadata) -> Snapshot {
        Snapshot {
            metadata,
            data: self.encode(),
        }
    }

    /// The bytes that stand for the data.
    pub fn encode(&self) -> Bytes {
        let addresses = self.addresses.encode();
        let mut out = BytesMut::with_capacity(ENCODED_BYTES + addresses.len());
        out.put_u8(FORMAT);
        out.put_u64_le(self.data_bytes);
        out.put_u32_le(self.crc32c);
        out.put_slice(&addresses);
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
        let mut manifest = SnapshotManifest::of_data(b"state");
        let two = raft_core::NodeId::new(2).unwrap();
        manifest.addresses.set(two, "10.0.0.2:7000").unwrap();
        let snapshot = manifest.snapshot(SnapshotMetadata::default());
        assert_eq!(SnapshotManifest::of(&snapshot), Ok(manifest.clone()));
        for data in [&b""[..], b"state", &[1; 13], &[2; 12], &[2; 14]] {
            let other = Snapshot {
                data: Bytes::copy_from_slice(data),
                ..snapshot.clone()
            };
            assert_eq!(SnapshotManifest::of(&other), Err(MalformedManifest));
        }
    }
}
