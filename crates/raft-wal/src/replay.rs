//! # Replaying the log
//!
//! From segments to what each group had: the records in order, later ones
//! winning over earlier ones. Replay stops at the first place that it cannot
//! prove, and never goes on behind it. Of the entries the newest stay in memory,
//! however long the log is, and of all of them the terms.
//!
//! - Owns: the groups while they are rebuilt.
//! - Emits: [`Recovered`], and where each group stands for the writer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use raft_core::{
    Entries, EntryId, EntrySequence, HardState, LogIndex, SnapshotMetadata, Term, TermRuns,
};

use crate::error::Damage;
use crate::format::{GroupState, Record};
use crate::group::{Group, Place};
use crate::newest::Newest;
use crate::segment::Placed;
use crate::starts::Incarnation;

/// What a log had when it was opened. All of it is durable.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The groups that ever wrote something, by their ids.
    pub groups: BTreeMap<u64, RecoveredGroup>,
    /// The write that a crash had cut short, if there was one. Nobody was ever
    /// told that it was durable.
    pub torn_tail: Option<TornTail>,
    /// Which folder it is, and how often it was opened.
    pub incarnation: Incarnation,
}

impl Recovered {
    /// Takes a group out; an empty one if it never wrote anything.
    pub fn take_group(&mut self, group: u64) -> RecoveredGroup {
        self.groups.remove(&group).unwrap_or_default()
    }
}

/// What the log had of one group.
#[derive(Clone, Debug)]
pub struct RecoveredGroup {
    /// Term, vote and commit index; [`HardState::EMPTY`] if none was written.
    pub hard_state: HardState,
    /// Where the latest snapshot stands, and the configuration there.
    pub snapshot: Option<SnapshotMetadata>,
    /// The last entry that was compacted away, or that a snapshot replaced.
    pub compacted: EntryId,
    /// The terms of the entries behind `compacted`.
    pub terms: TermRuns,
    /// The newest of these entries: all, unless they take more than
    /// [`recovered_bytes_max`](crate::WalOptions::recovered_bytes_max).
    pub entries: EntrySequence,
}

impl Default for RecoveredGroup {
    fn default() -> Self {
        Self {
            hard_state: HardState::EMPTY,
            snapshot: None,
            compacted: EntryId::default(),
            terms: TermRuns::behind(EntryId::default()),
            entries: EntrySequence::starting_at(LogIndex::new(1)),
        }
    }
}

/// A write that did not become whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment that ended in it.
    pub file: PathBuf,
    /// Where the segment was cut, in bytes.
    pub offset: u64,
    /// What was wrong there.
    pub what: Damage,
}

/// The groups while they are rebuilt.
#[derive(Debug)]
pub(crate) struct Replay {
    groups: BTreeMap<u64, Replayed>,
    recovered_bytes_max: u64,
    /// The oldest segment that is needed, as far as the log says.
    pub(crate) oldest_needed: u64,
}

/// The groups when the whole log was read.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Where each stands, for the writer.
    pub(crate) groups: BTreeMap<u64, Group>,
    /// What each has, for the caller.
    pub(crate) recovered: BTreeMap<u64, RecoveredGroup>,
}

#[derive(Debug)]
struct Replayed {
    group: Group,
    terms: TermRuns,
    newest: Newest,
}

impl Replayed {
    fn from_state(state: &GroupState) -> Self {
        let last = state.next.prev();
        // Of entries that are in no segment any more the term does not matter: a
        // compaction passes them, or the log has a hole.
        let last = if last == state.compacted.index {
            state.compacted
        } else {
            EntryId::new(Term::ZERO, last)
        };
        Self {
            group: Group::from_state(state),
            terms: TermRuns::behind(last),
            newest: Newest::starting_at(state.next),
        }
    }

    fn append(&mut self, entries: Entries, bytes_max: u64) {
        if let Some(first) = entries.first()
            && first.index() < self.terms.first_index()
        {
            self.terms = TermRuns::behind(EntryId::new(Term::ZERO, first.index().prev()));
        }
        self.terms.append(&entries);
        self.newest.append(entries, bytes_max);
    }
}

impl Default for Replayed {
    fn default() -> Self {
        Self {
            group: Group::new(),
            terms: TermRuns::behind(EntryId::default()),
            newest: Newest::starting_at(LogIndex::new(1)),
        }
    }
}

impl Replay {
    /// Keeps so much of each group's entries in memory, in bytes.
    pub(crate) fn new(recovered_bytes_max: u64) -> Self {
        Self {
            groups: BTreeMap::new(),
            recovered_bytes_max,
            oldest_needed: 1,
        }
    }

