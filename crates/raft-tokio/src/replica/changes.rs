//! # Changes under way
//!
//! Who waits for a change of the members, and who for a change of the leader.
//! There is one of each at a time.
//!
//! - Owns: the two callers.

use raft_core::{ConfChangeError, ConfState, LogIndex, NodeId, Term};

use super::request::{ChangeReply, TransferReply};
use crate::error::{ChangeMembershipError, ProposeError, TransferError};

/// A change of the members that is in the log.
#[derive(Debug)]
struct PendingChange {
    term: Term,
    index: LogIndex,
    since_tick: u64,
    reply: ChangeReply,
    /// Set once the change is applied and only the joint configuration is left
    /// to be left.
    entered: bool,
}

/// A transfer of leadership that was begun.
#[derive(Debug)]
struct PendingTransfer {
    to: NodeId,
    term: Term,
    since_tick: u64,
    reply: TransferReply,
}

#[derive(Debug, Default)]
pub(super) struct Changes {
    change: Option<PendingChange>,
    transfer: Option<PendingTransfer>,
}

impl Changes {
    /// A change was appended at `index`. Whoever waited for an earlier one,
    /// which the log has let go of by now, does not know how it ended.
    pub(super) fn await_change(
        &mut self,
        term: Term,
        index: LogIndex,
        since_tick: u64,
        reply: ChangeReply,
    ) {
        self.fail_change(ProposeError::OutcomeUnknown);
        self.change = Some(PendingChange {
            term,
            index,
            since_tick,
            reply,
            entered: false,
        });
    }

    /// A configuration entry was applied, or was void.
    pub(super) fn on_conf_change(
        &mut self,
        term: Term,
        index: LogIndex,
        result: &Result<ConfState, ConfChangeError>,
    ) {
        let Some(mut change) = self.change.take() else {
            return;
        };
        if !change.entered && index < change.index {
            self.change = Some(change);
            return;
        }
        if !change.entered && (index > change.index || term != change.term) {
            let _ = change.reply.send(Err(ProposeError::Superseded.into()));
            return;
        }
        match result {
            // The leader leaves on its own; the change is in effect when it has.
            Ok(conf_state) if conf_state.is_joint() && conf_state.auto_leave => {
                change.entered = true;
                self.change = Some(change);
            }
            Ok(conf_state) => {
                let _ = change.reply.send(Ok(conf_state.clone()));
            }
            Err(error) => {
                let error = ChangeMembershipError::Invalid(error.clone());
                let _ = change.reply.send(Err(error));
            }
        }
    }

    fn fail_change(&mut self, error: ProposeError) {
        if let Some(change) = self.change.take() {
            let _ = change.reply.send(Err(error.into()));
        }
    }

    /// A transfer to `to` was begun in `term`.
    pub(super) fn await_transfer(
        &mut self,
        to: NodeId,
        term: Term,
        since_tick: u64,
        reply: TransferReply,
    ) {
        self.end_transfer(Err(TransferError::Superseded));
        self.transfer = Some(PendingTransfer {
            to,
            term,
            since_tick,
            reply,
        });
    }

    fn end_transfer(&mut self, result: Result<(), TransferError>) {
        if let Some(transfer) = self.transfer.take() {
            // Whoever asked may have given up.
            let _ = transfer.reply.send(result);
        }
    }

    /// Looks at who leads now, and whom this leader is handing over to.
    pub(super) fn on_leader(
        &mut self,
        term: Term,
        leader: Option<NodeId>,
        is_leader: bool,
        transferee: Option<NodeId>,
    ) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let to = transfer.to;
        match leader {
            Some(leader) if leader == to => self.end_transfer(Ok(())),
            // Still leading, but no longer handing over: it took too long.
            Some(_) if is_leader && transferee != Some(to) => {
                self.end_transfer(Err(TransferError::Failed { to }));
            }
            Some(_) if !is_leader && term > transfer.term => {
                self.end_transfer(Err(TransferError::Superseded));
            }
            _ => {}
        }
    }

    /// Ends the waits that are older than `tick`.
    pub(super) fn expire(&mut self, tick: u64) {
        if self
            .change
            .as_ref()
            .is_some_and(|change| change.since_tick < tick || change.reply.is_closed())
        {
            self.fail_change(ProposeError::OutcomeUnknown);
        }
        // A leader that was deposed and hears of nobody never learns the end.
        if self
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.since_tick < tick)
        {
            self.end_transfer(Err(TransferError::NotLeader { leader: None }));
        }
    }

    /// Drops everybody; the handle knows that the replica has stopped.
    pub(super) fn clear(&mut self) {
        self.change = None;
        self.transfer = None;
    }
}
