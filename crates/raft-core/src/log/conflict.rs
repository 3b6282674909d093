//! # Where two logs part
//!
//! A follower finds the first entry that contradicts its log; a leader and a
//! follower guess, from a single entry of the other, how far back to look.
//!
//! - Owns: nothing.
//! - Source: Raft §5.3; etcd `findConflict`, `findConflictByTerm`.

use super::RaftLog;
use crate::storage::{Storage, StorageError};
use crate::types::{Entries, EntryId, LogIndex, Term};

impl<S: Storage> RaftLog<S> {
    /// The first of `entries` that is not in the log: new, or of another term
    /// than the one that is there. `None` if all of them are in the log.
    pub(crate) fn first_conflict(
        &self,
        entries: &Entries,
    ) -> Result<Option<LogIndex>, StorageError> {
        let last_index = self.last_index();
        // Behind the end everything is new.
        if let Some(first) = entries.first_index().filter(|first| *first > last_index) {
            return Ok(Some(first));
        }
        for entry in entries.iter() {
            if entry.index() > last_index || !self.matches(entry.id())? {
                return Ok(Some(entry.index()));
            }
        }
        Ok(None)
    }

    /// The largest index, at most `index`, where this log may agree with one
    /// that has an entry of `term` at or behind it. An entry of a later term
    /// cannot be in that log. The term is zero where this log does not know it
    /// (compacted, or not there): then it may agree.
    ///
    /// With a leader's log of terms `1 3 3 3 5 5` and a follower's answer "term
    /// 2 at index 6", no entry of term 3 or 5 can match: the guess is index 1.
    /// So one question per term is enough, not one per entry.
    pub(crate) fn conflict_guess(
        &self,
        index: LogIndex,
        term: Term,
    ) -> Result<EntryId, StorageError> {
        let mut at = index;
        while at > LogIndex::ZERO {
            match self.term(at) {
                Ok(own) if own <= term => return Ok(EntryId::new(own, at)),
                Ok(_) => at = at.prev(),
                Err(StorageError::Compacted | StorageError::Unavailable) => {
                    return Ok(EntryId::new(Term::ZERO, at));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(EntryId::default())
    }
}
