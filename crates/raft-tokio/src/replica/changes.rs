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
            // Another change, which was void. This one is in effect but for its end.
            Err(_) if change.entered => self.change = Some(change),
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

    /// A snapshot has replaced the log up to `index`: what became of a change
    /// there, or of one whose end is there, cannot be told.
    pub(super) fn on_snapshot(&mut self, index: LogIndex) {
        if self
            .change
            .as_ref()
            .is_some_and(|change| change.index <= index)
        {
            self.fail_change(ProposeError::OutcomeUnknown);
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Answer = oneshot::Receiver<Result<ConfState, ChangeMembershipError>>;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn voters(ids: &[u64]) -> ConfState {
        ConfState::of_voters(ids.iter().map(|id| node(*id)))
    }

    fn joint() -> ConfState {
        ConfState {
            voters_outgoing: vec![node(1), node(3)],
            auto_leave: true,
            ..voters(&[1, 2])
        }
    }

    fn void() -> Result<ConfState, ConfChangeError> {
        Err(ConfChangeError::NotJoint)
    }

    /// Somebody waits for the change at index 7 of term 2.
    fn waiting() -> (Changes, Answer) {
        let mut changes = Changes::default();
        let (reply, answer) = oneshot::channel();
        changes.await_change(Term::new(2), LogIndex::new(7), 0, reply);
        (changes, answer)
    }

    fn applied(changes: &mut Changes, term: u64, index: u64, conf: ConfState) {
        changes.on_conf_change(Term::new(term), LogIndex::new(index), &Ok(conf));
    }

    #[test]
    fn a_change_is_in_effect_when_its_entry_is_applied() {
        let (mut changes, mut answer) = waiting();
        applied(&mut changes, 1, 6, voters(&[1]));
        assert!(answer.try_recv().is_err());
        applied(&mut changes, 2, 7, voters(&[1, 2]));
        assert_eq!(answer.try_recv().unwrap(), Ok(voters(&[1, 2])));
    }

    #[test]
    fn a_joint_change_is_in_effect_when_it_is_left_whatever_comes_between() {
        let (mut changes, mut answer) = waiting();
        applied(&mut changes, 2, 7, joint());
        changes.on_conf_change(Term::new(3), LogIndex::new(8), &void());
        assert!(answer.try_recv().is_err());
        applied(&mut changes, 3, 9, voters(&[1, 2]));
        assert_eq!(answer.try_recv().unwrap(), Ok(voters(&[1, 2])));
    }

    #[test]
    fn a_change_whose_place_another_entry_took_did_not_happen() {
        for (term, index) in [(3, 7), (3, 8)] {
            let (mut changes, mut answer) = waiting();
            applied(&mut changes, term, index, voters(&[1]));
            let refused = answer.try_recv().unwrap();
            assert_eq!(refused, Err(ProposeError::Superseded.into()));
        }
    }

    #[test]
    fn a_change_that_was_void_says_why() {
        let (mut changes, mut answer) = waiting();
        changes.on_conf_change(Term::new(2), LogIndex::new(7), &void());
        let refused = answer.try_recv().unwrap();
        assert!(matches!(refused, Err(ChangeMembershipError::Invalid(_))));
    }

    #[test]
    fn a_change_that_a_snapshot_has_swallowed_is_unknown() {
        for is_entered in [false, true] {
            let (mut changes, mut answer) = waiting();
            if is_entered {
                applied(&mut changes, 2, 7, joint());
            }
            changes.on_snapshot(LogIndex::new(6));
            assert!(answer.try_recv().is_err());
            changes.on_snapshot(LogIndex::new(9));
            applied(&mut changes, 3, 10, voters(&[1]));
            let unknown = answer.try_recv().unwrap();
            assert_eq!(unknown, Err(ProposeError::OutcomeUnknown.into()));
        }
    }
}
