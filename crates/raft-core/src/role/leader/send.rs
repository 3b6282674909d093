//! # Sending
//!
//! The next message for a follower: entries from where it stands, an empty
//! append that carries the commit index, or a snapshot if the log does not
//! reach back that far.
//!
//! - Owns: nothing.
//! - Reads: the log. Changes: the followers' flow.
//! - Emits: appends, snapshots.
//! - Source: Raft §5.3, §7; thesis §10.2.1; etcd `maybeSendAppend`,
//!   `maybeSendSnapshot`, `bcastAppend`.

use alloc::boxed::Box;

use super::Leader;
use crate::common::Common;
use crate::progress::Progress;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, Entries, EntryId, NodeId};

/// Whether an append without entries is worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyAppend {
    /// Yes: it carries the commit index, or probes.
    Send,
    /// No: only entries are news.
    Skip,
}

impl Leader {
    /// Sends everybody else what it lacks, and the commit index.
    pub(crate) fn broadcast_append<S: Storage>(
        &mut self,
        common: &mut Common<S>,
    ) -> Result<(), StorageError> {
        self.send_to_all(common, EmptyAppend::Send)
    }

    /// Entries that the storage had to have read first are there, or cannot be
    /// had. Whoever waited for them gets them; who did not has what there is.
    pub(crate) fn send_available<S: Storage>(
        &mut self,
        common: &mut Common<S>,
    ) -> Result<(), StorageError> {
        let own = common.id();
        for (id, progress) in self.followers.iter_mut() {
            if id != own {
                while send_append(common, id, progress, EmptyAppend::Skip)? {}
            }
        }
        Ok(())
    }

    pub(super) fn send_to_all<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        empty: EmptyAppend,
    ) -> Result<(), StorageError> {
        let own = common.id();
        for (id, progress) in self.followers.iter_mut() {
            if id != own {
                send_append(common, id, progress, empty)?;
            }
        }
        Ok(())
    }

    /// Sends one follower what it lacks. Whether anything was sent.
    pub(super) fn send_append<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        to: NodeId,
        empty: EmptyAppend,
    ) -> Result<bool, StorageError> {
        match self.followers.progress_mut(to) {
            Some(progress) => send_append(common, to, progress, empty),
            None => Ok(false),
        }
    }
}

fn send_append<S: Storage>(
    common: &mut Common<S>,
    to: NodeId,
    progress: &mut Progress,
    empty: EmptyAppend,
) -> Result<bool, StorageError> {
    if progress.is_paused() {
        return Ok(false);
    }
    // It has everything. (Whoever acknowledged more than there is, which only
    // `Protections::Off` believes, has another log and gets the snapshot.)
    if empty == EmptyAppend::Skip && progress.next() == common.log.last_index().next() {
        return Ok(false);
    }
    let prev_index = progress.next().prev();
    let prev_term = match common.log.term(prev_index) {
        Ok(term) => term,
        // The log no longer reaches back to where this follower stands.
        Err(StorageError::Compacted | StorageError::Unavailable) => {
            return send_snapshot(common, to, progress);
        }
        Err(error) => return Err(error),
    };
    let entries = if progress.can_carry_entries() {
        match common
            .log
            .entries_from(progress.next(), common.config.append_bytes_max)
        {
            Ok(entries) => entries,
            Err(StorageError::Compacted | StorageError::Unavailable) => {
                return match empty {
                    EmptyAppend::Send => send_snapshot(common, to, progress),
                    EmptyAppend::Skip => Ok(false),
                };
            }
            // Its turn comes when they are there.
            Err(StorageError::EntriesTemporarilyUnavailable) => return Ok(false),
            Err(error) => return Err(error),
        }
    } else {
        Entries::new()
    };
    if entries.is_empty() && empty == EmptyAppend::Skip {
        return Ok(false);
    }
    let commit = common.log.committed();
    progress.sent_entries(entries.count(), entries.payload_bytes());
    progress.sent_commit(commit);
    let prev = EntryId::new(prev_term, prev_index);
    common.send_append(to, prev, entries, commit);
    Ok(true)
}

fn send_snapshot<S: Storage>(
    common: &mut Common<S>,
    to: NodeId,
    progress: &mut Progress,
) -> Result<bool, StorageError> {
    // A follower that does not answer would not get it, and nothing would tell.
    if !progress.recent_active() {
        return Ok(false);
    }
    let snapshot = match common.log.snapshot() {
        Ok(snapshot) if !snapshot.is_empty() => snapshot,
        Ok(_) | Err(StorageError::SnapshotTemporarilyUnavailable) => return Ok(false),
        Err(error) => return Err(error),
    };
    progress.become_snapshot(snapshot.metadata.index);
    common.send(to, Body::Snapshot(Box::new(snapshot)));
    Ok(true)
}
