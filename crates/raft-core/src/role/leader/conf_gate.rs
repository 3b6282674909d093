//! # One configuration change at a time
//!
//! Looks at the changes among proposals and says which may stand in the log.
//! The others are replaced by empty entries, and their proposer hears why.
//!
//! - Owns: up to where a configuration change may be waiting to be applied.
//! - Source: Raft §6; thesis §4.1, §4.3; etcd `stepLeader` (`MsgProp`),
//!   `pendingConfIndex`.

use alloc::vec::Vec;

use super::Leader;
use crate::common::Common;
use crate::error::{ConfChangeRefusal, ProposeError};
use crate::storage::Storage;
use crate::types::{ConfChange, EntryType, LogIndex, Proposal};

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
    /// Looks at the configuration changes among proposals.
    pub(super) fn gate_conf_changes<S: Storage>(
        &mut self,
        common: &Common<S>,
        proposals: &[Proposal],
    ) -> Result<Refusals, ProposeError> {
        let mut refusals = Refusals::default();
        for (place, proposal) in proposals.iter().enumerate() {
            if proposal.entry_type == EntryType::Normal {
                continue;
            }
            let Some(change) = proposal.conf_change().map_err(ProposeError::Malformed)? else {
                continue;
            };
            let offset = u64::try_from(place).unwrap_or(u64::MAX);
            let index = common.log.last_index().next().plus(offset);
            if let Err(why) = self.conf_changes.admit(common, &change, index) {
                refusals.0.push((place, why));
            }
        }
        Ok(refusals)
    }
}

/// Which proposals of a batch are replaced by empty entries, and why.
#[derive(Default)]
pub(super) struct Refusals(Vec<(usize, ConfChangeRefusal)>);

impl Refusals {
    pub(super) fn contains(&self, place: usize) -> bool {
        self.0.iter().any(|(refused, _)| *refused == place)
    }

    /// Why the first of them was replaced.
    pub(super) fn first(&self) -> Option<ConfChangeRefusal> {
        self.0.first().map(|(_, why)| *why)
    }
}
