//! # The replica's view of its log
//!
//! What the node reads of the log without waiting: the term of every entry, the
//! latest snapshot, and the newest entries. Older ones are on the disk only. When
//! a follower lacks some of those the view notes what to read; the host has it
//! read, and the node tries again once it is there.
//!
//! | file | room |
//! |---|---|
//! | `sizes.rs` | how much of the log is behind an index |
//! | `tail.rs` | the newest entries, limited in bytes and number |
//! | `read_back.rs` | what is read from the disk, and what cannot be |
//!
//! Entries that are not applied are never evicted: other limits bound them, and
//! applying needs no disk.
//!
//! - Owns: the view of what is stored.
//! - Reads: nothing; the host says what was written, applied and read.
//! - Emits: what to read, and whether a snapshot is needed.
//! - Source: etcd `raft.Storage`, of which it is an implementation.

mod read_back;
mod sizes;
mod tail;

use std::cell::RefCell;

use bytes::Bytes;
use raft_core::{
    ConfState, Entries, EntryId, HardState, InitialState, LogIndex, MemoryStorageError, Snapshot,
    SnapshotMetadata, Storage, StorageError, Term, TermRuns,
};

use self::read_back::ReadBack;
pub(crate) use self::read_back::{ReadLimits, ReadNumber, ReadOutcome};
use self::sizes::Sizes;
use self::tail::Tail;
pub(crate) use self::tail::TailLimits;
use crate::log_store::{LogReadError, LogReadRequest};

/// What the node sees of its log.
///
/// # Invariants
/// - `terms` knows every entry behind the compacted ones, and `tail` has the
///   last of them, at least those behind `applied`.
#[derive(Debug)]
pub(crate) struct LogView {
    hard_state: HardState,
    snapshot: Snapshot,
    /// As of `applied` at the start.
    conf_state: ConfState,
    terms: TermRuns,
    sizes: Sizes,
    tail: Tail,
    applied: LogIndex,
    /// Changed by questions: who asks for what is not there has it read.
    read_back: RefCell<ReadBack>,
}

impl LogView {
    /// An empty log, whose tail and whose entries that were read back are
    /// limited.
    pub(crate) fn new(limits: TailLimits, read_limits: ReadLimits) -> Self {
        Self {
            hard_state: HardState::EMPTY,
            snapshot: Snapshot::default(),
            conf_state: ConfState::default(),
            terms: TermRuns::behind(EntryId::default()),
            sizes: Sizes::default(),
            tail: Tail::starting_at(LogIndex::new(1), limits),
            applied: LogIndex::ZERO,
            read_back: RefCell::new(ReadBack::new(read_limits)),
        }
    }

    /// Reopens a log: the newest entries, and the terms of these and of older ones
    /// that only the store has, all of which are applied. The configuration is the
    /// one at `applied`.
    ///
    /// # Errors
    /// The entries are not the newest of those whose terms these are.
    pub(crate) fn reopen(
        &mut self,
        terms: TermRuns,
        entries: Entries,
        applied: LogIndex,
        conf_state: ConfState,
    ) -> Result<(), MemoryStorageError> {
        let snapshot = self.snapshot.metadata.id();
        self.terms = terms;
        self.terms.compact_to(snapshot);
        self.tail
            .restart_at(applied.next().max(snapshot.index.next()));
        self.sizes.append(&entries);
        let is_all = self.tail.append(entries) && self.tail.next_index() == self.terms.next_index();
        self.applied = applied;
        self.conf_state = conf_state;
        if is_all {
            Ok(())
        } else {
            Err(MemoryStorageError::Unavailable)
        }
    }

    // ── what was written ─────────────────────────────────────────────────────

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Follows a write. What is there at and behind the first entry is replaced;
    /// entries that are compacted already are passed over.
    ///
    /// # Errors
    /// The entries would leave a gap.
    pub(crate) fn append(&mut self, entries: Entries) -> Result<(), MemoryStorageError> {
        let Some(last) = entries.last_id() else {
            return Ok(());
        };
        let first_index = self.terms.first_index();
        if last.index < first_index {
            return Ok(());
        }
        let entries = if entries.first().is_some_and(|e| e.index() < first_index) {
            entries.between(first_index, last.index.next())
        } else {
            entries
        };
        if !self.terms.append(&entries) {
            return Err(MemoryStorageError::Unavailable);
        }
        self.sizes.append(&entries);
        if !self.tail.append(entries) {
            return Err(MemoryStorageError::Unavailable);
        }
        Ok(())
    }

