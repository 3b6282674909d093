//! # Replaying what does not fit into memory
//!
//! At a start the log behind the snapshot is to be applied again. What the store
//! has loaded of it goes the usual way, while the replica takes part already.
//! What it has not loaded, because the log is longer than memory should be, is
//! applied before, piece by piece.
//!
//! - Owns: nothing; the state machine passes through.
//! - Reads: entries, from the log store.
//! - Source: Raft Fig. 2 (`lastApplied`).

use std::panic::AssertUnwindSafe;

use raft_core::{
    Entries, EntryId, EntrySequence, EntryType, LogIndex, Membership, StorageError, TermRuns,
};
use tokio::sync::oneshot;

use super::configuration::Configuration;
use crate::error::StartError;
use crate::log_store::{LogReadDone, LogReadError, LogReadRequest, LogStore, StoredLog};
use crate::state_machine::StateMachine;
use crate::task::panic_text;

/// How much is read at once, in bytes.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A state machine, and where in the log it is.
pub(super) struct Replayed<M> {
    pub(super) machine: M,
    pub(super) applied: EntryId,
    pub(super) configuration: Configuration,
}

impl<M: StateMachine> Replayed<M> {
    /// Applies the committed entries that the store has not loaded. What is not
    /// known to be committed is loaded into `stored` instead: other limits bound
    /// that.
    ///
    /// # Errors
    /// The log cannot be read, or the state machine panicked.
    pub(super) async fn through_unloaded(
        mut self,
        stored: &mut StoredLog,
        log: &mut impl LogStore,
    ) -> Result<Self, StartError> {
        let Some(terms) = &stored.terms else {
            return Ok(self);
        };
        let loaded = stored
            .entries
            .first()
            .map_or(terms.next_index(), raft_core::Entry::index);
        let committed = stored.hard_state.commit.next().min(loaded);
        let mut next = self.applied.index.next();
        while next < committed {
            let entries = read(log, terms, next..committed).await?;
            next = entries.last_id().map_or(committed, |id| id.index.next());
            self = self.apply(entries).await?;
        }
        let mut unloaded = EntrySequence::starting_at(next);
        while next < loaded {
            let entries = read(log, terms, next..loaded).await?;
            next = entries.last_id().map_or(loaded, |id| id.index.next());
            unloaded.append(entries);
        }
        unloaded.append(std::mem::take(&mut stored.entries));
        stored.entries = unloaded.between(self.applied.index.next(), unloaded.next_index());
        Ok(self)
    }

    /// Applies entries, on a thread that may take its time.
    async fn apply(self, entries: Entries) -> Result<Self, StartError> {
        let applying = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(AssertUnwindSafe(|| self.apply_now(&entries)))
        });
        match applying.await {
            Ok(Ok(replayed)) => replayed,
            Ok(Err(panic)) => Err(StartError::Apply(panic_text(panic.as_ref()).into())),
            Err(cancelled) => Err(StartError::Apply(cancelled.into())),
        }
    }

    fn apply_now(mut self, entries: &Entries) -> Result<Self, StartError> {
        for entry in entries.iter() {
            if entry.entry_type() != EntryType::Normal {
                // What is void now was void when it was applied first.
                if let Ok(Some(change)) = entry.conf_change() {
                    let members = Membership::restore(&self.configuration.conf_state)
                        .map_err(raft_core::StartError::ConfState)?;
                    if let Ok(changed) = members.changed(&change) {
                        let conf_state = changed.membership.conf_state();
                        self.configuration = self.configuration.after(&change, conf_state);
                    }
                }
            } else if !entry.data().is_empty() {
                self.machine.apply(entry.index(), entry.data());
            }
            self.applied = entry.id();
        }
        Ok(self)
    }
}

/// Reads some of these entries, from the first on, and sees that they are the
/// log's own.
async fn read(
    log: &mut impl LogStore,
    terms: &TermRuns,
    wanted: std::ops::Range<LogIndex>,
) -> Result<Entries, StartError> {
    let (done, answer) = oneshot::channel();
    let request = LogReadRequest {
        low: wanted.start,
        high: wanted.end,
        bytes_max: READ_BYTES_MAX,
    };
    log.read(
        request,
        LogReadDone::new(move |result| {
            // Nobody else waits.
            let _ = done.send(result);
        }),
    );
    let entries = answer.await.unwrap_or(Err(LogReadError::NotAnswered))?;
    let follows = entries
        .first()
        .is_some_and(|first| first.index() == wanted.start);
    let is_known = |entry: &raft_core::Entry| terms.term(entry.index()) == Some(entry.term());
    if !follows || !entries.iter().all(is_known) {
        return Err(raft_core::StartError::from(StorageError::Unavailable).into());
    }
    Ok(entries)
}
