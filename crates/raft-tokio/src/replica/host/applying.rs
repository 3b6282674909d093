//! # How far applying is
//!
//! Takes the state machine's reports, and decides whether the next one is to
//! wake the loop.
//!
//! - Reads: reports.
//! - Emits: receipts to the core; that a snapshot was read; what the view of the
//!   log may let go.

use super::{Node, ReplicaHost};
use crate::replica::reports::{Untaken, Wanted};
use crate::replica::request::Event;

impl ReplicaHost {
    pub(super) fn take_reports(&mut self, node: &mut Node) {
        self.reports.take(&mut self.reported);
        if self.reported.is_empty() {
            return;
        }
        for batch in self.reported.drain(..) {
            self.applied = self.applied.max(batch.index);
            self.snapshots.on_applied(batch.index);
            if let Some(receipt) = batch.receipt {
                // A node that has halted ends the loop with the next turn.
                let _ = node.applied(receipt);
            }
        }
        node.storage_mut().applied_to(self.applied);
        self.snapshot_if_due();
    }

    /// Says whether something waits for the next report: entries that are
    /// committed and were not handed out, clients in front of a full log, a
    /// configuration that is to be left, a shutdown, or somebody who watches.
    pub(super) fn want_reports(&self, node: &Node) {
        let is_awaited = self.applied < self.handed_out
            && (node.commit_index() > self.handed_out
                || self.drain_until.is_some()
                || self.is_overloaded(node)
                || node.membership().is_joint()
                || self.status.receiver_count() > 0);
        let wanted = if is_awaited {
            Wanted::AtOnce
        } else {
            Wanted::NextTurn
        };
        if self.reports.want(wanted) == Untaken::Some && is_awaited {
            // It came before anybody was told to wake the loop.
            let _ = self.events.send(Event::Applied);
        }
    }
}
