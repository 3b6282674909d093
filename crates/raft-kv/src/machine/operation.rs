//! # Operations, and how the log spells them
//!
//! A batch is a version byte and one or more operations. An operation is a byte
//! for its kind, a byte of options, the number of its arguments as `u32`, and
//! each argument behind its length as `u32`; all numbers little-endian. `INCR`
//! and its kin have their delta, an `i64`, as second argument.
//!
//! A log is read long after it was written: numbers in here never change their
//! meaning, and whatever else is read is a [`MalformedBatch`].

use bytes::{BufMut, Bytes, BytesMut};
use raft_tokio::sessions::SESSION_BYTES_MAX;
use smallvec::SmallVec;

const VERSION: u8 = 1;

const GET: u8 = 1;
const SET: u8 = 2;
const DELETE: u8 = 3;
const EXISTS: u8 = 4;
const ADD: u8 = 5;
const GET_MANY: u8 = 6;
const SET_MANY: u8 = 7;
const APPEND: u8 = 8;
const LENGTH: u8 = 9;
const COUNT: u8 = 10;

const IF_ABSENT: u8 = 1;
const IF_PRESENT: u8 = 2;
const PREVIOUS: u8 = 4;

/// Several keys.
pub type Keys<'a> = SmallVec<[&'a [u8]; 4]>;

/// Keys and the values that they get.
pub type Pairs<'a> = SmallVec<[(&'a [u8], &'a [u8]); 2]>;

/// When a SET writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// If the key has no value (NX).
    IfAbsent,
    /// If the key has a value (XX).
    IfPresent,
}

/// What a SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetReply {
    /// Whether it wrote.
    #[default]
    Done,
    /// The value that the key had (GET).
    Previous,
}

