//! # Snapshots of the store
//!
//! `RAFTKV` and a version as `u16`; the number of keys as `u64`; for each key its
//! length as `u32`, the key, the length of its value as `u32`, the value; at the
//! end the CRC-32C of all that as `u32`. All numbers are little-endian.
//!
//! Keys come shard by shard, and within a shard in ascending order, so the same
//! state has the same bytes on every replica. Writing and reading need memory for
//! one pair and for the order of one shard's keys, however large the store is.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::store::{Shard, Store};

const MAGIC: &[u8; 6] = b"RAFTKV";
const VERSION: u16 = 2;

/// How much memory a length alone may take, before its bytes have come.
const PREALLOCATED_BYTES_MAX: usize = 1 << 20;

/// A state of the store that no longer changes.
#[derive(Debug)]
pub struct StoreImage {
    shards: Vec<Shard>,
}

impl StoreImage {
    pub(super) fn of(store: &Store) -> Self {
        Self {
            shards: store.shards().to_vec(),
        }
    }

    /// Writes the snapshot, shard by shard. Each shard is given back once it is
    /// written, so that the store need not copy it any more to change it.
    ///
    /// # Errors
    /// `out` failed.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        let count: u64 = self.shards.iter().map(|shard| shard.len() as u64).sum();
        let mut out = Summing::new(out);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&count.to_le_bytes())?;
        for shard in self.shards {
            let mut pairs: Vec<_> = shard.iter().collect();
            pairs.sort_unstable_by(|one, other| one.key().cmp(other.key()));
            for pair in pairs {
                put_bytes(&mut out, pair.key())?;
                put_bytes(&mut out, pair.value())?;
            }
        }
        let Summing { inner, crc32c } = out;
        inner.write_all(&crc32c.to_le_bytes())
    }

    /// The snapshot in memory.
    pub fn encode(self) -> Bytes {
        let mut out = Vec::new();
        // A vector takes everything.
        let _ = self.write_to(&mut out);
        out.into()
    }
}

/// Keys and values are far shorter than 4 GiB; see `VALUE_BYTES_MAX`.
fn put_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    out.write_all(bytes)
}

/// What goes through here is summed up.
struct Summing<T> {
    inner: T,
    crc32c: u32,
}

impl<T> Summing<T> {
    fn new(inner: T) -> Self {
        Self { inner, crc32c: 0 }
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes[..count]);
        Ok(count)
    }
}

/// The bytes are no snapshot of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedSnapshot {
    /// They are something else.
    #[error("this is not a snapshot of raft-kv")]
    NotASnapshot,
    /// Another raft-kv wrote them.
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
    /// They cannot be read at all.
    #[error("the snapshot cannot be read: {0}; look at the disk")]
    Unreadable(io::ErrorKind),
}

impl From<io::Error> for MalformedSnapshot {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Content,
            kind => Self::Unreadable(kind),
        }
    }
}

/// Reads a snapshot to its end.
pub(super) fn decode(source: impl Read) -> Result<Store, MalformedSnapshot> {
    use MalformedSnapshot as Malformed;
    let mut source = Summing::new(source);
    if take(&mut source) != Ok(*MAGIC) {
        return Err(Malformed::NotASnapshot);
    }
    let version = u16::from_le_bytes(take(&mut source)?);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let count = u64::from_le_bytes(take(&mut source)?);
    let mut store = Store::default();
    for _ in 0..count {
        let key = take_bytes(&mut source)?;
        let value = take_bytes(&mut source)?;
        store.insert(&key, &value);
    }
    let found = source.crc32c;
    let expected = u32::from_le_bytes(take(&mut source)?);
    if found != expected {
        return Err(Malformed::Checksum { expected, found });
    }
    let is_at_end = source.read(&mut [0])? == 0;
    if !is_at_end || store.len() as u64 != count {
        return Err(Malformed::Content);
    }
    Ok(store)
}

fn take<const N: usize>(source: &mut impl Read) -> Result<[u8; N], MalformedSnapshot> {
    let mut taken = [0; N];
    source.read_exact(&mut taken)?;
    Ok(taken)
}

fn take_bytes(source: &mut impl Read) -> Result<Vec<u8>, MalformedSnapshot> {
    let len = u32::from_le_bytes(take(source)?);
    let len = usize::try_from(len).map_err(|_| MalformedSnapshot::Content)?;
    let mut bytes = Vec::with_capacity(len.min(PREALLOCATED_BYTES_MAX));
    source.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(MalformedSnapshot::Content);
    }
    Ok(bytes)
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
        let one = StoreImage::of(&store(&[("a", "1"), ("b", ""), ("c", "3")])).encode();
        let other = store(&[("c", "3"), ("b", "x"), ("a", "1"), ("b", "")]);
        assert_eq!(one, StoreImage::of(&other).encode());
        assert_eq!(StoreImage::of(&decode(&one[..]).unwrap()).encode(), one);
    }

    #[test]
    fn an_image_does_not_see_what_comes_after_it() {
        let mut store = store(&[("a", "1"), ("b", "2")]);
        let image = StoreImage::of(&store);
        let before = StoreImage::of(&store).encode();
        store.insert(b"a", b"new");
        store.remove(b"b");
        assert_eq!(image.encode(), before);
        assert_ne!(StoreImage::of(&store).encode(), before);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let encoded = StoreImage::of(&store(&[("key", "value"), ("other", "")])).encode();
        for end in 0..encoded.len() {
            assert!(decode(&encoded[..end]).is_err(), "cut at {end}");
        }
        for at in 0..encoded.len() {
            let mut damaged = encoded.to_vec();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged[..]).is_err(), "flipped at {at}");
        }
    }
}
