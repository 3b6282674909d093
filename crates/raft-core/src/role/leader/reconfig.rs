//! # Reconfiguration
//!
//! Lets one configuration change at a time into the log, leaves joint
//! configurations, and follows a configuration that was applied.
//!
//! - Owns: up to where a configuration change may be waiting.
//! - Changes: the followers. Emits: appends to whoever is new.
//! - Source: Raft §6; thesis §4.1, §4.3; etcd `stepLeader` (`MsgProp`),
//!   `appliedTo`, `switchToConfig`.

use bytes::Bytes;

use super::Leader;
use super::propose::NotAppended;
use super::send::EmptyAppend;
use crate::common::Common;
use crate::error::ConfChangeRefusal;
use crate::membership::Reconfiguration;
use crate::role::Next;
use crate::storage::{Storage, StorageError};
use crate::types::{ConfChange, EntryType, LogIndex, Proposal, Proposals};

/// Lets one change at a time into the log.
#[derive(Debug)]
pub(super) struct ConfChangeGate {
    /// A change may stand in the log up to here. The next one waits until this
    /// is applied.
    pending: LogIndex,
}

impl ConfChangeGate {
    pub(super) fn pending_until(pending: LogIndex) -> Self {
        Self { pending }
    }

    pub(super) fn pending(&self) -> LogIndex {
        self.pending
    }

    /// Lets a change in that is to stand at `index`, or says why not.
    pub(super) fn admit<S: Storage>(
        &mut self,
        common: &Common<S>,
        change: &ConfChange,
        index: LogIndex,
    ) -> Result<(), ConfChangeRefusal> {
        let applied = common.log.applied();
        let pending = self.pending;
        let wants_to_leave = change.changes.is_empty();
        let refusal = match (common.membership.is_joint(), wants_to_leave) {
            _ if pending > applied => Some(ConfChangeRefusal::Pending { pending, applied }),
            (true, false) => Some(ConfChangeRefusal::MustLeaveJoint),
            (false, true) => Some(ConfChangeRefusal::NotJoint),
            (true, true) | (false, false) => None,
        };
        match refusal {
            Some(why) if common.config.conf_change_validation => Err(why),
            _ => {
                self.pending = index;
                Ok(())
            }
        }
    }
}

impl Leader {
    /// Proposes to leave the joint configuration. If a transfer is under way
    /// this is dropped, and tried again with the next entry that is applied.
    pub(super) fn leave_joint<S: Storage>(
        &mut self,
        common: &mut Common<S>,
    ) -> Result<(), StorageError> {
        // No data reads as "leave", and is never over the quota.
        let leave = Proposal {
            entry_type: EntryType::ConfChangeV2,
            data: Bytes::new(),
        };
        match self.propose(common, Proposals::from_buf([leave])) {
            Err(NotAppended::Storage(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Follows a configuration that was just applied.
    pub(crate) fn on_reconfigured<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        change: &Reconfiguration,
    ) -> Result<Next, StorageError> {
        self.followers.reconfigure(change, common.log.last_index());
        if !common.membership.voters().contains(common.id()) {
            // Removed or demoted. The leader may go on until the others elect
            // one of their own; it does not count itself.
            return Ok(if common.config.step_down_on_removal {
                Next::StepDown
            } else {
                Next::Stay
            });
        }
        if common.membership.voters().incoming.is_empty() {
            return Ok(Next::Stay);
        }
        if self.advance_commit(common)? {
            // A smaller quorum has more.
            self.broadcast_append(common)?;
        } else {
            // Whoever is new should not wait for a heartbeat.
            self.send_to_all(common, EmptyAppend::Skip)?;
        }
        self.abort_transfer_to_non_voter(common);
        Ok(Next::Stay)
    }
}
