//! # Where a group stands
//!
//! What the log must remember about a group while it runs: not the entries, but
//! where they are.
//!
//! - Owns: hard state, compaction mark, and the live spans of one group.
//! - Reads: what the writer appends, and what a recovery replays. Both go
//!   through the same methods, so they cannot disagree.

use std::collections::VecDeque;

use raft_core::{EntryId, HardState, LogIndex, SnapshotMetadata};

use crate::format::GroupState;

/// A span takes no more records once it is this long, so that whoever reads from
/// the middle of the log reads little in vain; in bytes.
const SPAN_BYTES: u64 = 64 << 10;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) sequence: u64,
    /// Where it begins there, in bytes.
    pub(crate) start: u64,
    /// Where it ends, in bytes.
    pub(crate) end: u64,
}

/// Entries of one segment that are not overwritten, and where they are: in
/// records that follow one another, perhaps with others between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) place: Place,
    pub(crate) first: LogIndex,
    /// The index after the last entry.
    pub(crate) next: LogIndex,
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
/// - In the records of a span no entry is overwritten but those behind its end.
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

    /// Takes entries `[first, next)` that are in the record at `place`. What was
    /// at and behind `first` is overwritten.
    pub(crate) fn append(&mut self, place: Place, first: LogIndex, next: LogIndex) {
        let follows = first == self.next;
        while let Some(last) = self.spans.back_mut() {
            if last.first < first {
                last.next = last.next.min(first);
                break;
            }
            self.spans.pop_back();
        }
        match self.spans.back_mut() {
            Some(last)
                if follows
                    && last.place.sequence == place.sequence
                    && place.end - last.place.start <= SPAN_BYTES =>
            {
                last.next = next;
                last.place.end = place.end;
            }
            _ => self.spans.push_back(Span { place, first, next }),
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
        self.spans.front().map(|span| span.place.sequence)
    }

    /// Where the entries from `low` up to, but not including, `high` are; at
    /// most `count_max` of the spans, without gaps.
    pub(crate) fn spans(&self, low: LogIndex, high: LogIndex, count_max: usize) -> Vec<Span> {
        let start = self.spans.partition_point(|span| span.next <= low);
        self.spans
            .range(start..)
            .take_while(|span| span.first < high)
            .take(count_max)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::Term;

    fn index(number: u64) -> LogIndex {
        LogIndex::new(number)
    }

    fn place(sequence: u64) -> Place {
        Place {
            sequence,
            start: 4096,
            end: 8192,
        }
    }

    #[test]
    fn overwritten_entries_do_not_hold_a_segment() {
        let mut group = Group::new();
        group.append(place(1), index(1), index(11));
        group.append(place(2), index(11), index(21));
        group.append(place(3), index(1), index(2));
        assert_eq!(group.oldest_sequence(), Some(3));
        assert_eq!(group.next, index(2));
    }

    #[test]
    fn a_partly_overwritten_segment_is_held_until_compaction_passes_it() {
        let mut group = Group::new();
        group.append(place(1), index(1), index(11));
        group.append(place(2), index(6), index(8));
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

    #[test]
    fn spans_are_where_the_live_entries_are() {
        let mut group = Group::new();
        let at = |start, end| Place {
            sequence: 1,
            start,
            end,
        };
        group.append(at(0, 100), index(1), index(5));
        group.append(at(100, 200), index(5), index(9));
        // Overwrites, so it has a span of its own.
        group.append(at(200, 300), index(7), index(8));
        group.append(at(300, 400), index(8), index(10));
        let spans = group.spans(index(2), index(100), 10);
        let found: Vec<_> = spans
            .iter()
            .map(|span| (span.place.start, span.place.end, span.first, span.next))
            .collect();
        assert_eq!(
            found,
            [
                (0, 200, index(1), index(7)),
                (200, 400, index(7), index(10))
            ]
        );
        assert_eq!(group.spans(index(7), index(8), 10).len(), 1);
        assert_eq!(group.spans(index(1), index(10), 1).len(), 1);
        // A span that is long enough takes no more.
        group.append(at(200 + SPAN_BYTES, 500 + SPAN_BYTES), index(10), index(11));
        assert_eq!(group.spans(index(10), index(11), 10).len(), 1);
        assert_eq!(group.spans(index(1), index(11), 10).len(), 3);
    }
}
