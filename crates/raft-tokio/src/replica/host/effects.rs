//! # Carrying a Ready out
//!
//! Messages go out at once, writes to the log store, committed entries to the
//! state machine, confirmed reads to whoever waits.
//!
//! Between a Ready and the hand-over of its effects there is no await, so no
//! effect can be lost to a cancellation.
//!
//! - Owns: nothing.
//! - Source: etcd `etcdserver/raft.go` (the Ready loop), thesis §10.2.1.

use raft_core::{Body, Entries, EntryType, Ready, ReadyError, RoleKind, SnapshotOutcome};

use super::{Node, ReplicaHost};
use crate::error::ProposeError;
use crate::replica::apply::ApplyWork;

impl ReplicaHost {
    /// Carries out what is ready, if anything is.
    ///
    /// # Errors
    /// The node has halted.
    pub(super) fn carry_out_next(&mut self, node: &mut Node) -> Result<(), ReadyError> {
        if !node.has_ready() {
            return Ok(());
        }
        let mut ready = std::mem::take(&mut self.ready);
        node.ready_into(&mut ready)?;
        self.carry_out(node, &mut ready);
        self.ready = ready;
        Ok(())
    }

    /// Empties the Ready, so that the next one is made in its place.
    fn carry_out(&mut self, node: &mut Node, ready: &mut Ready) {
        for message in ready.messages.drain(..) {
            if let Body::Snapshot(snapshot) = &message.body
                && !self.lets_leave(node, message.to, &snapshot.metadata)
            {
                // Not again before the next heartbeat.
                node.report_snapshot(message.to, SnapshotOutcome::Failed);
                continue;
            }
            self.send(message);
        }
        if let Some(append) = &mut ready.append {
            self.write(append, ready.must_sync);
        }
        if let Some(apply) = ready.apply.take() {
            self.hand_out(node, &apply.entries, apply.receipt);
        }
        for read in ready.read_states.drain(..) {
            let asked = self.reads.confirm(&read.context, read.index);
            if let Some(asked) = asked
                && node.role() == RoleKind::Leader
            {
                self.lease.extend(node.term(), asked);
            }
        }
        if let Some(soft_state) = ready.soft_state.take() {
            self.on_soft_state(node, soft_state);
        }
    }

    fn hand_out(
        &mut self,
        node: &mut Node,
        entries: &Entries,
        receipt: Option<raft_core::ApplyReceipt>,
    ) {
        let mut superseded = Vec::new();
        let waiters = self.waiters.take_committed(entries, &mut superseded);
        for waiter in superseded {
            self.refuse(waiter, ProposeError::Superseded);
        }
        let mut is_reconfigured = false;
        for entry in entries.iter() {
            if entry.entry_type() == EntryType::Normal {
                continue;
            }
            let result = match entry.conf_change() {
                Ok(Some(change)) => {
                    let result = node.apply_conf_change(&change);
                    if let Ok(conf_state) = &result {
                        self.on_reconfigured(node, &change, conf_state.clone());
                        is_reconfigured = true;
                    }
                    result
                }
                Ok(None) => continue,
                Err(malformed) => Err(malformed.into()),
            };
            match &result {
                Ok(conf_state) => {
                    tracing::info!(node = %node.id(), term = %entry.term(), index = %entry.index(),
                        ?conf_state, "the configuration changed");
                }
                Err(error) => {
                    tracing::warn!(node = %node.id(), term = %entry.term(), index = %entry.index(),
                        %error, "a committed configuration change is void");
                }
            }
            self.changes
                .on_conf_change(entry.term(), entry.index(), &result);
        }
        if let Some(last) = entries.last_id() {
            self.handed_out = last.index;
        }
        self.owed.push_entries(waiters);
        // A state machine that has failed has said so in another event.
        let _ = self.apply.send(ApplyWork::Entries {
            entries: entries.clone(),
            receipt,
            configuration: is_reconfigured.then(|| self.configuration.clone()),
        });
    }
}
