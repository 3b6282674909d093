//! # The store
//!
//! Owns the keys and their values. A snapshot must not stop the service, so the
//! keys are spread over shards that are shared with the snapshot while it is
//! written; a shard is copied when it changes under one, and only then.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::BytesMut;
use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};

use super::operation::{Condition, Operation, SetReply};
use super::pair::Pair;
use crate::resp::{parse_integer, write};

/// The longest value, in bytes. All replicas must agree on it.
pub const VALUE_BYTES_MAX: usize = 32 << 20;

/// The longest reply to one operation that reads several values, in bytes. All
/// replicas must agree on it.
pub const REPLY_BYTES_MAX: usize = 32 << 20;

/// More shards make a copy under a snapshot smaller, and an image larger. All
/// replicas agree on it, so that the same state is the same snapshot.
const SHARDS: u32 = 1024;

pub(super) type Shard = Arc<HashTable<Pair>>;

/// Keys and values.
#[derive(Debug)]
pub struct Store {
    shards: Vec<Shard>,
    /// Of the keys within a shard. Differs between replicas, and may: no order of
    /// keys is ever seen.
    hasher: RandomState,
    len: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            shards: vec![Shard::default(); SHARDS as usize],
            hasher: RandomState::new(),
            len: 0,
        }
    }
}

impl Store {
    /// How many keys have values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = self.hasher.hash_one(key);
        let pair = self.shards[shard_of(key)].find(hash, |pair| pair.key() == key);
        pair.map(Pair::value)
    }

    /// Gives a key a value.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(key);
        let shard = Arc::make_mut(&mut self.shards[shard_of(key)]);
        let slot = shard.entry(
            hash,
            |pair| pair.key() == key,
            |pair| hasher.hash_one(pair.key()),
        );
        match slot {
            Entry::Occupied(mut slot) => slot.get_mut().set_value(value),
            Entry::Vacant(slot) => {
                slot.insert(Pair::new(key, value));
                self.len += 1;
            }
        }
    }

    /// Takes a key away; whether it had a value.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let shard = &mut self.shards[shard_of(key)];
        // A shard that does not change need not be copied.
        if shard.find(hash, |pair| pair.key() == key).is_none() {
            return false;
        }
        let found = Arc::make_mut(shard).find_entry(hash, |pair| pair.key() == key);
        let removed = found.map(OccupiedEntry::remove).is_ok();
        self.len -= usize::from(removed);
        removed
    }

    /// The state as it is now: shards that are copied once they change.
    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Does one operation and writes its reply.
    pub(super) fn execute(&mut self, operation: &Operation<'_>, out: &mut BytesMut) {
        match operation {
            Operation::Set {
                key,
                value,
                condition,
                reply,
            } => self.set(key, value, *condition, *reply, out),
            Operation::Delete { keys } => {
                let removed = keys.iter().filter(|key| self.remove(key)).count();
                put_count(out, removed);
            }
            Operation::Add { key, delta } => self.add(key, *delta, out),
            Operation::SetMany { pairs } => {
                for (key, value) in pairs {
                    self.insert(key, value);
                }
                write::simple(out, "OK");
            }
            Operation::Append { key, suffix } => self.append(key, suffix, out),
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::GetMany { .. }
            | Operation::Length { .. }
            | Operation::Count => self.answer(operation, out),
        }
    }

    /// Answers one question; an operation that writes is refused.
    pub(super) fn answer(&self, operation: &Operation<'_>, out: &mut BytesMut) {
        match operation {
            Operation::Get { key } => put_value(out, self.value(key)),
            Operation::Exists { keys } => {
                let present = keys.iter().filter(|key| self.value(key).is_some());
                put_count(out, present.count());
            }
            Operation::GetMany { keys } => {
                let values = || keys.iter().map(|key| self.value(key));
                let bytes: usize = values().flatten().map(<[u8]>::len).sum();
                if bytes > REPLY_BYTES_MAX {
                    let message = format!(
                        "ERR the reply would be larger than {REPLY_BYTES_MAX} bytes; ask for fewer keys"
                    );
                    return write::error(out, &message);
                }
                write::array(out, keys.len());
                for value in values() {
                    put_value(out, value);
                }
            }
            Operation::Length { key } => put_count(out, self.value(key).map_or(0, <[u8]>::len)),
            Operation::Count => put_count(out, self.len()),
            Operation::Set { .. }
            | Operation::Delete { .. }
            | Operation::Add { .. }
            | Operation::SetMany { .. }
            | Operation::Append { .. } => {
                write::error(out, "ERR a query cannot write; send it as a command");
            }
        }
    }

    fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        condition: Condition,
        reply: SetReply,
        out: &mut BytesMut,
    ) {
        if (condition, reply) == (Condition::Always, SetReply::Done) {
            write::simple(out, "OK");
            return self.insert(key, value);
        }
        let previous = self.value(key);
        let writes = match condition {
            Condition::Always => true,
            Condition::IfAbsent => previous.is_none(),
            Condition::IfPresent => previous.is_some(),
        };
        match reply {
            SetReply::Previous => put_value(out, previous),
            SetReply::Done if writes => write::simple(out, "OK"),
            SetReply::Done => write::nil(out),
        }
        if writes {
            self.insert(key, value);
        }
    }

    fn add(&mut self, key: &[u8], delta: i64, out: &mut BytesMut) {
        let current = self.value(key).map_or(Some(0), parse_integer);
        let Some(current) = current else {
            return write::error(out, "ERR value is not an integer or out of range");
        };
        let Some(sum) = current.checked_add(delta) else {
            return write::error(out, "ERR increment or decrement would overflow");
        };
        self.insert(key, sum.to_string().as_bytes());
        write::integer(out, sum);
    }

    fn append(&mut self, key: &[u8], suffix: &[u8], out: &mut BytesMut) {
        let old = self.value(key);
        let len = old.map_or(0, <[u8]>::len).saturating_add(suffix.len());
        if len > VALUE_BYTES_MAX {
            let message = format!("ERR the value would be larger than {VALUE_BYTES_MAX} bytes");
            return write::error(out, &message);
        }
        if !suffix.is_empty() || old.is_none() {
            let value = [old.unwrap_or_default(), suffix].concat();
            self.insert(key, &value);
        }
        put_count(out, len);
    }
}

/// A key's shard follows from its checksum alone, so it is the same on every
/// replica. Keys that were chosen to meet in one shard make a larger copy under a
/// snapshot and no slower look-up: within a shard the hash is keyed.
fn shard_of(key: &[u8]) -> usize {
    (crc32c::crc32c(key) % SHARDS) as usize
}

fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => write::bulk(out, value),
        None => write::nil(out),
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    write::integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}
