//! # Effects
//!
//! A Ready is what everything that went in asks the driver to do; receipts say
//! that it was done.
//!
//! ```text
//!   log, outbox ─► Ready ─► driver ─► receipts, or advance ─► log, role
//! ```
//!
//! - Owns: what the Ready that is being carried out will tell the node.
//! - Changes: what was last reported, what of the log is being written or applied.
//! - Emits: [`Ready`].
//! - Source: etcd `RawNode.Ready`, `acceptReady`, `Advance`, `newStorageAppendMsg`,
//!   `newStorageAppendRespMsg`.

use alloc::boxed::Box;

use super::RawNode;
use crate::config::StorageWrites;
use crate::error::{Halted, ReadyError, StepError};
use crate::outbox::OwnAnswers;
use crate::raft::Raft;
use crate::ready::{
    AppendOutcome, AppendReceipt, AppliedMark, ApplyReceipt, Ready, SelfAck, StableMark,
    StorageApply,
};
use crate::storage::Storage;

/// What [`RawNode::advance`] hands back. It is filled in and read where it lies,
/// for every Ready: moving it costs more.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    answers: OwnAnswers,
    stable: Option<StableMark>,
    applied: Option<AppliedMark>,
}

impl Outstanding {
    fn clear(&mut self) {
        self.answers.clear();
        self.stable = None;
        self.applied = None;
    }

    fn tell<S: Storage>(&self, raft: &mut Raft<S>) -> Result<(), Halted> {
        for answer in &self.answers {
            raft.answered(*answer)?;
        }
        // Behind the leader's own acknowledgements, so that these still find
        // their entries in the unstable log.
        if let Some(mark) = &self.stable {
            raft.stable(mark)?;
        }
        match self.applied {
            Some(mark) => raft.applied(mark),
            None => raft.alive(),
        }
    }
}

impl<S: Storage> RawNode<S> {
    /// Whether there is anything to do.
    pub fn has_ready(&self) -> bool {
        let common = &self.raft.common;
        let hard_state = common.hard_state();
        !common.outbox.is_empty()
            || common.log.unstable().has_next_entries()
            || common.log.has_next_committed()
            || common.log.unstable().next_snapshot().is_some()
            || self.soft_state() != self.reported_soft_state
            || (hard_state != self.reported_hard_state && !hard_state.is_empty())
    }

    /// Whether a Ready is being carried out, in synchronous use.
    pub fn is_ready_outstanding(&self) -> bool {
        self.is_ready_outstanding
    }

    /// Everything there is to do.
    ///
    /// # Errors
    /// In synchronous use the Ready before has to be advanced first.
    pub fn ready(&mut self) -> Result<Ready, ReadyError> {
        let mut ready = Ready::default();
        self.ready_into(&mut ready)?;
        Ok(ready)
    }

