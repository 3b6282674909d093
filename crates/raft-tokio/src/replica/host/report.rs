//! # The status
//!
//! What everybody can see of this replica, brought up to date at the end of a
//! turn if somebody watches, and now and then otherwise.
//!
//! - Emits: the status, and its numbers.

use super::{Node, ReplicaHost};
use crate::status::{ReplicaStatus, Waiting};

impl ReplicaHost {
    pub(super) fn publish(&mut self, node: &Node) {
        let watched = self.status.receiver_count() > 0;
        if !self.status_stale && !watched {
            return;
        }
        #[cfg(feature = "metrics")]
        let is_due = std::mem::take(&mut self.status_stale);
        #[cfg(not(feature = "metrics"))]
        {
            self.status_stale = false;
        }
        let (applied, snapshot_index, leader_changes) =
            (self.applied, self.snapshots.stored(), self.leader_changes);
        let waiting = Waiting {
            proposals: self.waiters.len(),
            forwards: self.forwards.len(),
            reads: self.reads.len(),
            writes: self.writes.len(),
            log_reads: node.storage().reads_under_way(),
        };
        let proposals_failed = self.refused + self.forwards.failed();
        let disk_lag = self.disk_lag();
        let disk_stalled = self.writes.is_stalled();
        let log_read_stall = self.log_read_stall(node);
        let apply_stall = self.apply_stall();
        let appends_dropped = self.appends_dropped;
        let overloaded = self.is_overloaded(node);
        let unapplied_bytes = self.unapplied_bytes(node);
        let shutting_down = self.drain_until.is_some();
        self.status.send_if_modified(|status| {
            let fresh = node.status();
            let next = ReplicaStatus {
                id: fresh.id,
                role: fresh.soft_state.role,
                term: fresh.hard_state.term,
                leader: fresh.soft_state.leader,
                commit: fresh.hard_state.commit,
                applied,
                first_index: fresh.first_index,
                last_index: fresh.last_index,
                snapshot_index,
                tail_entries: node.storage().tail_entries(),
                tail_bytes: node.storage().tail_bytes(),
                conf_state: fresh.conf_state,
                addresses: self.configuration.addresses.clone(),
                transferee: fresh.transferee,
                progress: fresh.progress,
                leader_changes,
                proposals_failed,
                disk_lag,
                disk_stalled,
                log_read_stall,
                log_damaged_at: node.storage().damaged_at(),
                lost_entries: fresh.lost_entries,
                apply_stall,
                overloaded,
                unapplied_bytes,
                appends_dropped,
                waiting,
                shutting_down,
                stopped: None,
            };
            let changed = *status != next;
            *status = next;
            changed
        });
        #[cfg(feature = "metrics")]
        if is_due {
            self.recorder.record(&self.status.borrow());
        }
    }
}
