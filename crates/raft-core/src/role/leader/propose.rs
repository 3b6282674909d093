//! # Proposals
//!
//! Numbers new entries and appends them, unless the leader may not or the quota
//! is used up. One call is one batch: one allocation, one append message for
//! each follower.
//!
//! - Changes: the log.
//! - Emits: appends, the leader's own acknowledgement.
//! - Source: Raft §5.3; etcd `stepLeader` (`MsgProp`), `appendEntry`.

use smallvec::SmallVec;

use super::Leader;
use super::conf_gate::{ConfChangeGate, Refusals};
use crate::common::Common;
use crate::error::{ConfChangeRefusal, ProposeError};
use crate::storage::{Storage, StorageError};
use crate::types::{Entries, Entry, LogIndex, Proposal, Proposals, Term};

/// Where proposals stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) term: Term,
    pub(crate) first: LogIndex,
    pub(crate) last: LogIndex,
    /// Why configuration changes among them were replaced by empty entries.
    pub(crate) refused: Option<ConfChangeRefusal>,
}

/// Why proposals are not in the log.
pub(crate) enum NotAppended {
    Refused(ProposeError),
    Storage(StorageError),
}

impl From<ProposeError> for NotAppended {
    fn from(error: ProposeError) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for NotAppended {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Leader {
    /// Appends proposals and sends them out.
    pub(crate) fn propose<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        proposals: Proposals,
    ) -> Result<Appended, NotAppended> {
        if proposals.is_empty() {
            return Err(ProposeError::Empty.into());
        }
        if self.followers.progress(common.id()).is_none() {
            return Err(ProposeError::NotMember.into());
        }
        if let Some(to) = self.transferee() {
            return Err(ProposeError::TransferInProgress { to }.into());
        }
        let pending = self.conf_changes.pending();
        let appended = self
            .gate_conf_changes(common, &proposals)
            .map_err(NotAppended::from)
            .and_then(|refused| self.append(common, proposals, &refused));
        // What was admitted and then refused with its batch is not pending.
        // (etcd waits for it all the same.)
        if common.config.is_protected() && matches!(appended, Err(NotAppended::Refused(_))) {
            self.conf_changes = ConfChangeGate::pending_until(pending);
        }
        let appended = appended?;
        self.broadcast_append(common)?;
        Ok(appended)
    }

    /// Appends without sending.
    pub(super) fn append<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        proposals: Proposals,
        refusals: &Refusals,
    ) -> Result<Appended, NotAppended> {
        let term = common.term;
        let first = common.log.last_index().next();
        let mut index = first;
        let mut batch = SmallVec::new();
        batch.reserve_exact(proposals.len());
        batch.extend(proposals.into_iter().enumerate().map(|(place, proposal)| {
            let entry = if refusals.contains(place) {
                Entry::refused_conf_change(term, index)
            } else {
                Entry::new(term, index, proposal.entry_type, proposal.data)
            };
            index = index.next();
            entry
        }));
        let entries = Entries::from_numbered(batch);
        if !self.quota.reserve(entries.payload_bytes()) {
            let bytes_max = self.quota.bytes_max();
            return Err(ProposeError::QuotaExceeded { bytes_max }.into());
        }
        common.log.append(entries);
        // The leader counts itself like a follower, once its disk has answered.
        let last = common.log.last_index();
        common.acknowledge_own_append(last);
        Ok(Appended {
            term,
            first,
            last,
            refused: refusals.first(),
        })
    }

    /// Appends the empty entry that begins a term: only behind it may the
    /// entries of earlier terms be committed (Raft §5.4.2, §8).
    pub(crate) fn append_noop<S: Storage>(
        &mut self,
        common: &mut Common<S>,
    ) -> Result<(), StorageError> {
        let noop = Proposals::from_buf([Proposal::default()]);
        match self.append(common, noop, &Refusals::default()) {
            // An empty entry is never over the quota.
            Ok(_) | Err(NotAppended::Refused(_)) => Ok(()),
            Err(NotAppended::Storage(error)) => Err(error),
        }
    }
}