    /// Replaces everything by a snapshot.
    ///
    /// # Errors
    /// There is a newer one.
    pub(crate) fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), MemoryStorageError> {
        let own = self.snapshot.metadata.index;
        if own != LogIndex::ZERO && own >= snapshot.metadata.index {
            return Err(MemoryStorageError::SnapshotOutOfDate);
        }
        let id = snapshot.metadata.id();
        self.terms = TermRuns::behind(id);
        self.sizes = Sizes::default();
        self.tail.restart_at(id.index.next());
        self.applied = id.index;
        self.conf_state = snapshot.metadata.conf_state.clone();
        self.snapshot = snapshot;
        self.read_back.get_mut().forget();
        Ok(())
    }

    /// Records a snapshot of the own state machine at `index`.
    ///
    /// # Errors
    /// The index is not in the log, or older than the latest snapshot.
    pub(crate) fn create_snapshot(
        &mut self,
        index: LogIndex,
        conf_state: Option<ConfState>,
        data: Bytes,
    ) -> Result<(), MemoryStorageError> {
        if index <= self.snapshot.metadata.index {
            return Err(MemoryStorageError::SnapshotOutOfDate);
        }
        let term = self
            .terms
            .term(index)
            .ok_or(MemoryStorageError::Unavailable)?;
        let conf_state = conf_state.unwrap_or_else(|| self.snapshot.metadata.conf_state.clone());
        self.snapshot = Snapshot {
            metadata: SnapshotMetadata {
                index,
                term,
                conf_state,
            },
            data,
        };
        Ok(())
    }

    /// Drops the entries up to and including `index`.
    ///
    /// # Errors
    /// The index was compacted already, or is behind the end of the log.
    pub(crate) fn compact(&mut self, index: LogIndex) -> Result<(), MemoryStorageError> {
        if index < self.terms.first_index() {
            return Err(MemoryStorageError::Compacted);
        }
        if !self.terms.compact(index) {
            return Err(MemoryStorageError::Unavailable);
        }
        self.sizes.drop_to(index);
        self.tail.drop_to(index);
        self.read_back.get_mut().drop_to(index);
        Ok(())
    }

    /// What the entries behind `index` take, encoded, in bytes: to a MiB.
    pub(crate) fn bytes_behind(&self, index: LogIndex) -> u64 {
        self.sizes.bytes_behind(index)
    }

    // ── what was applied ─────────────────────────────────────────────────────

    /// Entries up to `index` are applied: those of them that the limits do not
    /// allow are on the disk only from now on.
    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        self.applied = self.applied.max(index);
        self.tail.applied_to(self.applied);
    }

    /// How many entries are in the tail.
    pub(crate) fn tail_entries(&self) -> u64 {
        self.tail.len()
    }

    /// What the entries in the tail take, encoded, in bytes.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// What entries take that are not applied, encoded, in bytes; those that were
    /// written together with one of them count too.
    pub(crate) fn unapplied_bytes(&self) -> u64 {
        self.tail.unapplied_bytes()
    }

    // ── what is read back ────────────────────────────────────────────────────

    /// Takes out what is to be read now. Each comes back as
    /// [`on_read`](Self::on_read).
    pub(crate) fn take_reads(&mut self) -> Vec<(ReadNumber, LogReadRequest)> {
        self.read_back.get_mut().take_wanted()
    }

    /// Whether anything is to be read. Asked in every turn.
    pub(crate) fn wants_reads(&self) -> bool {
        self.read_back.borrow().wants_reads()
    }

    /// A tick has passed: reads that failed are tried again, and those that the
    /// disk does not answer are given up. Whether who waits for entries has to
    /// look again.
    pub(crate) fn on_tick(&mut self, tick: u64) -> bool {
        self.read_back.get_mut().on_tick(tick)
    }

    /// Since which tick the disk has owed a read, if it has for too long.
    pub(crate) fn reads_stalled_since(&self) -> Option<u64> {
        self.read_back.borrow().stalled_since()
    }

    /// Where a damaged entry was met, or how far behind one at most.
    pub(crate) fn damaged_at(&self) -> Option<LogIndex> {
        self.read_back.borrow().damaged_at()
    }

    /// A read has ended. Only entries that are the log's own are kept.
    pub(crate) fn on_read(
        &mut self,
        number: ReadNumber,
        result: Result<Entries, LogReadError>,
    ) -> ReadOutcome {
        let first = self.terms.first_index();
        let terms = &self.terms;
        self.read_back
            .get_mut()
            .on_read(number, result, first, |id| {
                terms.term(id.index) == Some(id.term)
            })
    }

    /// Whether a follower needs a newer snapshot than there is, because entries
    /// cannot be read. Says so once for every time that one was asked for.
    pub(crate) fn take_snapshot_wish(&mut self) -> bool {
        self.read_back.get_mut().take_snapshot_wish()
    }

    /// Nobody reads old entries any more: this server does not lead.
    pub(crate) fn forget_reads(&mut self) {
        self.read_back.get_mut().forget();
    }

    /// How many reads somebody waits for.
    pub(crate) fn reads_under_way(&self) -> usize {
        self.read_back.borrow().under_way()
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(InitialState {
            hard_state: self.hard_state,
            conf_state: self.conf_state.clone(),
        })
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        let log = self.terms.first_index()..self.terms.next_index();
        StorageError::check_bounds(low..high, log)?;
        if low >= self.tail.first_index() {
            return Ok(self.tail.limited_between(low, high, bytes_max));
        }
        let stored = self.tail.first_index().min(high);
        self.read_back.borrow_mut().entries(low, stored, bytes_max)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        match self.terms.term(index) {
            Some(term) => Ok(term),
            None if index < self.terms.first_index() => Err(StorageError::Compacted),
            None => Err(StorageError::Unavailable),
        }
    }

    fn first_index(&self) -> LogIndex {
        self.terms.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.terms.next_index().prev()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let is_far_enough = self
            .read_back
            .borrow_mut()
            .is_covered_by(self.snapshot.metadata.index);
        if is_far_enough {
            Ok(self.snapshot.clone())
        } else {
            Err(StorageError::SnapshotTemporarilyUnavailable)
        }
    }
}

#[cfg(test)]
mod tests;
