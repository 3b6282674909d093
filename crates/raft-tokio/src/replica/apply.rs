//! # Applying
//!
//! The task that owns the state machine. It gets committed entries, snapshots
//! and reads in the order of the log, and works them off one after the other; a
//! slow command holds up nothing else on the replica.
//!
//! - Owns: the state machine, how far it is, and the configuration there.
//! - Emits: replies, receipts, snapshots.
//! - Source: Raft Fig. 2 (`lastApplied`), §7.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use raft_core::{ApplyReceipt, Entries, EntryId, EntryType, Snapshot, SnapshotMetadata};
use raft_wire::frame::ResponseOutcome;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::configuration::Configuration;
use super::owed::{NextRead, Owed};
use super::reply::Applied;
use super::reports::{AppliedBatch, Reports, Wanted};
use super::request::{Event, Waiter};
use super::restore::restore;
use super::waiters::EmptyLists;
use crate::fairness::let_others_run;
use crate::snapshot::{SnapshotExchange, build};
use crate::state_machine::StateMachine;
use crate::task::panic_text;

/// What the state machine is to do, in order.
#[derive(Debug)]
pub(super) enum ApplyWork {
    /// Apply these, and answer who is owed their replies.
    Entries {
        entries: Entries,
        receipt: Option<ApplyReceipt>,
        /// The configuration behind them, if they change it.
        configuration: Option<Configuration>,
    },
    /// Begin anew from this.
    Restore(Snapshot, Configuration),
    /// Answer the reads that are owed next.
    Reads,
    /// Build a snapshot.
    Snapshot,
}

/// What ties the task to the loop.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) reports: Reports,
    pub(super) owed: Owed,
}

pub(super) struct ApplyTask<M> {
    machine: M,
    applied: EntryId,
    configuration: Configuration,
    links: Links,
    /// Replies for callers behind other replicas, until the batch is applied: a
    /// command that takes long must not find the loop woken and waiting for this
    /// thread.
    remote_replies: Vec<Event>,
    workers: TaskTracker,
    snapshots: SnapshotExchange,
}

/// Works until the queue is closed. A panic of the state machine is reported,
/// and ends it.
pub(super) async fn run<M: StateMachine>(
    mut task: ApplyTask<M>,
    mut queue: mpsc::UnboundedReceiver<ApplyWork>,
) {
    let events = task.links.events.clone();
    while let Some(work) = queue.recv().await {
        let result = match work {
            ApplyWork::Restore(snapshot, configuration) => {
                match task.restore(snapshot, configuration).await {
                    Ok(restored) => {
                        task = restored;
                        Ok(())
                    }
                    Err(failure) => {
                        let _ = events.send(Event::StateMachineFailed(failure));
                        return;
                    }
                }
            }
            ApplyWork::Entries {
                entries,
                receipt,
                configuration,
            } => caught(|| task.apply_batch(&entries, receipt, configuration)),
            ApplyWork::Reads => caught(|| task.answer()),
            ApplyWork::Snapshot => caught(|| task.snapshot()),
        };
        if let Err(failure) = result {
            let _ = events.send(Event::StateMachineFailed(failure));
            return;
        }
        if !queue.is_empty() {
            // Whoever this woke last waits in a slot of this thread that no
            // other thread looks into. If it is the loop, then it must
            // have its turn before the next command, which may take long.
            let_others_run().await;
        }
    }
}

/// Runs the user's code, and says so if it panics.
fn caught(work: impl FnOnce()) -> Result<(), String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(panic.as_ref()))
}

impl<M: StateMachine> ApplyTask<M> {
    pub(super) fn new(
        machine: M,
        applied: EntryId,
        configuration: Configuration,
        links: Links,
        workers: TaskTracker,
        snapshots: SnapshotExchange,
    ) -> Self {
        Self {
            machine,
            applied,
            configuration,
            links,
            remote_replies: Vec::new(),
            workers,
            snapshots,
        }
    }

    fn apply_batch(
        &mut self,
        entries: &Entries,
        receipt: Option<ApplyReceipt>,
        configuration: Option<Configuration>,
    ) {
        self.apply(entries);
        let lists = self.links.owed.finish_entries();
        if let Some(configuration) = configuration {
            self.configuration = configuration;
        }
        self.report(receipt, lists);
    }

    async fn restore(
        mut self,
        snapshot: Snapshot,
        configuration: Configuration,
    ) -> Result<Self, String> {
        let id = snapshot.metadata.id();
        let storage = self.snapshots.storage().clone();
        self.machine = restore(self.machine, snapshot, storage)
            .await
            .map_err(|failed| format!("it cannot read a snapshot: {}", failed.error))?;
        self.applied = id;
        self.configuration = configuration;
        self.report(None, EmptyLists::new());
        Ok(self)
    }

    fn report(&mut self, receipt: Option<ApplyReceipt>, lists: EmptyLists) {
        let wanted = self.links.reports.leave(AppliedBatch {
            index: self.applied.index,
            receipt,
            lists,
        });
        // A loop that is gone no longer asks how far this is.
        if wanted == Wanted::AtOnce {
            let _ = self.links.events.send(Event::Applied);
        }
        for reply in self.remote_replies.drain(..) {
            let _ = self.links.events.send(reply);
        }
    }

    fn apply(&mut self, entries: &Entries) {
        // Nobody comes later.
        let is_waited_for = self.links.owed.is_batch_waited_for();
        for entry in entries.slices().flatten() {
            let index = entry.index();
            let is_command = entry.entry_type() == EntryType::Normal && !entry.data().is_empty();
            let reply = is_command.then(|| self.machine.apply(index, entry.data()));
            self.applied = entry.id();
            if let Some(reply) = reply
                && is_waited_for
                && let Some(waiter) = self.links.owed.take(index)
            {
                self.reply(waiter, entry.id(), reply);
            }
        }
    }

    fn reply(&mut self, waiter: Waiter, id: EntryId, reply: Bytes) {
        match waiter {
            Waiter::Local(waiting) => {
                // Whoever asked may have given up.
                let _ = waiting.send(Ok(Applied {
                    reply,
                    index: id.index,
                    term: id.term,
                }));
            }
            Waiter::Remote {
                from: to,
                id: number,
            } => {
                let outcome = ResponseOutcome::Done {
                    payload: super::forwards::encode_reply(id, &reply),
                };
                self.remote_replies.push(Event::RemoteReply {
                    to,
                    id: number,
                    outcome,
                });
            }
        }
    }

    fn answer(&mut self) {
        while let Some(read) = self.links.owed.next_read() {
            match read {
                NextRead::Query(query) => {
                    let answer = self.machine.query(&query);
                    self.links.owed.answer(answer);
                }
                NextRead::Barrier(reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(Ok(self.applied.index));
                }
            }
        }
    }

    fn snapshot(&mut self) {
        let metadata = SnapshotMetadata {
            index: self.applied.index,
            term: self.applied.term,
            conf_state: self.configuration.conf_state.clone(),
        };
        let addresses = self.configuration.addresses.clone();
        let job = self.machine.snapshot();
        let events = self.links.events.clone();
        let snapshots = self.snapshots.clone();
        self.workers.spawn_blocking(move || {
            snapshots.protect(metadata.id());
            let storage = snapshots.storage().as_ref();
            let build = AssertUnwindSafe(|| build(storage, metadata, &addresses, job));
            let built = std::panic::catch_unwind(build)
                .unwrap_or_else(|panic| Err(panic_text(panic.as_ref()).into()));
            let _ = events.send(Event::SnapshotBuilt(built));
        });
    }
}
