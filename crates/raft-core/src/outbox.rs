//! # The outbox
//!
//! What is to be sent: at once, or only when everything before it is durable.
//! The rule that separates the two is the safety of the protocol on a disk that
//! may lose what was not synced.
//!
//! A vote and an acknowledgement are promises that a restart must not break
//! (Raft §5.2, thesis §3.8), so they wait for the write that they rest on, and
//! for every write before it. A rejection waits too: it may rest on a vote or
//! an entry that is not durable yet. Everything else may overtake the disk: a
//! leader that replicates before its own write is durable only counts itself
//! when it is (thesis §10.2.1).
//!
//! - Owns: messages to send, answers that wait, reads that are done.
//! - Source: thesis §3.8, §10.2.1; etcd `raft.send`.

use alloc::vec::{Drain, Vec};

use crate::ready::{AfterAppend, ReadState};
use crate::types::{Body, Message};

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    now: Vec<Message>,
    after_append: Vec<AfterAppend>,
    read_states: Vec<ReadState>,
}

impl Outbox {
    /// Sends a message, or lets it wait for the disk if it is a promise.
    pub(crate) fn send(&mut self, message: Message) {
        match message.body {
            Body::AppendResponse(_) | Body::VoteResponse { .. } => {
                self.after_append.push(AfterAppend::Send(message));
            }
            _ => self.now.push(message),
        }
    }

    /// Lets something that this server tells itself wait for the disk.
    pub(crate) fn acknowledge_self(&mut self, ack: AfterAppend) {
        self.after_append.push(ack);
    }

    pub(crate) fn read_done(&mut self, read: ReadState) {
        self.read_states.push(read);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.now.is_empty() && self.after_append.is_empty() && self.read_states.is_empty()
    }

    pub(crate) fn take_now(&mut self) -> Vec<Message> {
        core::mem::take(&mut self.now)
    }

    /// Takes out what waits, and keeps its room for what comes next.
    pub(crate) fn drain_after_append(&mut self) -> Drain<'_, AfterAppend> {
        self.after_append.drain(..)
    }

    pub(crate) fn take_read_states(&mut self) -> Vec<ReadState> {
        core::mem::take(&mut self.read_states)
    }
}
