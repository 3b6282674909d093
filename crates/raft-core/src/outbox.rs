//! # The outbox
//!
//! What is to be sent: at once, or only when everything before it is durable.
//! The rule that separates the two is the safety of the protocol on a disk that
//! may lose what was not synced.
//!
//! A vote and an acknowledgement are promises that a restart must not break
//! (Raft §5.2, thesis §3.8), so they wait for the write that they rest on, and
//! for every write before it. A rejection waits too: it may rest on a vote or
//! an entry that is not durable yet. So does a request for a vote: it says what
//! the log has and which term has begun, and whoever grants it counts on both. A
//! candidate that lost them could campaign once more in the same term, and be
//! elected with votes for a log that it does not have any more. (etcd sends it at
//! once, and so does a node with [`Protections::Off`].) Everything else may
//! overtake the disk: a leader that replicates before its own write is durable
//! only counts itself when it is (thesis §10.2.1).
//!
//! - Owns: messages to send, answers that wait, reads that are done.
//! - Source: thesis §3.8, §10.2.1; etcd `raft.send`.

use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;

use crate::config::{Protections, StorageWrites};
use crate::ready::{AppendOutcome, AppendReceipt, OwnAnswer, ReadState, SelfAck};
use crate::types::{Body, Message, Round};

/// What this server answers itself. Rarely more than one.
pub(crate) type OwnAnswers = SmallVec<[OwnAnswer; 1]>;

#[derive(Debug)]
pub(crate) struct Outbox {
    storage_writes: StorageWrites,
    protections: Protections,
    now: Vec<Message>,
    after_append: Vec<AppendOutcome>,
    /// In synchronous use, what `advance` hands back. Otherwise the receipts
    /// among the outcomes take its place.
    own: OwnAnswers,
    read_states: Vec<ReadState>,
}

impl Outbox {
    pub(crate) fn new(storage_writes: StorageWrites, protections: Protections) -> Self {
        Self {
            storage_writes,
            protections,
            now: Vec::new(),
            after_append: Vec::new(),
            own: OwnAnswers::new(),
            read_states: Vec::new(),
        }
    }

    /// Sends a message, or lets it wait for the disk if it is a promise.
    #[expect(
        clippy::inline_always,
        reason = "built where it is sent, a message is not moved in pieces"
    )]
    #[inline(always)]
    pub(crate) fn send(&mut self, message: Message) {
        match message.body {
            Body::AppendResponse(_) | Body::VoteResponse { .. } => {
                self.after_append.push(AppendOutcome::Send(message));
            }
            // A pre-vote binds nobody.
            Body::RequestVote {
                round: Round::Vote, ..
            } if self.protections == Protections::On => {
                self.after_append.push(AppendOutcome::Send(message));
            }
            _ => self.now.push(message),
        }
    }

    /// Sends an append at once.
    #[inline]
    pub(crate) fn send_append(&mut self, make: impl FnOnce() -> Message) {
        push_built(&mut self.now, make);
    }

    /// Lets an acknowledgement wait for the disk.
    #[inline]
    pub(crate) fn send_acceptance(&mut self, make: impl FnOnce() -> Message) {
        push_built(&mut self.after_append, || AppendOutcome::Send(make()));
    }

    /// Lets something that this server answers itself wait for the disk.
    pub(crate) fn answer_self(&mut self, answer: OwnAnswer) {
        match self.storage_writes {
            StorageWrites::Synchronous => self.own.push(answer),
            StorageWrites::Asynchronous => {
                let receipt = AppendReceipt(SelfAck::Answer(answer));
                self.after_append.push(AppendOutcome::Receipt(receipt));
            }
        }
    }

    pub(crate) fn read_done(&mut self, read: ReadState) {
        self.read_states.push(read);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.now.is_empty() && !self.has_after_append() && self.read_states.is_empty()
    }

    /// Whether anything waits for the disk.
    pub(crate) fn has_after_append(&self) -> bool {
        !self.after_append.is_empty() || !self.own.is_empty()
    }

    /// Puts what may be sent at once into `messages`, and keeps its room.
    pub(crate) fn take_now(&mut self, messages: &mut Vec<Message>) {
        messages.clear();
        mem::swap(messages, &mut self.now);
    }

    /// Puts what waits for the disk into `outcomes`, and keeps its room.
    pub(crate) fn take_after_append(&mut self, outcomes: &mut Vec<AppendOutcome>) {
        outcomes.clear();
        mem::swap(outcomes, &mut self.after_append);
    }

    /// Puts what this server answers itself into `answers`.
    pub(crate) fn take_own(&mut self, answers: &mut OwnAnswers) {
        answers.clear();
        mem::swap(answers, &mut self.own);
    }

    /// Puts the reads that are done into `read_states`, and keeps its room.
    pub(crate) fn take_read_states(&mut self, read_states: &mut Vec<ReadState>) {
        read_states.clear();
        mem::swap(read_states, &mut self.read_states);
    }
}

/// Puts an item into a list, built where it will lie. An item that exists while
/// the list grows has to be dropped if that fails, so the compiler keeps it
/// elsewhere and moves it in.
#[inline]
fn push_built<T>(list: &mut Vec<T>, make: impl FnOnce() -> T) {
    if list.len() < list.capacity() {
        list.push(make());
    } else {
        push_and_grow(list, make());
    }
}

#[cold]
#[inline(never)]
fn push_and_grow<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
}
