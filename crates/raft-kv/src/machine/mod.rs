//! # The key-value state machine
//!
//! Keys, values, and what commands do to them. Every replica applies the same
//! entries in the same order, so nothing in here reads a clock, draws a number
//! or depends on the order of a hash map.
//!
//! An entry of the log is one or more [`Operation`]s ([`Batch`]), and its reply
//! is their RESP replies one after the other, ready to be sent.

mod operation;
mod pair;
mod snapshot;
mod store;

use std::io::Read;

use bytes::{Bytes, BytesMut};

pub use operation::{Batch, Condition, Keys, MalformedBatch, Operation, Pairs, SetReply};
pub use snapshot::{MalformedSnapshot, StoreImage};
pub use store::{REPLY_BYTES_MAX, Store, VALUE_BYTES_MAX};

use crate::resp::write;

/// The reply to most writes. It takes no memory of its own.
static OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// Replies up to this are copied out of the buffer in which they are written,
/// which stays; longer ones take the buffer along.
const COPIED_REPLY_BYTES_MAX: usize = 1 << 10;

/// What raft-kv replicates.
#[derive(Debug, Default)]
pub struct KvMachine {
    store: Store,
    /// Where replies are written. Empty between batches.
    replies: BytesMut,
}

impl KvMachine {
    /// Does what a committed batch says and returns the replies to it.
    pub fn apply_batch(&mut self, batch: &[u8]) -> Bytes {
        let out = &mut self.replies;
        match Batch::operations(batch) {
            Ok(operations) => {
                for operation in operations {
                    self.store.execute(&operation, out);
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

    /// Answers a batch of questions. Operations that write are refused.
    pub fn query_batch(&self, batch: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        match Batch::operations(batch) {
            Ok(operations) => {
                for operation in operations {
                    self.store.answer(&operation, &mut out);
                }
            }
            Err(error) => write::error(&mut out, &format!("ERR {error}")),
        }
        out.freeze()
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