    /// Everything there is to do, in the place of a Ready that was carried out.
    /// The room of its lists is used again, so that a driver that empties them
    /// (`drain`) and does not give them away allocates nothing in steady state.
    ///
    /// # Errors
    /// In synchronous use the Ready before has to be advanced first. `ready` is
    /// as it was then.
    pub fn ready_into(&mut self, ready: &mut Ready) -> Result<(), ReadyError> {
        self.raft.alive()?;
        if self.is_ready_outstanding {
            return Err(ReadyError::Outstanding);
        }
        let committed = self.raft.common.log.next_committed();
        let committed = self.raft.guard(committed)?;
        let mut stable = self.stable_mark()?;
        let soft_state = self.raft.soft_state();
        let common = &mut self.raft.common;
        let asynchronous = common.config.storage_writes == StorageWrites::Asynchronous;

        ready.soft_state = (soft_state != self.reported_soft_state).then_some(soft_state);
        self.reported_soft_state = soft_state;
        common.outbox.take_read_states(&mut ready.read_states);
        common.outbox.take_now(&mut ready.messages);

        let hard_state = common.hard_state();
        let before = self.reported_hard_state;
        let is_news = hard_state != before && !hard_state.is_empty();
        if is_news {
            self.reported_hard_state = hard_state;
        }
        let unstable = common.log.unstable();
        let (has_entries, snapshot) = (unstable.has_next_entries(), unstable.next_snapshot());
        ready.must_sync =
            has_entries || hard_state.term != before.term || hard_state.vote != before.vote;
        if is_news || has_entries || snapshot.is_some() || common.outbox.has_after_append() {
            let append = ready.append.get_or_insert_default();
            append.hard_state = is_news.then_some(hard_state);
            append.entries = unstable.next_entries();
            // A snapshot is large: nothing of its size is moved for none.
            match snapshot {
                None => append.snapshot = None,
                Some(snapshot) => append.snapshot = Some(snapshot.clone()),
            }
            common.outbox.take_after_append(&mut append.responses);
            // Behind the leader's own acknowledgements: see `advance`.
            if asynchronous && let Some(mark) = stable.take() {
                let receipt = AppendReceipt(SelfAck::Stable(mark));
                append.responses.push(AppendOutcome::Receipt(receipt));
            }
        } else {
            ready.append = None;
        }
        let applied = committed.last_index().map(|index| {
            let sizes = committed.sizes();
            AppliedMark {
                index,
                encoded_bytes: sizes.encoded_bytes,
                payload_bytes: sizes.payload_bytes,
            }
        });
        if let Some(mark) = applied {
            common.log.accept_applying(mark.index, mark.encoded_bytes);
        }
        ready.apply = applied.map(|mark| StorageApply {
            entries: committed,
            receipt: asynchronous.then_some(ApplyReceipt(mark)),
        });
        common.log.accept_unstable();
        if !asynchronous {
            let outstanding = &mut self.outstanding;
            common.outbox.take_own(&mut outstanding.answers);
            outstanding.stable = stable;
            outstanding.applied = applied;
            self.is_ready_outstanding = true;
        }
        Ok(())
    }

    /// What the write that is about to be handed out makes stable.
    fn stable_mark(&mut self) -> Result<Option<StableMark>, Halted> {
        let log = &self.raft.common.log;
        let snapshot = log.unstable().next_snapshot().cloned().map(Box::new);
        let last = if log.unstable().has_entries() {
            let last = log.last_id();
            Some(self.raft.guard(last)?)
        } else {
            None
        };
        if last.is_none() && snapshot.is_none() {
            return Ok(None);
        }
        Ok(Some(StableMark {
            term: self.raft.common.term,
            last,
            behind: self.raft.common.log.pending_snapshot_index(),
            snapshot,
        }))
    }

    /// The Ready taken last has been carried out: written, sent and applied.
    ///
    /// # Errors
    /// This node has stopped.
    pub fn advance(&mut self) -> Result<(), Halted> {
        if !self.is_ready_outstanding {
            return self.raft.alive();
        }
        let result = self.outstanding.tell(&mut self.raft);
        self.outstanding.clear();
        self.is_ready_outstanding = false;
        result
    }

    /// A write is durable, and so is every write before it.
    ///
    /// # Errors
    /// [`StepError::PeerNotFound`] if this server is no longer a member, so that
    /// its vote or acknowledgement does not count; or this node has stopped.
    pub fn persisted(&mut self, receipt: AppendReceipt) -> Result<(), StepError> {
        match receipt.0 {
            SelfAck::Answer(answer) => {
                let id = self.id();
                if !self.raft.common.membership.contains(id) {
                    return Err(StepError::PeerNotFound(id));
                }
                Ok(self.raft.answered(answer)?)
            }
            SelfAck::Stable(mark) => Ok(self.raft.stable(&mark)?),
        }
    }

    /// Entries are applied, and so are all before them.
    ///
    /// # Errors
    /// This node has stopped.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a receipt is used up when it is handed back"
    )]
    pub fn applied(&mut self, receipt: ApplyReceipt) -> Result<(), Halted> {
        self.raft.applied(receipt.0)
    }
}
