//! # Leadership transfer
//!
//! Stops taking proposals, brings the transferee up to date, and tells it to
//! campaign. The leader leads on until somebody else is elected; after an
//! election timeout without that it takes proposals again.
//!
//! - Owns: who is to lead.
//! - Emits: appends to the transferee, `TimeoutNow`.
//! - Source: thesis §3.10; etcd `stepLeader` (`MsgTransferLeader`).

use super::Leader;
use super::send::EmptyAppend;
use crate::common::Common;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, NodeId};

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
}

impl Leader {
    /// Hands leadership to `to`, if it votes here and is another server.
    pub(crate) fn on_transfer<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        to: NodeId,
    ) -> Result<(), StorageError> {
        let Some(progress) = self.followers.progress(to) else {
            return Ok(());
        };
        if progress.is_learner() || self.transferee() == Some(to) {
            return Ok(());
        }
        let caught_up = progress.matched() == common.log.last_index();
        // Another wish takes the place of the one before, even the wish that
        // everything stays as it is.
        self.abort_transfer();
        if to == common.id() {
            return Ok(());
        }
        // The transfer has one election timeout from now.
        common.timer.restart();
        self.transfer = Some(Transfer { to });
        if caught_up {
            common.send(to, Body::TimeoutNow);
        } else {
            self.send_append(common, to, EmptyAppend::Send)?;
        }
        Ok(())
    }

    pub(super) fn abort_transfer(&mut self) {
        self.transfer = None;
    }

    /// Ends a transfer to somebody who no longer votes.
    pub(super) fn abort_transfer_to_non_voter<S: Storage>(&mut self, common: &Common<S>) {
        if let Some(to) = self.transferee()
            && !common.membership.voters().contains(to)
        {
            self.abort_transfer();
        }
    }
}
