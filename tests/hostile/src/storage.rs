//! # A storage that may lie
//!
//! An honest log in memory behind a door that sometimes fails, or answers
//! whatever it likes, as a broken disk or a wrong implementation does.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Entries, EntryId, InitialState, LogIndex, MemoryStorage, Snapshot, SnapshotMetadata, Storage,
    StorageError, Term,
};

use crate::choices::Choices;

/// Answers honestly until it has lies to tell.
#[derive(Debug)]
pub(crate) struct TestStorage {
    pub(crate) honest: MemoryStorage,
    /// One question takes one; without any, every answer is honest.
    lies: RefCell<VecDeque<u8>>,
}

/// What becomes of one question.
enum Answer {
    Honest,
    Failure(StorageError),
    /// Made up from these bytes.
    Lie([u8; 12]),
}

impl TestStorage {
    pub(crate) fn lying(honest: MemoryStorage, lies: &[u8]) -> Self {
        Self {
            honest,
            lies: RefCell::new(lies.iter().copied().collect()),
        }
    }

    pub(crate) fn last_id(&self) -> EntryId {
        let index = self.honest.last_index();
        EntryId::new(self.honest.term(index).unwrap_or(Term::ZERO), index)
    }

    fn answer(&self) -> Answer {
        let mut lies = self.lies.borrow_mut();
        match lies.pop_front() {
            None | Some(0..180) => Answer::Honest,
            Some(180..190) => Answer::Failure(StorageError::Compacted),
            Some(190..200) => Answer::Failure(StorageError::Unavailable),
            Some(200..210) => Answer::Failure(StorageError::SnapshotTemporarilyUnavailable),
            Some(210..220) => Answer::Failure(StorageError::EntriesTemporarilyUnavailable),
            Some(220..223) => Answer::Failure(StorageError::Failed("the disk is broken".into())),
            Some(_) => {
                let mut bytes = [0; 12];
                for byte in &mut bytes {
                    *byte = lies.pop_front().unwrap_or(0);
                }
                Answer::Lie(bytes)
            }
        }
    }

    fn index(&self, honest: LogIndex) -> LogIndex {
        match self.answer() {
            Answer::Honest | Answer::Failure(_) => honest,
            Answer::Lie(bytes) => LogIndex::new(Choices::new(&bytes).number(honest.get())),
        }
    }
}

impl Storage for TestStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        match self.answer() {
            Answer::Honest => self.honest.initial_state(),
            Answer::Failure(error) => Err(error),
            Answer::Lie(bytes) => {
                let mut choices = Choices::new(&bytes);
                let mut state = self.honest.initial_state()?;
                state.hard_state.commit = LogIndex::new(choices.number(3));
                state.hard_state.term = Term::new(choices.number(2));
                state.hard_state.vote = choices.bool().then(|| choices.node());
                state.conf_state = choices.conf_state();
                Ok(state)
            }
        }
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        match self.answer() {
            Answer::Honest => self.honest.entries(low, high, bytes_max),
            Answer::Failure(error) => Err(error),
            Answer::Lie(bytes) => {
                let mut choices = Choices::new(&bytes);
                let term = choices.number(2);
                let first = choices.number(low.get());
                Ok(choices.entries(term, first))
            }
        }
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        match self.answer() {
            Answer::Honest => self.honest.term(index),
            Answer::Failure(error) => Err(error),
            Answer::Lie(bytes) => Ok(Term::new(Choices::new(&bytes).number(2))),
        }
    }

    fn first_index(&self) -> LogIndex {
        self.index(self.honest.first_index())
    }

    fn last_index(&self) -> LogIndex {
        self.index(self.honest.last_index())
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match self.answer() {
            Answer::Honest => self.honest.snapshot(),
            Answer::Failure(error) => Err(error),
            Answer::Lie(bytes) => {
                let mut choices = Choices::new(&bytes);
                Ok(Snapshot {
                    metadata: SnapshotMetadata {
                        index: LogIndex::new(choices.number(3)),
                        term: Term::new(choices.number(2)),
                        conf_state: choices.conf_state(),
                    },
                    data: Bytes::new(),
                })
            }
        }
    }
}
