//! # Reconfiguration
//!
//! Follows a configuration that was applied, and leaves a joint one.
//!
//! - Changes: the followers. Emits: appends to whoever is new.
//! - Source: Raft §6; thesis §4.1, §4.3; etcd `appliedTo`,
//!   `switchToConfig`.

use bytes::Bytes;

use super::Leader;
use super::propose::NotAppended;
use super::send::EmptyAppend;
use crate::common::Common;
use crate::membership::Reconfiguration;
use crate::role::Next;
use crate::storage::{Storage, StorageError};
use crate::types::{EntryType, Proposal, Proposals};

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
