//! # Reports of applying
//!
//! How far the state machine is. The loop seldom needs to know at once, and a
//! wake for every batch would cost more than the batch: so a report lies here
//! until the loop's next turn, and only wakes it if the loop has said that it
//! waits for one.
//!
//! - Owns: the reports that the loop has not taken. There are never more than
//!   batches that it has handed out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_core::{ApplyReceipt, LogIndex};

use super::waiters::EmptyLists;

/// How far the state machine is.
#[derive(Debug)]
pub(super) struct AppliedBatch {
    pub(super) index: LogIndex,
    pub(super) receipt: Option<ApplyReceipt>,
    /// The lists in which those waited who have their replies.
    pub(super) lists: EmptyLists,
}

/// The reports between the state machine's task and the loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    untaken: Vec<AppliedBatch>,
    wanted: Wanted,
}

/// When the loop is to look at the reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Something waits for them.
    #[default]
    AtOnce,
    /// Whenever there is a next turn; there is one in every tick.
    NextTurn,
}

impl Reports {
    /// Leaves a report, and says when the loop is to look at it.
    pub(super) fn leave(&self, batch: AppliedBatch) -> Wanted {
        let mut shared = self.shared();
        shared.untaken.push(batch);
        shared.wanted
    }

    /// Takes all of them, and puts them behind `taken`.
    pub(super) fn take(&self, taken: &mut Vec<AppliedBatch>) {
        taken.append(&mut self.shared().untaken);
    }

    /// From now on reports are wanted like this. What is to become of those that
    /// came before.
    pub(super) fn want(&self, wanted: Wanted) -> Untaken {
        let mut shared = self.shared();
        shared.wanted = wanted;
        if shared.untaken.is_empty() {
            Untaken::None
        } else {
            Untaken::Some
        }
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untaken {
    None,
    Some,
}
