//! # A storage that does not have everything at hand
//!
//! The stable log in memory, of which a test may say that applied entries have
//! to be read first. Who asks for one gets nothing until the test completes the
//! read, and then only a few.
//!
//! - Owns: the log, what is not at hand, what was asked for, what was read last.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut, Range};

use raft_core::{
    Entries, InitialState, LogIndex, MemoryStorage, Snapshot, Storage, StorageError, Term,
};

#[derive(Debug)]
pub(crate) struct SlowStorage {
    log: MemoryStorage,
    /// Entries up to here have to be read.
    evicted_to: LogIndex,
    /// Where reads that were asked for begin.
    wanted: RefCell<BTreeSet<LogIndex>>,
    at_hand: Range<LogIndex>,
    reads: u64,
}

impl SlowStorage {
    /// A storage that has everything at hand.
    pub(crate) fn new(log: MemoryStorage) -> Self {
        Self {
            log,
            evicted_to: LogIndex::ZERO,
            wanted: RefCell::default(),
            at_hand: LogIndex::ZERO..LogIndex::ZERO,
            reads: 0,
        }
    }

    /// From now on entries up to `index` have to be read.
    pub(crate) fn evict_to(&mut self, index: LogIndex) {
        self.evicted_to = self.evicted_to.max(index);
    }

    /// Has the next `count` entries of the first read that was asked for at
    /// hand: whether there was one.
    pub(crate) fn complete_read(&mut self, count: u64) -> bool {
        let Some(low) = self.wanted.get_mut().pop_first() else {
            return false;
        };
        self.at_hand = low..low.plus(count);
        self.reads += 1;
        true
    }

    /// How many reads were completed.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }
}

impl Deref for SlowStorage {
    type Target = MemoryStorage;

    fn deref(&self) -> &MemoryStorage {
        &self.log
    }
}

impl DerefMut for SlowStorage {
    fn deref_mut(&mut self) -> &mut MemoryStorage {
        &mut self.log
    }
}

impl Storage for SlowStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.log.initial_state()
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        if low > self.evicted_to || low < self.log.first_index() {
            return self.log.entries(low, high, bytes_max);
        }
        if self.at_hand.contains(&low) {
            return self.log.entries(low, high.min(self.at_hand.end), bytes_max);
        }
        self.wanted.borrow_mut().insert(low);
        Err(StorageError::EntriesTemporarilyUnavailable)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.log.term(index)
    }

    fn first_index(&self) -> LogIndex {
        self.log.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.log.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.log.snapshot()
    }
}
