//! # Snapshots of the store
//!
//! `RAFTKV` and a version as `u16`; the number of keys as `u64`; for each key,
//! in ascending order, its length as `u32`, the key, the length of its value as
//! `u32`, the value; at the end the CRC-32C of all that as `u32`. All numbers
//! are little-endian. The same state has the same bytes on every replica.

use bytes::{BufMut, Bytes};

use super::store::{Shard, Store};

const MAGIC: &[u8; 6] = b"RAFTKV";
const VERSION: u16 = 1;

/// A state of the store that no longer changes.
#[derive(Debug)]
pub struct StoreImage {
    shards: Vec<Shard>,
}

impl StoreImage {
    pub(super) fn new(shards: Vec<Shard>) -> Self {
        Self { shards }
    }

    /// The bytes of the snapshot. Takes as long as sorting all keys.
    pub fn encode(&self) -> Bytes {
        let mut pairs: Vec<_> = self.shards.iter().flat_map(|shard| shard.iter()).collect();
        pairs.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        let bytes: usize = pairs
            .iter()
            .map(|pair| 8 + pair.key().len() + pair.value().len())
            .sum();
        let mut out = Vec::with_capacity(20 + bytes);
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_u64_le(pairs.len() as u64);
        for pair in pairs {
            put_bytes(&mut out, pair.key());
            put_bytes(&mut out, pair.value());
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32_le(checksum);
        out.into()
    }
}

/// Keys and values are far shorter than 4 GiB; see `VALUE_BYTES_MAX`.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// The bytes are no snapshot of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedSnapshot {
    /// They are something else.
    #[error("this is not a snapshot of raft-kv")]
    NotASnapshot,
    /// A newer raft-kv wrote them.
    #[error("the snapshot is of version {0}, which this raft-kv cannot read; upgrade it")]
    Version(u16),
    /// The checksum is wrong.
    #[error("the snapshot is damaged: its checksum is {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// The one at its end.
        expected: u32,
        /// The one of its bytes.
        found: u32,
    },
    /// The checksum is right and the content is not.
    #[error("the snapshot ends inside a key or a value, or does not end after its last")]
    Content,
}

/// Reads a snapshot.
pub(super) fn decode(encoded: &[u8]) -> Result<Store, MalformedSnapshot> {
    use MalformedSnapshot as Malformed;
    let (content, checksum) = encoded
        .split_last_chunk()
        .ok_or(MalformedSnapshot::NotASnapshot)?;
    let mut rest = content.strip_prefix(MAGIC).ok_or(Malformed::NotASnapshot)?;
    let version = u16::from_le_bytes(take(&mut rest)?);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let expected = u32::from_le_bytes(*checksum);
    let found = crc32c::crc32c(content);
    if found != expected {
        return Err(Malformed::Checksum { expected, found });
    }
    let count = u64::from_le_bytes(take(&mut rest)?);
    let mut store = Store::default();
    for _ in 0..count {
        let key = take_bytes(&mut rest)?;
        let value = take_bytes(&mut rest)?;
        store.insert(key, value);
    }
    if !rest.is_empty() || store.len() as u64 != count {
        return Err(Malformed::Content);
    }
    Ok(store)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MalformedSnapshot> {
    let (taken, behind) = rest.split_first_chunk().ok_or(MalformedSnapshot::Content)?;
    *rest = behind;
    Ok(*taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MalformedSnapshot> {
    let len = u32::from_le_bytes(take(rest)?);
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_off(..len))
        .ok_or(MalformedSnapshot::Content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(pairs: &[(&str, &str)]) -> Store {
        let mut store = Store::default();
        for (key, value) in pairs {
            store.insert(key.as_bytes(), value.as_bytes());
        }
        store
    }

    #[test]
    fn the_same_state_has_the_same_bytes() {
        let one = store(&[("a", "1"), ("b", ""), ("c", "3")]).image().encode();
        let other = store(&[("c", "3"), ("b", "x"), ("a", "1"), ("b", "")]);
        assert_eq!(one, other.image().encode());
        assert_eq!(decode(&one).unwrap().image().encode(), one);
    }

    #[test]
    fn an_image_does_not_see_what_comes_after_it() {
        let mut store = store(&[("a", "1"), ("b", "2")]);
        let image = store.image();
        let before = image.encode();
        store.insert(b"a", b"new");
        store.remove(b"b");
        assert_eq!(image.encode(), before);
        assert_ne!(store.image().encode(), before);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let encoded = store(&[("key", "value"), ("other", "")]).image().encode();
        for end in 0..encoded.len() {
            assert!(decode(&encoded[..end]).is_err(), "cut at {end}");
        }
        for at in 0..encoded.len() {
            let mut damaged = encoded.to_vec();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "flipped at {at}");
        }
    }
}
