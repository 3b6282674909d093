//! # Inflights
//!
//! The append messages that are on their way to one follower: a window limited
//! in messages and in bytes, which acknowledgements open again.
//!
//! - Owns: the last index and the bytes of each message in flight.
//! - Source: thesis §10.2.1 (pipelining); etcd `tracker.Inflights`.

use alloc::collections::VecDeque;

use super::InflightLimits;
use crate::types::LogIndex;

/// The append messages in flight, oldest first.
///
/// # Invariants
/// - `bytes` is the sum over the messages.
/// - The last indexes ascend.
#[derive(Clone, Debug)]
pub struct Inflights {
    messages: VecDeque<InflightMessage>,
    bytes: u64,
    limits: InflightLimits,
}

#[derive(Clone, Copy, Debug)]
struct InflightMessage {
    last: LogIndex,
    bytes: u64,
}

impl Inflights {
    /// Nothing in flight. The window grows on demand.
    pub fn new(limits: InflightLimits) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            limits,
        }
    }

    /// Records a message whose last entry is at `last` and whose entries have
    /// `bytes` of data.
    pub fn add(&mut self, last: LogIndex, bytes: u64) {
        self.messages.push_back(InflightMessage { last, bytes });
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Frees every message that ends at `acked` or before.
    pub fn free_to(&mut self, acked: LogIndex) {
        while let Some(oldest) = self.messages.front() {
            if oldest.last > acked {
                break;
            }
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.messages.pop_front();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// Whether no more may be sent. The limit of bytes is soft: it is looked at
    /// before a message, so one message may go over it.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= self.limits.messages_max || self.bytes >= self.limits.bytes_max
    }

    /// How many messages are in flight.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes of entry data are in flight.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the invariants hold.
    pub fn is_sound(&self) -> bool {
        let bytes = self
            .messages
            .iter()
            .fold(0_u64, |sum, message| sum.saturating_add(message.bytes));
        let lasts = self.messages.iter().map(|message| message.last);
        bytes == self.bytes && lasts.is_sorted_by(|a, b| a < b)
    }
}
