//! # Where a group stands
//!
//! What the log must remember about a group while it runs: not the entries, but
//! in which segments they are.
//!
//! - Owns: hard state, compaction mark, and the live spans of one group.
//! - Reads: what the writer appends, and what a recovery replays. Both go
//!   through the same methods, so they cannot disagree.

use std::collections::VecDeque;

use raft_core::{EntryId, HardState, LogIndex, SnapshotMetadata};

use crate::format::GroupState;

/// Entries of one segment that are not overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    sequence: u64,
    first: LogIndex,
    /// The index after the last entry.
    next: LogIndex,
}

/// Whether the disk once had no room for entries of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    Whole,
    /// Entries were refused, so commit indexes may be ahead of the log.
    Refused,
}

/// Where a group stands.
///
/// # Invariants
/// - Spans are in order, not empty, and do not overlap; the last one ends at
///   `next`.
/// - `compacted.index < next`.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) hard_state: HardState,
    pub(crate) compacted: EntryId,
    pub(crate) snapshot: Option<SnapshotMetadata>,
    /// The index after the last entry.
    pub(crate) next: LogIndex,
    pub(crate) intake: Intake,
    spans: VecDeque<Span>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            hard_state: HardState::EMPTY,
            compacted: EntryId::default(),
            snapshot: None,
            next: LogIndex::new(1),
            intake: Intake::Whole,
            spans: VecDeque::new(),
        }
    }

    pub(crate) fn from_state(state: &GroupState) -> Self {
        Self {
            hard_state: state.hard_state,
            compacted: state.compacted,
            snapshot: state.snapshot.clone(),
            next: state.next,
            intake: Intake::Whole,
            spans: VecDeque::new(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        GroupState {
            hard_state: self.hard_state,
            compacted: self.compacted,
            next: self.next,
            snapshot: self.snapshot.clone(),
        }
    }

    /// The first index that entries may have.
    pub(crate) fn first_index(&self) -> LogIndex {
        self.compacted.index.next()
    }

    /// Takes entries `[first, next)` that are in segment `sequence`. What was
    /// at and behind `first` is overwritten.
    pub(crate) fn append(&mut self, sequence: u64, first: LogIndex, next: LogIndex) {
        while let Some(last) = self.spans.back_mut() {
            if last.first < first {
                last.next = last.next.min(first);
                break;
            }
            self.spans.pop_back();
        }
        match self.spans.back_mut() {
            Some(last) if last.sequence == sequence => last.next = next,
            _ => self.spans.push_back(Span {
                sequence,
                first,
                next,
            }),
        }
        self.next = next;
        self.intake = Intake::Whole;
    }

    /// Drops the entries up to and with `up_to`.
    pub(crate) fn compact(&mut self, up_to: EntryId, snapshot: SnapshotMetadata) {
        if up_to.index > self.compacted.index {
            self.compacted = up_to;
        }
        if self
            .snapshot
            .as_ref()
            .is_none_or(|own| own.index <= snapshot.index)
        {
            self.snapshot = Some(snapshot);
        }
        let first = self.first_index();
        while let Some(oldest) = self.spans.front_mut() {
            if oldest.next > first {
                oldest.first = oldest.first.max(first);
                break;
            }
            self.spans.pop_front();
        }
        self.next = self.next.max(first);
    }

    /// Replaces the whole log by a snapshot.
    pub(crate) fn install(&mut self, snapshot: SnapshotMetadata) {
        self.compacted = snapshot.id();
        self.next = snapshot.index.next();
        self.snapshot = Some(snapshot);
        self.spans.clear();
        self.intake = Intake::Whole;
    }

    /// The oldest segment that has an entry of the group.
    pub(crate) fn oldest_sequence(&self) -> Option<u64> {
        self.spans.front().map(|span| span.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::Term;

    fn index(number: u64) -> LogIndex {
        LogIndex::new(number)
    }

    #[test]
    fn overwritten_entries_do_not_hold_a_segment() {
        let mut group = Group::new();
        group.append(1, index(1), index(11));
        group.append(2, index(11), index(21));
        group.append(3, index(1), index(2));
        assert_eq!(group.oldest_sequence(), Some(3));
        assert_eq!(group.next, index(2));
    }

    #[test]
    fn a_partly_overwritten_segment_is_held_until_compaction_passes_it() {
        let mut group = Group::new();
        group.append(1, index(1), index(11));
        group.append(2, index(6), index(8));
        assert_eq!(group.oldest_sequence(), Some(1));
        let snapshot = SnapshotMetadata::default();
        group.compact(EntryId::new(Term::new(1), index(4)), snapshot.clone());
        assert_eq!(group.oldest_sequence(), Some(1));
        group.compact(EntryId::new(Term::new(1), index(5)), snapshot.clone());
        assert_eq!(group.oldest_sequence(), Some(2));
        group.compact(EntryId::new(Term::new(1), index(7)), snapshot);
        assert_eq!(group.oldest_sequence(), None);
        assert_eq!(group.next, index(8));
    }
}
