//! # The key-value state machine
//!
//! Keys, values, and what commands do to them. Every replica applies the same
//! entries in the same order, so nothing in here reads a clock, draws a number
//! or depends on the order of a hash map.
//!
//! An entry of the log is one or more [`Operation`]s ([`Batch`]), and its reply
//! is their RESP replies one after the other, ready to be sent.

mod answers;
mod operation;
mod pair;
mod snapshot;
mod store;

use std::io::Read;

use bytes::{Bytes, BytesMut};

use crate::memory::{Counted, Memory};

pub use answers::Answers;
pub use operation::{Batch, Condition, Keys, MalformedBatch, Operation, Pairs, SetReply};
pub use snapshot::{MalformedSnapshot, StoreImage};
pub use store::{REPLY_BYTES_MAX, Store, VALUE_BYTES_MAX};

use crate::resp::write;

/// How long the replies to a batch may become before it shows no more values, in
/// bytes: a batch is short, and what it shows need not be. With the last reply it is
/// at most [`REPLY_BYTES_MAX`] longer. All replicas must agree on it.
pub const BATCH_REPLY_BYTES_MAX: usize = 16 << 20;

/// The reply to most writes. It takes no memory of its own.
static OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// The reply to an operation that would show one value too many.
const TOO_MUCH_TO_SHOW: &str = "ERR the values before this one are too large for the reply to \
     one pipeline; nothing was done, ask for it in another pipeline than writes";

/// Replies up to this are copied out of the buffer in which they are written,
/// which stays; longer ones take the buffer along.
const COPIED_REPLY_BYTES_MAX: usize = 1 << 10;

/// What raft-kv replicates.
#[derive(Debug, Default)]
pub struct KvMachine {
    store: Store,
    /// Where replies are written. Empty between batches.
    replies: BytesMut,
    /// What answers that wait for their clients are counted in.
    memory: Memory,
}

/// Answers up to this, in bytes, are not counted: as many as may wait are little.
const UNCOUNTED_BYTES_MAX: usize = 1 << 10;

impl KvMachine {
    /// A machine whose answers to questions find room in `memory`, or are not
    /// given.
    pub fn within(memory: Memory) -> Self {
        Self {
            memory,
            ..Self::default()
        }
    }

    /// Answers a question as a state machine does, with [`Answers`] as bytes. If
    /// there is no room for the reply to a single operation of it, they are the
    /// answers to none.
    pub fn answer(&self, query: &[u8]) -> Bytes {
        let portion = self.memory.left().min(BATCH_REPLY_BYTES_MAX);
        let answers = Answers::encode(self.query_portion(query, portion));
        if answers.len() <= UNCOUNTED_BYTES_MAX {
            return answers;
        }
        match self.memory.try_take(answers.len()) {
            Some(room) => Bytes::from_owner(Counted {
                content: answers,
                _room: room,
            }),
            None => Answers::encode(Ok(Answers::default())),
        }
    }

    /// Does what a committed batch says and returns the replies to it. Once they are
    /// longer than [`BATCH_REPLY_BYTES_MAX`], operations that show values are refused.
    pub fn apply_batch(&mut self, batch: &[u8]) -> Bytes {
        let out = &mut self.replies;
        match Batch::operations(batch) {
            Ok(operations) => {
                for operation in operations {
                    if out.len() > BATCH_REPLY_BYTES_MAX && operation.shows_values() {
                        write::error(out, TOO_MUCH_TO_SHOW);
                    } else {
                        self.store.execute(&operation, out);
                    }
                }
            }
            // The same bytes are malformed on every replica, so all agree.
            Err(error) => write::error(out, &format!("ERR {error}")),
        }
        self.take_replies()
    }

    fn take_replies(&mut self) -> Bytes {
        if self.replies.len() > COPIED_REPLY_BYTES_MAX {
            return std::mem::take(&mut self.replies).freeze();
        }
        let replies = if self.replies == OK {
            OK.clone()
        } else {
            Bytes::copy_from_slice(&self.replies)
        };
        self.replies.clear();
        replies
    }

    /// Answers a batch of questions, or as many of its first as have replies of
    /// [`BATCH_REPLY_BYTES_MAX`] together. Operations that write are refused.
    ///
    /// # Errors
    /// The bytes are no batch.
    pub fn query_batch(&self, batch: &[u8]) -> Result<Answers, MalformedBatch> {
        self.query_portion(batch, BATCH_REPLY_BYTES_MAX)
    }

    fn query_portion(&self, batch: &[u8], portion: usize) -> Result<Answers, MalformedBatch> {
        let mut replies = BytesMut::new();
        let mut count = 0;
        for operation in Batch::operations(batch)? {
            let before = replies.len();
            self.store.answer(&operation, &mut replies);
            if portion < BATCH_REPLY_BYTES_MAX && replies.len() > portion && count > 0 {
                // What came before fits.
                replies.truncate(before);
                break;
            }
            count += 1;
            if replies.len() > portion {
                break;
            }
        }
        Ok(Answers { replies, count })
    }

    /// The state as it is now, which later commands do not change.
    pub fn image(&mut self) -> StoreImage {
        StoreImage::of(&self.store)
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// What comes is not a snapshot of this machine; the state is unchanged.
    pub fn restore_image(&mut self, source: impl Read) -> Result<(), MalformedSnapshot> {
        self.store = snapshot::decode(source)?;
        Ok(())
    }
}

#[cfg(test)]
mod model_tests;
