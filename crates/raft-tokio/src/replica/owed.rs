//! # What the state machine owes
//!
//! Who waits for an answer of the state machine: callers whose commands are
//! committed, and reads that are confirmed. It works them off in the order in
//! which they were handed out. They lie here and not in its queue, so that those
//! who have waited too long hear so, whatever the state machine is at.
//!
//! - Owns: these callers, from when their work is handed out until it is done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_core::LogIndex;
use tokio::sync::oneshot;

use super::reads::WaitingRead;
use super::request::{PendingRead, Waiter};
use super::waiters::{CommittedWaiters, EmptyLists};
use crate::error::{ProposeError, ReadError};
use crate::task::Stopped;

/// The callers between the loop and the state machine's task.
#[derive(Clone, Debug, Default)]
pub(super) struct Owed {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// One for each batch of entries that is not applied whole, in order.
    batches: VecDeque<CommittedWaiters>,
    /// One for each batch of reads that is not answered whole, in order.
    reads: VecDeque<VecDeque<WaitingRead>>,
    /// The query that the state machine is at.
    asked: Option<AskedQuery>,
}

#[derive(Debug)]
struct AskedQuery {
    since_tick: u64,
    reply: oneshot::Sender<Result<Bytes, ReadError>>,
}

/// The next read of a batch.
#[derive(Debug)]
pub(super) enum NextRead {
    /// The answer goes to [`Owed::answer`].
    Query(Bytes),
    Barrier(oneshot::Sender<Result<LogIndex, ReadError>>),
}

/// Who hears of no answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pub(super) waiters: Vec<Waiter>,
    pub(super) reads: Vec<PendingRead>,
}

impl Owed {
    // ── the loop ─────────────────────────────────────────────────────────────

    /// A batch of entries is about to be handed out.
    pub(super) fn push_entries(&self, waiters: CommittedWaiters) {
        self.shared().batches.push_back(waiters);
    }

    /// A batch of reads is about to be handed out.
    pub(super) fn push_reads(&self, reads: VecDeque<WaitingRead>) {
        self.shared().reads.push_back(reads);
    }

    /// Takes out who has waited since before `tick`. Their batches stay.
    pub(super) fn take_older_than(&self, tick: u64) -> Unanswered {
        let mut shared = self.shared();
        let mut unanswered = Unanswered::default();
        for batch in &mut shared.batches {
            batch.take_older_than(tick, &mut unanswered.waiters);
        }
        for batch in &mut shared.reads {
            if batch.iter().any(|(_, since)| *since < tick) {
                let (old, young) = batch.drain(..).partition(|(_, since)| *since < tick);
                *batch = young;
                let old: VecDeque<WaitingRead> = old;
                unanswered
                    .reads
                    .extend(old.into_iter().map(|(read, _)| read));
            }
        }
        if let Some(asked) = shared.asked.take_if(|asked| asked.since_tick < tick) {
            unanswered.reads.push(PendingRead::Query {
                query: Bytes::new(),
                reply: asked.reply,
            });
        }
        unanswered
    }

    /// The replica has stopped, and so has the state machine's task, or it never
    /// returns: nobody gets an answer any more. Callers behind other replicas
    /// notice by themselves.
    pub(super) fn refuse_all(&self, stopped: &Stopped) {
        let Unanswered { waiters, reads } = self.take_older_than(u64::MAX);
        for waiter in waiters {
            if let Waiter::Local(reply) = waiter {
                // Whoever asked may have given up.
                let _ = reply.send(Err(ProposeError::OutcomeUnknown));
            }
        }
        for read in reads {
            read.fail(ReadError::Stopped(stopped.clone()));
        }
    }

    // ── the state machine's task ─────────────────────────────────────────────

    /// Whether somebody waits for an entry of the batch that is being applied.
    pub(super) fn is_batch_waited_for(&self) -> bool {
        let shared = self.shared();
        shared
            .batches
            .front()
            .is_some_and(|batch| !batch.is_empty())
    }

    /// Who waits for this entry of the batch that is being applied. Indexes must
    /// be asked in order.
    pub(super) fn take(&self, index: LogIndex) -> Option<Waiter> {
        self.shared().batches.front_mut()?.take(index)
    }

    /// The batch is applied. Whoever was not taken hears of no reply; the lists in
    /// which they waited are free.
    pub(super) fn finish_entries(&self) -> EmptyLists {
        let finished = self.shared().batches.pop_front();
        finished.map_or_else(EmptyLists::new, CommittedWaiters::into_lists)
    }

    /// The next read of the batch that is being answered; `None` ends it.
    pub(super) fn next_read(&self) -> Option<NextRead> {
        let mut shared = self.shared();
        while let Some((read, since_tick)) = shared.reads.front_mut()?.pop_front() {
            match read {
                PendingRead::Query { reply, .. } if reply.is_closed() => {}
                PendingRead::Query { query, reply } => {
                    shared.asked = Some(AskedQuery { since_tick, reply });
                    return Some(NextRead::Query(query));
                }
                PendingRead::Barrier { reply } => return Some(NextRead::Barrier(reply)),
            }
        }
        shared.reads.pop_front();
        None
    }

    /// The answer to the query that was handed out last.
    pub(super) fn answer(&self, answer: Bytes) {
        let asked = self.shared().asked.take();
        if let Some(asked) = asked {
            // Whoever asked may have given up.
            let _ = asked.reply.send(Ok(answer));
        }
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
