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

use raft_core::Entries;

use super::{Node, ReplicaHost};
use crate::log_store::{LogReadDone, LogReadError};
use crate::replica::log_view::ReadNumber;
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
        if let Err(error) = &result {
            match error {
                LogReadError::Compacted => {}
                LogReadError::Failed(_) | LogReadError::NotAnswered => {
                    tracing::error!(node = %node.id(), %error,
                        "old entries cannot be read; a follower that lacks them gets a snapshot");
                }
            }
        }
        node.storage_mut().on_read(number, result);
        // A node that has halted ends the loop with the next turn.
        let _ = node.entries_available();
    }
}