    /// Takes the record at `place`.
    pub(crate) fn record(
        &mut self,
        place: Place,
        group: u64,
        record: Record,
    ) -> Result<(), Damage> {
        match record {
            Record::Entries(entries) => self.entries(place, group, entries)?,
            Record::HardState(hard_state) => self.group(group).group.hard_state = hard_state,
            Record::Snapshot(snapshot) => {
                let replayed = self.group(group);
                replayed.terms = TermRuns::behind(snapshot.id());
                replayed.newest = Newest::starting_at(snapshot.index.next());
                replayed.group.install(snapshot);
            }
            Record::Compact(up_to, snapshot) => {
                let replayed = self.group(group);
                replayed.group.compact(up_to, snapshot);
                replayed.terms.compact_to(replayed.group.compacted);
                replayed.newest.drop_before(replayed.group.first_index());
            }
            Record::GroupState(state) => {
                let known = self
                    .groups
                    .entry(group)
                    .or_insert_with(|| Replayed::from_state(&state));
                if known.group.state() != state {
                    return Err(Damage::State { group });
                }
            }
            // The segment that says it is needed itself.
            Record::Purge(oldest) if oldest > place.sequence => return Err(Damage::Meaningless),
            Record::Purge(oldest) => self.oldest_needed = self.oldest_needed.max(oldest),
            Record::Seal(_) | Record::Trailer(_) | Record::Padding => {}
        }
        Ok(())
    }

    /// A group that has begun and about which the first batch of a segment says
    /// nothing. The segments before may go, and would take the group with them.
    pub(crate) fn unstated(&self, first_batch: &[Placed]) -> Option<u64> {
        let is_stated = |id: u64| {
            first_batch.iter().any(|placed| {
                placed.header.group == id && matches!(placed.record, Record::GroupState(_))
            })
        };
        self.groups.keys().copied().find(|id| !is_stated(*id))
    }

    fn group(&mut self, group: u64) -> &mut Replayed {
        self.groups.entry(group).or_default()
    }

    fn entries(&mut self, place: Place, group: u64, entries: Entries) -> Result<(), Damage> {
        let bytes_max = self.recovered_bytes_max;
        let replayed = self.group(group);
        let known = &mut replayed.group;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(Damage::Meaningless);
        };
        let (first, next) = (first.index(), last.index().next());
        if first < known.first_index() || first > known.next {
            return Err(Damage::Hole {
                group,
                expected: known.next,
                found: first,
            });
        }
        known.append(place, first, next);
        replayed.append(entries, bytes_max);
        Ok(())
    }

    /// The groups, if each has all entries behind its compaction mark.
    pub(crate) fn finish(self) -> Result<Finished, Damage> {
        let mut finished = Finished::default();
        for (id, replayed) in self.groups {
            let Replayed {
                group,
                mut terms,
                newest,
            } = replayed;
            let entries = newest.into_entries();
            let ends_well = entries.next_index() == group.next && terms.next_index() == group.next;
            if terms.first_index() != group.first_index() || !ends_well {
                return Err(Damage::Hole {
                    group: id,
                    expected: group.first_index(),
                    found: terms.first_index(),
                });
            }
            terms.compact_to(group.compacted);
            finished.recovered.insert(
                id,
                RecoveredGroup {
                    hard_state: group.hard_state,
                    snapshot: group.snapshot.clone(),
                    compacted: group.compacted,
                    terms,
                    entries,
                },
            );
            finished.groups.insert(id, group);
        }
        Ok(finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: u64) -> Place {
        Place {
            sequence,
            start: 4096,
            end: 8192,
        }
    }

    #[test]
    fn a_group_state_must_agree_with_the_segments_before() {
        let mut replay = Replay::new(u64::MAX);
        let vote = HardState {
            term: Term::new(3),
            ..HardState::EMPTY
        };
        replay
            .record(place(1), 5, Record::HardState(vote))
            .expect("a vote");
        let mut state = GroupState {
            hard_state: vote,
            compacted: EntryId::default(),
            next: LogIndex::new(1),
            snapshot: None,
        };
        replay
            .record(place(2), 5, Record::GroupState(state.clone()))
            .expect("the same");
        state.hard_state = HardState::EMPTY;
        let refused = replay.record(place(2), 5, Record::GroupState(state));
        assert_eq!(refused, Err(Damage::State { group: 5 }));
    }

    #[test]
    fn a_segment_cannot_call_itself_superfluous() {
        let mut replay = Replay::new(u64::MAX);
        assert_eq!(replay.record(place(2), 0, Record::Purge(2)), Ok(()));
        let refused = replay.record(place(2), 0, Record::Purge(3));
        assert_eq!(refused, Err(Damage::Meaningless));
        assert_eq!(replay.oldest_needed, 2);
    }

    #[test]
    fn the_first_batch_of_a_segment_states_every_group() {
        let mut replay = Replay::new(u64::MAX);
        assert_eq!(replay.unstated(&[]), None);
        replay
            .record(place(1), 5, Record::HardState(HardState::EMPTY))
            .expect("a vote");
        assert_eq!(replay.unstated(&[]), Some(5));
    }

    #[test]
    fn entries_behind_a_hole_are_not_taken() {
        let mut replay = Replay::new(u64::MAX);
        let entry = raft_core::Entry::normal(Term::new(1), LogIndex::new(2), bytes::Bytes::new());
        let refused = replay.record(place(1), 5, Record::Entries(entry.into()));
        assert!(matches!(refused, Err(Damage::Hole { group: 5, .. })));
    }
}