/// One thing to do, or to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "keys, values and deltas are what their names say"
)]
pub enum Operation<'a> {
    /// The value of a key.
    Get { key: &'a [u8] },
    /// Gives a key a value.
    Set {
        key: &'a [u8],
        value: &'a [u8],
        condition: Condition,
        reply: SetReply,
    },
    /// Removes keys; answers how many there were.
    Delete { keys: Keys<'a> },
    /// How many of the keys have values.
    Exists { keys: Keys<'a> },
    /// Adds to a number; answers the sum.
    Add { key: &'a [u8], delta: i64 },
    /// The values of several keys.
    GetMany { keys: Keys<'a> },
    /// Gives several keys values, all at once.
    SetMany { pairs: Pairs<'a> },
    /// Puts bytes behind a value; answers the new length.
    Append { key: &'a [u8], suffix: &'a [u8] },
    /// The length of a value, in bytes.
    Length { key: &'a [u8] },
    /// How many keys have values.
    Count,
}

impl Operation<'_> {
    /// Whether this only asks.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::Exists { .. }
            | Self::GetMany { .. }
            | Self::Length { .. }
            | Self::Count => true,
            Self::Set { .. }
            | Self::Delete { .. }
            | Self::Add { .. }
            | Self::SetMany { .. }
            | Self::Append { .. } => false,
        }
    }

    /// Whether the reply has values in it, and so may be long.
    pub fn shows_values(&self) -> bool {
        match self {
            Self::Get { .. } | Self::GetMany { .. } => true,
            Self::Set { reply, .. } => *reply == SetReply::Previous,
            Self::Delete { .. }
            | Self::Exists { .. }
            | Self::Add { .. }
            | Self::SetMany { .. }
            | Self::Append { .. }
            | Self::Length { .. }
            | Self::Count => false,
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Get { key } => put(out, GET, 0, [*key]),
            Self::Set {
                key,
                value,
                condition,
                reply,
            } => {
                let condition = match condition {
                    Condition::Always => 0,
                    Condition::IfAbsent => IF_ABSENT,
                    Condition::IfPresent => IF_PRESENT,
                };
                let reply = match reply {
                    SetReply::Done => 0,
                    SetReply::Previous => PREVIOUS,
                };
                put(out, SET, condition | reply, [*key, *value]);
            }
            Self::Delete { keys } => put(out, DELETE, 0, keys.iter().copied()),
            Self::Exists { keys } => put(out, EXISTS, 0, keys.iter().copied()),
            Self::Add { key, delta } => put(out, ADD, 0, [*key, &delta.to_le_bytes()[..]]),
            Self::GetMany { keys } => put(out, GET_MANY, 0, keys.iter().copied()),
            Self::SetMany { pairs } => {
                let flat: Keys<'_> = pairs
                    .iter()
                    .flat_map(|(key, value)| [*key, *value])
                    .collect();
                put(out, SET_MANY, 0, flat.iter().copied());
            }
            Self::Append { key, suffix } => put(out, APPEND, 0, [*key, *suffix]),
            Self::Length { key } => put(out, LENGTH, 0, [*key]),
            Self::Count => put(out, COUNT, 0, []),
        }
    }
}

/// Requests are far shorter than 4 GiB: their limits are `usize` of a parser
/// that refuses more. A longer one would be cut, and refused when it is read.
fn put_len(out: &mut BytesMut, len: usize) {
    out.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Puts an operation behind those of a batch, or at its beginning.
fn put<'a>(
    out: &mut BytesMut,
    kind: u8,
    options: u8,
    arguments: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator + Clone>,
) {
    let arguments = arguments.into_iter();
    let bytes: usize = arguments.clone().map(|argument| 4 + argument.len()).sum();
    if out.is_empty() {
        // One piece of memory, if the batch stays one operation, and nothing is
        // moved when the session is put behind it.
        out.reserve(1 + 6 + bytes + SESSION_BYTES_MAX);
        out.put_u8(VERSION);
    } else {
        out.reserve(6 + bytes);
    }
    out.put_u8(kind);
    out.put_u8(options);
    put_len(out, arguments.len());
    for argument in arguments {
        put_len(out, argument.len());
        out.extend_from_slice(argument);
    }
}

/// The bytes of an entry are no batch of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedBatch {
    /// A newer raft-kv wrote it.
    #[error("the entry is of version {0}, which this raft-kv cannot read; upgrade it")]
    Version(u8),
    /// It ends inside an operation.
    #[error("the entry ends inside an operation")]
    Truncated,
    /// There is no such kind of operation.
    #[error("the entry has an operation of the unknown kind {0}")]
    Kind(u8),
    /// An operation has the wrong options or arguments.
    #[error("the entry has an operation of kind {0} with wrong arguments")]
    Arguments(u8),
}

/// Operations that travel together: through the log in one entry, or to the
/// state in one query.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    encoded: BytesMut,
    len: usize,
    writes: bool,
    shows_values: bool,
}

impl Batch {
    /// No operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation behind the others.
    pub fn push(&mut self, operation: &Operation<'_>) {
        operation.encode(&mut self.encoded);
        self.len += 1;
        self.writes |= !operation.is_read();
        self.shows_values |= operation.shows_values();
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the encoding takes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// Whether one of the operations writes.
    pub fn has_writes(&self) -> bool {
        self.writes
    }

    /// Whether the replies have values in them, and so may be long.
    pub fn shows_values(&self) -> bool {
        self.shows_values
    }

    /// The operations of an encoded batch behind the first `count`.
    ///
    /// # Errors
    /// The bytes are no batch.
    pub fn behind(encoded: &[u8], count: usize) -> Result<Self, MalformedBatch> {
        let mut rest = Self::new();
        for operation in Self::operations(encoded)?.iter().skip(count) {
            rest.push(operation);
        }
        Ok(rest)
    }

    /// The encoding.
    pub fn into_bytes(self) -> Bytes {
        self.encoded.freeze()
    }

    /// The encoding, for whoever puts something behind it.
    pub fn into_buffer(self) -> BytesMut {
        self.encoded
    }

    /// The operations in an encoded batch. All are read before one is returned,
    /// so that a batch is done as a whole or not at all.
    ///
    /// # Errors
    /// The bytes are no batch.
    pub fn operations(encoded: &[u8]) -> Result<SmallVec<[Operation<'_>; 1]>, MalformedBatch> {
        let mut rest = encoded;
        match take_byte(&mut rest)? {
            VERSION => {}
            other => return Err(MalformedBatch::Version(other)),
        }
        let mut operations = SmallVec::new();
        while !rest.is_empty() {
            operations.push(decode(&mut rest)?);
        }
        Ok(operations)
    }
}

fn decode<'a>(rest: &mut &'a [u8]) -> Result<Operation<'a>, MalformedBatch> {
    let kind = take_byte(rest)?;
    let options = take_byte(rest)?;
    let count = take_len(rest)?;
    // Every argument has a length of four bytes, which bounds what is reserved.
    if count > rest.len() / 4 {
        return Err(MalformedBatch::Truncated);
    }
    let mut arguments: Keys<'a> = SmallVec::with_capacity(count);
    for _ in 0..count {
        let len = take_len(rest)?;
        arguments.push(take(rest, len)?);
    }
    let wrong = MalformedBatch::Arguments(kind);
    if options != 0 && kind != SET {
        return Err(wrong);
    }
    Ok(match (kind, arguments.as_slice()) {
        (GET, &[key]) => Operation::Get { key },
        (SET, &[key, value]) => Operation::Set {
            key,
            value,
            condition: match options & !PREVIOUS {
                0 => Condition::Always,
                IF_ABSENT => Condition::IfAbsent,
                IF_PRESENT => Condition::IfPresent,
                _ => return Err(wrong),
            },
            reply: match options & PREVIOUS {
                0 => SetReply::Done,
                _ => SetReply::Previous,
            },
        },
        (DELETE, [_, ..]) => Operation::Delete { keys: arguments },
        (EXISTS, [_, ..]) => Operation::Exists { keys: arguments },
        (ADD, &[key, delta]) => Operation::Add {
            key,
            delta: i64::from_le_bytes(delta.try_into().map_err(|_| wrong)?),
        },
        (GET_MANY, [_, ..]) => Operation::GetMany { keys: arguments },
        (SET_MANY, [_, ..]) => {
            let (pairs, []) = arguments.as_chunks() else {
                return Err(wrong);
            };
            Operation::SetMany {
                pairs: pairs.iter().map(|&[key, value]| (key, value)).collect(),
            }
        }
        (APPEND, &[key, suffix]) => Operation::Append { key, suffix },
        (LENGTH, &[key]) => Operation::Length { key },
        (COUNT, []) => Operation::Count,
        (GET..=COUNT, _) => return Err(wrong),
        (other, _) => return Err(MalformedBatch::Kind(other)),
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], MalformedBatch> {
    rest.split_off(..len).ok_or(MalformedBatch::Truncated)
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, MalformedBatch> {
    rest.split_off_first()
        .copied()
        .ok_or(MalformedBatch::Truncated)
}

fn take_len(rest: &mut &[u8]) -> Result<usize, MalformedBatch> {
    let bytes = take(rest, 4)?;
    let len = u32::from_le_bytes(bytes.try_into().map_err(|_| MalformedBatch::Truncated)?);
    usize::try_from(len).map_err(|_| MalformedBatch::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operations_are_read_as_they_were_written() {
        let encoded;
        let operations = [
            Operation::Get { key: b"k" },
            Operation::Set {
                key: b"k",
                value: b"",
                condition: Condition::IfPresent,
                reply: SetReply::Previous,
            },
            Operation::Delete {
                keys: Keys::from_slice(&[b"a", b"b"]),
            },
            Operation::Add {
                key: b"k",
                delta: i64::MIN,
            },
            Operation::SetMany {
                pairs: Pairs::from_slice(&[(b"a", b"1"), (b"b", b"2")]),
            },
            Operation::Count,
        ];
        let mut batch = Batch::new();
        for operation in &operations {
            batch.push(operation);
        }
        assert!(batch.has_writes());
        encoded = batch.into_bytes();
        assert_eq!(Batch::operations(&encoded).unwrap().as_slice(), operations);
        for end in 0..encoded.len() {
            let _ = Batch::operations(&encoded[..end]);
        }
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        let mut batch = Batch::new();
        batch.push(&Operation::Set {
            key: b"k",
            value: b"vv",
            condition: Condition::IfAbsent,
            reply: SetReply::Done,
        });
        let expected = b"\x01\x02\x01\x02\0\0\0\x01\0\0\0k\x02\0\0\0vv";
        assert_eq!(&batch.into_bytes()[..], expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..60),
        ) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = Batch::operations(&bytes);
        }
    }
}
