//! # Acknowledgements
//!
//! A follower's answer moves its progress, which may move the commit index,
//! open its window, release reads and finish a transfer.
//!
//! - Owns: nothing (works on the followers).
//! - Reads: the log. Changes: the commit index.
//! - Emits: appends, answers to deferred reads, `TimeoutNow`.
//! - Source: Raft §5.3, §5.4.2; thesis §3.5, §10.2.1; etcd `stepLeader`
//!   (`MsgAppResp`, `MsgHeartbeatResp`), `maybeCommit`.

use bytes::Bytes;

use super::Leader;
use super::send::EmptyAppend;
use crate::common::Common;
use crate::progress::Flow;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, EntryId, LogIndex, NodeId, Term};

impl Leader {
    /// `from` has everything up to `matched` on its disk. The leader's own
    /// answer comes here too.
    pub(crate) fn on_accepted<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        from: NodeId,
        matched: LogIndex,
    ) -> Result<(), StorageError> {
        let Some(progress) = self.followers.progress_mut(from) else {
            return Ok(());
        };
        progress.record_active();
        let is_news = progress.acknowledge(matched);
        // An answer that says nothing new still shows that a probed follower
        // is there and matches.
        let probe_answered = progress.matched() == matched && progress.flow() == Flow::Probe;
        if !is_news && !probe_answered {
            return Ok(());
        }
        match progress.flow() {
            Flow::Probe => progress.become_replicate(),
            // Whichever snapshot arrived: what counts is that the log connects.
            Flow::Snapshot { .. } if progress.matched().next() >= common.log.first_index() => {
                progress.become_probe();
                progress.become_replicate();
            }
            Flow::Snapshot { .. } => {}
            Flow::Replicate => progress.free_inflights_to(matched),
        }
        let can_bump_commit = progress.can_bump_commit(common.log.committed());
        // What is committed anyway cannot commit more, unless the leader was
        // removed and leads on: then nobody has looked at the smaller quorum.
        let may_commit =
            matched > common.log.committed() || !common.membership.voters().contains(common.id());
        if may_commit && self.advance_commit(common)? {
            self.release_deferred_reads(common)?;
            self.broadcast_append(common)?;
        } else if from != common.id() && can_bump_commit {
            // Sooner than the next heartbeat would tell it.
            self.send_append(common, from, EmptyAppend::Send)?;
        }
        if from != common.id() {
            // The answer may have opened the window for several messages.
            while self.send_append(common, from, EmptyAppend::Skip)? {}
        }
        self.on_transferee_progress(common, from);
        Ok(())
    }

    /// `from` lacks the entry before those sent, or has another one there.
    pub(crate) fn on_rejected<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        from: NodeId,
        at: LogIndex,
        hint: EntryId,
    ) -> Result<(), StorageError> {
        let Some(progress) = self.followers.progress_mut(from) else {
            return Ok(());
        };
        progress.record_active();
        // The follower's log ends, at the latest, with an entry of the hint's
        // term: none of our later terms can match there.
        let guess = if hint.term > Term::ZERO {
            common.log.conflict_guess(hint.index, hint.term)?.index
        } else {
            hint.index
        };
        if progress.reject(at, guess) {
            if progress.flow() == Flow::Replicate {
                progress.become_probe();
            }
            self.send_append(common, from, EmptyAppend::Send)?;
        }
        Ok(())
    }

    /// `from` is alive. If it lacks entries or is being probed it gets the next
    /// message: an earlier one may have been lost.
    pub(crate) fn on_heartbeat_response<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        from: NodeId,
        context: &Bytes,
    ) -> Result<(), StorageError> {
        let Some(progress) = self.followers.progress_mut(from) else {
            return Ok(());
        };
        progress.record_active();
        progress.unpause();
        if progress.matched() < common.log.last_index() || progress.flow() == Flow::Probe {
            self.send_append(common, from, EmptyAppend::Send)?;
        }
        self.on_read_ack(common, from, context);
        Ok(())
    }

    /// Commits what a quorum has, if the last of it is of this term (Raft
    /// §5.4.2). Whether anything was.
    pub(super) fn advance_commit<S: Storage>(
        &self,
        common: &mut Common<S>,
    ) -> Result<bool, StorageError> {
        let index = self.followers.committed(&common.membership);
        common
            .log
            .commit_if_of_term(EntryId::new(common.term, index))
    }

    /// The driver could not reach `id`: what is in flight may be lost.
    pub(crate) fn on_unreachable(&mut self, id: NodeId) {
        if let Some(progress) = self.followers.progress_mut(id)
            && progress.flow() == Flow::Replicate
        {
            progress.become_probe();
        }
    }

    /// The driver knows how a snapshot's journey ended.
    pub(crate) fn on_snapshot_report(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        let Some(progress) = self.followers.progress_mut(id) else {
            return;
        };
        if !matches!(progress.flow(), Flow::Snapshot { .. }) {
            return;
        }
        if outcome == SnapshotOutcome::Failed {
            progress.snapshot_failed();
        }
        progress.become_probe();
        // Arrived: its answer tells when it is installed. Failed: not again
        // before the next heartbeat.
        progress.pause();
    }

    /// Answers the last message of a transfer if `from` is the transferee and
    /// has caught up.
    fn on_transferee_progress<S: Storage>(&mut self, common: &mut Common<S>, from: NodeId) {
        if self.transferee() != Some(from) {
            return;
        }
        let caught_up = self
            .followers
            .progress(from)
            .is_some_and(|progress| progress.matched() == common.log.last_index());
        if caught_up {
            common.send(from, Body::TimeoutNow);
        }
    }
}

/// How a snapshot's journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It was handed to the follower.
    Arrived,
    /// It was not.
    Failed,
}
