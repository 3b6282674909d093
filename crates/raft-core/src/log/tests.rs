//! The log against a vector of entries.

use std::vec::Vec;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::memory_storage::MemoryStorage;
use crate::types::{Entry, SnapshotMetadata};

/// Entries from index 1 on: a list of how much later each term is than the one
/// before, and how long the data.
fn entries(steps: &[(u64, usize)]) -> Vec<Entry> {
    let mut term = 1;
    (1..)
        .zip(steps)
        .map(|(index, (later, len))| {
            term += later;
            let data = Bytes::from(std::vec![0; *len]);
            Entry::normal(Term::new(term), LogIndex::new(index), data)
        })
        .collect()
}

/// Where the entries of a log are.
#[derive(Clone, Copy, Debug)]
enum Stored {
    /// So many are gone, and the next ones up to the second number stable.
    Compacted(usize, usize),
    /// So many are replaced by a snapshot that is not stored yet.
    BehindSnapshot(usize),
}

impl Stored {
    /// How many of the first entries are not there.
    fn gone(self) -> usize {
        match self {
            Self::Compacted(gone, _) | Self::BehindSnapshot(gone) => gone,
        }
    }

    /// The same, for a log of so many entries.
    fn of(self, len: usize) -> Self {
        match self {
            Self::Compacted(gone, stable) => {
                let stable = stable.min(len);
                Self::Compacted(gone.min(stable), stable)
            }
            Self::BehindSnapshot(gone) => Self::BehindSnapshot(gone.clamp(1, len)),
        }
    }
}

fn anywhere() -> impl Strategy<Value = Stored> {
    let compacted = (0_usize..6, 0_usize..12);
    prop_oneof![
        3 => compacted.prop_map(|(gone, stable)| Stored::Compacted(gone, stable)),
        1 => (1_usize..6).prop_map(Stored::BehindSnapshot),
    ]
}

fn batch(part: &[Entry]) -> Entries {
    Entries::from_batch(part.to_vec()).unwrap()
}

fn log(model: &[Entry], stored: Stored) -> RaftLog<MemoryStorage> {
    let mut storage = MemoryStorage::new();
    let (mut log, unstable) = match stored {
        Stored::Compacted(gone, stable) => {
            storage.append(batch(&model[..stable])).unwrap();
            if gone > 0 {
                storage.compact(model[gone - 1].index()).unwrap();
            }
            let log = RaftLog::new(storage, u64::MAX, Appliable::Committed);
            (log, &model[stable..])
        }
        Stored::BehindSnapshot(gone) => {
            // What the snapshot replaces is still in the storage.
            storage.append(batch(&model[..gone])).unwrap();
            let mut log = RaftLog::new(storage, u64::MAX, Appliable::Committed);
            let last = model[gone - 1].id();
            log.restore(Snapshot {
                metadata: SnapshotMetadata {
                    index: last.index,
                    term: last.term,
                    ..SnapshotMetadata::default()
                },
                ..Snapshot::default()
            });
            (log, &model[gone..])
        }
    };
    // In two batches, as they come.
    let (first, second) = unstable.split_at(unstable.len() / 2);
    log.append(batch(first));
    log.append(batch(second));
    log
}

/// The longest prefix that fits, but one entry at least.
fn limited(part: &[Entry], bytes_max: u64) -> &[Entry] {
    let mut sum = 0_u64;
    let fitting = part.iter().take_while(|entry| {
        sum += entry.encoded_len();
        sum <= bytes_max
    });
    &part[..fitting.count().max(1).min(part.len())]
}

fn any_steps() -> impl Strategy<Value = Vec<(u64, usize)>> {
    vec((0_u64..3, 0_usize..9), 1..12)
}

proptest! {
    // The edge between what is stable and what is not is narrow.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_slice_of_the_log_is_that_part_wherever_it_is_stored(
        steps in any_steps(),
        stored in anywhere(),
        (low, high) in (0_u64..15, 0_u64..15),
        bytes_max in prop_oneof![7 => 0_u64..60, 1 => Just(u64::MAX)],
    ) {
        let model = entries(&steps);
        let stored = stored.of(model.len());
        let compacted = stored.gone();
        let log = log(&model, stored);
        let (first, end) = (compacted as u64 + 1, model.len() as u64 + 1);
        prop_assert_eq!(log.first_index().get(), first);
        prop_assert_eq!(log.last_index().get() + 1, end);
        let slice = log.slice(LogIndex::new(low), LogIndex::new(high), bytes_max);
        let outcome = slice.map(|found| found.iter().cloned().collect::<Vec<_>>());
        match outcome {
            Ok(found) if low >= high => prop_assert!(found.is_empty()),
            Ok(found) => {
                prop_assert!(low >= first && high <= end);
                let part: Vec<Entry> = model
                    .iter()
                    .filter(|entry| (low..high).contains(&entry.index().get()))
                    .cloned()
                    .collect();
                prop_assert_eq!(&found, limited(&part, bytes_max));
            }
            Err(StorageError::Compacted) => prop_assert!(low < first),
            Err(StorageError::Unavailable) => prop_assert!(low >= first && high > end),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn terms_are_known_from_one_before_the_log_to_its_end(
        steps in any_steps(),
        stored in anywhere(),
    ) {
        let model = entries(&steps);
        let stored = stored.of(model.len());
        let compacted = stored.gone();
        let log = log(&model, stored);
        for index in 0..15_u64 {
            let expected = match index {
                0 if compacted == 0 => Some(Term::ZERO),
                _ if index < compacted as u64 => None,
                _ => model.iter().find(|e| e.index().get() == index).map(Entry::term),
            };
            let found = log.known_term(LogIndex::new(index)).unwrap();
            prop_assert_eq!(found, expected, "{}", index);
        }
    }

    #[test]
    fn the_first_conflict_is_the_first_entry_that_the_log_has_not(
        own in any_steps(),
        others in any_steps(),
        stable in 0_usize..12,
        (from, count) in (0_usize..12, 0_usize..12),
    ) {
        let model = entries(&own);
        let log = log(&model, Stored::Compacted(0, stable).of(model.len()));
        let others = entries(&others);
        let sent: Vec<Entry> = others.into_iter().skip(from).take(count).collect();
        let naive = sent
            .iter()
            .find(|entry| !model.iter().any(|own| own.id() == entry.id()))
            .map(Entry::index);
        let sent = Entries::from_batch(sent).unwrap();
        prop_assert_eq!(log.first_conflict(&sent).unwrap(), naive);
    }

    #[test]
    fn the_guess_is_the_last_entry_of_no_later_term(
        steps in any_steps(),
        stored in anywhere(),
        (index, term) in (0_u64..14, 0_u64..20),
    ) {
        let model = entries(&steps);
        let stored = stored.of(model.len());
        let compacted = stored.gone();
        let log = log(&model, stored);
        let guess = log.conflict_guess(LogIndex::new(index), Term::new(term)).unwrap();
        let known = |at: u64| match at {
            0 => Some(0),
            _ if at < compacted as u64 => None,
            _ => model.iter().find(|e| e.index().get() == at).map(|e| e.term().get()),
        };
        // Where nothing is known the logs may agree.
        let naive = (0..=index).rev().find(|at| known(*at).is_none_or(|own| own <= term)).unwrap();
        prop_assert_eq!(guess.index.get(), naive);
        prop_assert_eq!(guess.term.get(), known(naive).unwrap_or(0));
    }
}
