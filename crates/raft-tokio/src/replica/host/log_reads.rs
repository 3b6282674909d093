//! # Old entries
//!
//! Entries that a follower lacks and only the disk has. The view of the log says
//! which; the log store reads them on a thread of its own, and then the node
//! tries the follower again. Nothing waits for it here. Entries that cannot be
//! read are no disaster while the state machine has them applied: the follower
//! gets a snapshot.
//!
//! - Owns: nothing; the reads are in the view.
//! - Emits: reads.

use std::time::Duration;

use raft_core::Entries;

use super::{Node, ReplicaHost};
use crate::log_store::{LogReadDone, LogReadError};
use crate::replica::log_view::{ReadNumber, ReadOutcome};
use crate::replica::request::Event;

impl ReplicaHost {
    /// Starts the reads that this turn gave rise to.
    pub(super) fn read_log(&mut self, node: &mut Node) {
        if node.storage().wants_reads() {
            for (number, request) in node.storage_mut().take_reads() {
                let events = self.events.clone();
                let done = LogReadDone::new(move |result| {
                    // A loop that is gone no longer waits.
                    let _ = events.send(Event::LogRead { number, result });
                });
                self.log.read(request, done);
            }
        }
        if node.storage_mut().take_snapshot_wish() {
            self.begin_snapshot();
        }
    }

    pub(super) fn on_log_read(
        node: &mut Node,
        number: ReadNumber,
        result: Result<Entries, LogReadError>,
    ) {
        let error = result.as_ref().err().cloned();
        let outcome = node.storage_mut().on_read(number, result);
        let (id, term) = (node.id(), node.term());
        match (outcome, error) {
            (ReadOutcome::Unwanted | ReadOutcome::Brought, _)
            | (ReadOutcome::GivenUp, Some(LogReadError::Compacted)) => {}
            (ReadOutcome::TriedAgain, Some(error)) => {
                tracing::warn!(node = %id, %term, %error, "old entries were not read; they are tried again");
            }
            (ReadOutcome::GivenUp | ReadOutcome::TriedAgain, error) => {
                let error: &dyn std::fmt::Display = match &error {
                    Some(error) => error,
                    None => &"the log store has other entries than those that were written",
                };
                tracing::error!(node = %id, %term, %error,
                    "old entries cannot be read; a follower that lacks them gets a snapshot");
            }
        }
        // A node that has halted ends the loop with the next turn.
        let _ = node.entries_available();
    }

    pub(super) fn watch_log_reads(node: &mut Node, now: u64) {
        let was_stalled = node.storage().reads_stalled_since().is_some();
        let must_look_again = node.storage_mut().on_tick(now);
        if !was_stalled && node.storage().reads_stalled_since().is_some() {
            tracing::error!(node = %node.id(), term = %node.term(),
                "the disk does not answer a read of old entries; \
                 a follower that lacks them gets a snapshot. Look at the disk");
        }
        if must_look_again {
            // A node that has halted ends the loop with the next turn.
            let _ = node.entries_available();
        }
    }

    /// How long the disk has owed a read of old entries, if it has for too long.
    pub(super) fn log_read_stall(&self, node: &Node) -> Option<Duration> {
        let since = node.storage().reads_stalled_since()?;
        Some(self.ticks_to_time(self.now().saturating_sub(since)))
    }
}
