//! # Writes under way
//!
//! What was handed to the log store and is not done. Once a write is done the
//! view of the log follows, and its receipts and messages go out. A disk that
//! does not answer is noticed here, and leading is left to others.
//!
//! - Owns: the writes, in order, and when one was last done.
//! - Emits: writes, receipts, the messages that had to wait for the disk.
//! - Source: thesis §10.2.1 (the leader's write runs beside replication).

use std::collections::VecDeque;
use std::time::Duration;

use raft_core::{AppendOutcome, Candidacy, Entries, HardState, RoleKind, Snapshot, StorageAppend};
use tokio::sync::mpsc;

use super::leadership::{Successor, successor};
use super::{Node, ReplicaHost};
use crate::box_error::BoxError;
use crate::error::ProposeError;
use crate::log_store::{Durability, LogStoreError, LogWrite, WriteDone};
use crate::replica::apply::ApplyWork;
use crate::replica::configuration::Configuration;
use crate::replica::request::Event;
use crate::replica::written::{WriteReports, Written};
use crate::task::StopReason;

/// A write of a Ready that was handed to the log store.
#[derive(Debug)]
struct PendingWrite {
    hard_state: Option<HardState>,
    entries: Entries,
    /// What the entries take, encoded.
    bytes: u64,
    snapshot: Option<Snapshot>,
    /// How many outcomes it has.
    outcomes: usize,
    since_tick: u64,
}

/// Whether the disk keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiskState {
    #[default]
    Working,
    /// It has finished nothing for an election timeout.
    Stalled,
}

/// The writes that are not done, oldest first.
pub(super) struct Writes {
    reports: WriteReports,
    /// Reports that are being worked off, kept for their room.
    reported: Vec<Written>,
    pending: VecDeque<PendingWrite>,
    /// What follows from those in `pending`, in order. One list for all of them,
    /// which keeps its room.
    outcomes: VecDeque<AppendOutcome>,
    /// The number of the oldest in `pending`.
    first: u64,
    /// What the entries in `pending` take, encoded.
    bytes: u64,
    /// The tick in which a write was last done.
    done_tick: u64,
    disk: DiskState,
}

impl Writes {
    /// None yet.
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            reports: WriteReports::new(events),
            reported: Vec::new(),
            pending: VecDeque::new(),
            outcomes: VecDeque::new(),
            first: 0,
            bytes: 0,
            done_tick: 0,
            disk: DiskState::Working,
        }
    }

    /// Puts a write behind the others, and says whom its end is told.
    fn push(&mut self, write: PendingWrite) -> WriteDone {
        let number = self.first + u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        self.bytes += write.bytes;
        self.pending.push_back(write);
        WriteDone::numbered(self.reports.listener(), number)
    }

    /// Takes out the oldest write if it is one of those up to `number`, all of
    /// which are done: writes are done in order.
    fn take_done(&mut self, number: u64) -> Option<PendingWrite> {
        if self.first > number {
            return None;
        }
        let write = self.pending.pop_front()?;
        self.first += 1;
        self.bytes -= write.bytes;
        Some(write)
    }

    /// For how many ticks the disk has owed an answer and given none.
    fn quiet_ticks(&self, now: u64) -> u64 {
        self.pending.front().map_or(0, |oldest| {
            now.saturating_sub(oldest.since_tick.max(self.done_tick))
        })
    }

    /// How many ticks old the oldest write is.
    fn lag_ticks(&self, now: u64) -> u64 {
        self.pending
            .front()
            .map_or(0, |oldest| now.saturating_sub(oldest.since_tick))
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// What the entries in them take, encoded.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.disk == DiskState::Stalled
    }
}

impl ReplicaHost {
    /// Empties the write, so that the next one is made in its place.
    pub(super) fn write(&mut self, append: &mut StorageAppend, must_sync: bool) {
        let hard_state = append.hard_state.take();
        let entries = std::mem::take(&mut append.entries);
        let snapshot = append.snapshot.take();
        let outcomes = append.responses.len();
        self.writes.outcomes.extend(append.responses.drain(..));
        let write = LogWrite {
            hard_state,
            entries: entries.clone(),
            snapshot: snapshot.clone(),
            durability: if must_sync || snapshot.is_some() {
                Durability::Synced
            } else {
                Durability::Ordered
            },
        };
        if let Some(snapshot) = &snapshot {
            self.snapshots.on_taken(snapshot.metadata.id());
        }
        let done = self.writes.push(PendingWrite {
            hard_state,
            bytes: entries.encoded_bytes(),
            entries,
            snapshot,
            outcomes,
            since_tick: self.now(),
        });
        self.log.append(write, done);
    }

    /// Works off which writes are done. Whether there were any; if not, the next
    /// one wakes the loop.
    pub(super) fn take_written(&mut self, node: &mut Node) -> bool {
        let mut reported = std::mem::take(&mut self.writes.reported);
        self.writes.reports.take(&mut reported);
        let is_news = !reported.is_empty();
        for Written { sequence, result } in reported.drain(..) {
            self.on_written(node, sequence, result);
        }
        self.writes.reported = reported;
        is_news
    }

    fn on_written(&mut self, node: &mut Node, sequence: u64, result: Result<(), LogStoreError>) {
        if let Err(error) = result {
            self.on_store_failed(node, &error);
            return;
        }
        self.writes.done_tick = self.now();
        while let Some(write) = self.writes.take_done(sequence) {
            self.on_appended(node, write);
        }
    }

    /// What is on the disk is unknown now, and only a restart can tell.
    pub(super) fn on_store_failed(&mut self, node: &Node, error: &dyn std::fmt::Display) {
        tracing::error!(node = %node.id(), %error, "a write failed; this node stops");
        self.control
            .set_reason(StopReason::Storage(error.to_string()));
        self.control.stop();
    }

    fn on_appended(&mut self, node: &mut Node, write: PendingWrite) {
        let outcomes = write.outcomes;
        if let Err(error) = self.take_in(node, write) {
            self.on_store_failed(node, &error);
            // Nothing may follow from this, and nothing of it from another write.
            let outcomes = outcomes.min(self.writes.outcomes.len());
            self.writes.outcomes.drain(..outcomes);
            return;
        }
        for _ in 0..outcomes {
            match self.writes.outcomes.pop_front() {
                None => break,
                Some(AppendOutcome::Send(message)) => self.send(message),
                Some(AppendOutcome::Receipt(receipt)) => {
                    // That this server is no longer a member is no news here.
                    let _ = node.persisted(receipt);
                }
            }
        }
    }

    /// The core's view of the log takes in what is on the disk now.
    fn take_in(&mut self, node: &mut Node, write: PendingWrite) -> Result<(), BoxError> {
        let PendingWrite {
            hard_state,
            entries,
            snapshot,
            outcomes: _,
            bytes: _,
            since_tick: _,
        } = write;
        if let Some(snapshot) = snapshot {
            let id = snapshot.metadata.id();
            let configuration = Configuration::of(&snapshot)?;
            if node.storage_mut().apply_snapshot(snapshot.clone()).is_ok() {
                for waiter in self.waiters.take_up_to(id.index) {
                    self.refuse(waiter, ProposeError::OutcomeUnknown);
                }
                self.changes.on_snapshot(id.index);
                self.snapshots.on_installed(id);
                self.handed_out = id.index;
                // Whom it speaks of can be reached before anything is applied.
                self.adopt(node, configuration.clone());
                // A state machine that has failed has said so in another event.
                let _ = self.apply.send(ApplyWork::Restore(snapshot, configuration));
            }
        }
        node.storage_mut().append(entries)?;
        if let Some(hard_state) = hard_state {
            node.storage_mut().set_hard_state(hard_state);
        }
        Ok(())
    }

    /// A leader whose disk does not answer holds everybody up: it hands over, or
    /// stops leading, and does not campaign before the disk works again.
    pub(super) fn watch_disk(&mut self, node: &mut Node, now: u64) {
        let patience = u64::from(self.config.election_ticks);
        let quiet = self.writes.quiet_ticks(now);
        let is_alone = node.membership().voters().is_singleton();
        match self.writes.disk {
            DiskState::Working if quiet >= patience => {
                self.writes.disk = DiskState::Stalled;
                tracing::warn!(node = %node.id(), term = %node.term(), ticks = quiet,
                    "the disk has finished nothing for an election timeout; \
                     this node leaves leading to others");
                if is_alone {
                    // There are no others.
                    return;
                }
                node.set_candidacy(Candidacy::Withheld);
                if node.role() == RoleKind::Leader {
                    match successor(node, Successor::CaughtUp) {
                        Some(to) => self.hand_over(node, to),
                        None => node.step_down(),
                    }
                }
            }
            DiskState::Stalled if quiet < patience => {
                self.writes.disk = DiskState::Working;
                tracing::info!(node = %node.id(), term = %node.term(), "the disk works again");
                node.set_candidacy(Candidacy::Allowed);
            }
            // The hand-over failed.
            DiskState::Stalled if quiet >= 2 * patience && !is_alone => node.step_down(),
            DiskState::Working | DiskState::Stalled => {}
        }
    }

    /// How old the oldest write is that is not done.
    pub(super) fn disk_lag(&self) -> Duration {
        self.ticks_to_time(self.writes.lag_ticks(self.now()))
    }
}
