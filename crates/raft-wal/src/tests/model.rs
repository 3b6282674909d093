//! # The model
//!
//! What a log adds up to, kept in plain vectors, and workloads drawn from a
//! seed.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex, NodeId, SnapshotMetadata,
    Term,
};

use crate::error::WalError;
use crate::log::Job;
use crate::replay::Recovered;
use crate::write::{Sync, Write};

/// What every group has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    groups: BTreeMap<u64, ModelGroup>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelGroup {
    hard_state: HardState,
    snapshot: Option<SnapshotMetadata>,
    compacted: EntryId,
    entries: Vec<Entry>,
}

impl Default for ModelGroup {
    fn default() -> Self {
        Self {
            hard_state: HardState::EMPTY,
            snapshot: None,
            compacted: EntryId::default(),
            entries: Vec::new(),
        }
    }
}

impl ModelGroup {
    fn next(&self) -> LogIndex {
        self.entries
            .last()
            .map_or(self.compacted.index, Entry::index)
            .next()
    }

    fn id_at(&self, index: LogIndex) -> Option<EntryId> {
        self.entries
            .iter()
            .map(Entry::id)
            .find(|id| id.index == index)
    }
}

impl Model {
    pub(crate) fn of(recovered: &Recovered) -> Self {
        let groups = recovered.groups.iter().map(|(id, group)| {
            let all = group
                .entries
                .between(LogIndex::ZERO, group.entries.next_index());
            let model = ModelGroup {
                hard_state: group.hard_state,
                snapshot: group.snapshot.clone(),
                compacted: group.compacted,
                entries: all.iter().cloned().collect(),
            };
            assert_eq!(model.next(), group.entries.next_index());
            assert_eq!(group.compacted.index.next(), group.entries.first_index());
            assert_eq!(group.compacted.index.next(), group.terms.first_index());
            assert_eq!(group.entries.next_index(), group.terms.next_index());
            for entry in all.iter() {
                assert_eq!(group.terms.term(entry.index()), Some(entry.term()));
            }
            (*id, model)
        });
        Self {
            groups: groups.collect(),
        }
    }

    /// The log of every group.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (u64, &[Entry])> {
        self.groups
            .iter()
            .map(|(id, group)| (*id, group.entries.as_slice()))
    }

    fn apply(&mut self, job: &Job) {
        match job {
            Job::Write(write) => {
                let group = self.groups.entry(write.group).or_default();
                if let Some(snapshot) = &write.snapshot {
                    group.entries.clear();
                    group.compacted = snapshot.id();
                    group.snapshot = Some(snapshot.clone());
                }
                if let Some(first) = write.entries.first() {
                    group.entries.retain(|entry| entry.index() < first.index());
                    group.entries.extend(write.entries.iter().cloned());
                }
                if let Some(hard_state) = write.hard_state {
                    group.hard_state = hard_state;
                }
            }
            Job::Compact {
                group,
                up_to,
                snapshot,
            } => {
                let group = self.groups.entry(*group).or_default();
                group.entries.retain(|entry| entry.index() > up_to.index);
                group.compacted = *up_to;
                group.snapshot = Some(snapshot.clone());
            }
        }
    }

    /// The same without the commit indexes.
    fn without_commit(&self) -> Self {
        let mut model = self.clone();
        for group in model.groups.values_mut() {
            group.hard_state.commit = LogIndex::ZERO;
        }
        // A group may be known only for a hard state that was refused.
        model
            .groups
            .retain(|_, group| *group != ModelGroup::default());
        model
    }

    /// One entry and one vote more, in each of two groups.
    pub(crate) fn next_writes(&self) -> Vec<Job> {
        let mut draw = Draw::new(1);
        (1..=2)
            .map(|group| draw.write(self, group, Kind::Append))
            .collect()
    }
}

/// What a test does with a log.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Commit(Vec<Job>),
    Maintain,
    Mark,
}

/// What may be on the disk after some steps.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What there was after each commit, from the newest one that must be
    /// there.
    states: Vec<Model>,
    /// Whether every commit was acknowledged so far.
    acknowledgement: Acknowledgement,
    commits: Commits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledgement {
    Always,
    Ended,
}

/// Whether commit indexes are as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commits {
    Exact,
    /// Entries were refused, so they may be lower.
    Lowered,
}

impl Outcome {
    pub(crate) fn starting_with(start: Model) -> Self {
        Self {
            states: vec![start],
            acknowledgement: Acknowledgement::Always,
            commits: Commits::Exact,
        }
    }

    pub(crate) fn committed(&mut self, jobs: &[Job], results: &[Result<(), WalError>]) {
        let mut state = self.states.last().cloned().unwrap();
        let mut durable = false;
        let mut written = false;
        for (job, result) in jobs.iter().zip(results) {
            match result {
                Ok(()) => {
                    assert_eq!(
                        self.acknowledgement,
                        Acknowledgement::Always,
                        "nothing is acknowledged after a failure"
                    );
                    durable |= !matches!(job, Job::Write(write) if write.sync == Sync::NotNeeded);
                }
                // The failed batch may be there whole; later ones cannot.
                Err(WalError::Poisoned(_)) if self.acknowledgement == Acknowledgement::Always => {}
                Err(error) => {
                    if matches!(error, WalError::DiskFull) {
                        self.commits = Commits::Lowered;
                    }
                    continue;
                }
            }
            written = true;
            state.apply(job);
        }
        if results
            .iter()
            .any(|result| matches!(result, Err(WalError::Poisoned(_))))
        {
            self.acknowledgement = Acknowledgement::Ended;
        }
        if durable {
            self.states.clear();
        }
        if written {
            self.states.push(state);
        }
    }

    pub(crate) fn newest(&self) -> &Model {
        self.states.last().unwrap()
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.acknowledgement == Acknowledgement::Ended
    }

    pub(crate) fn assert_all_acknowledged(&self, context: &str) {
        assert!(!self.is_failed(), "{context}: a write failed");
        assert_eq!(self.states.len(), 1, "{context}: a write is not durable");
    }

    pub(crate) fn allows(&self, found: &Model) -> bool {
        match self.commits {
            Commits::Exact => self.states.contains(found),
            Commits::Lowered => self
                .states
                .iter()
                .any(|state| state.without_commit() == found.without_commit()),
        }
    }

    pub(crate) fn assert_allows(&self, found: &Model, context: &str) {
        assert!(
            self.allows(found),
            "{context}: found {found:#?}\nbut allowed is {:#?}",
            self.states
        );
    }
}

/// Draws workloads from a seed (splitmix64).
pub(crate) struct Draw(u64);

/// What a drawn write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    Overwrite,
    Install,
    Vote,
    Commit,
    Compact,
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }

    fn entries(&mut self, first: LogIndex, term: Term) -> Entries {
        let count = 1 + self.below(3);
        let batch = (0..count)
            .map(|offset| {
                let index = first.plus(offset);
                let len = usize::try_from(self.below(500)).unwrap();
                let fill = u8::try_from(self.below(256)).unwrap();
                match self.below(8) {
                    0 => Entry::refused_conf_change(term, index),
                    1 => Entry::new(
                        term,
                        index,
                        EntryType::ConfChangeV2,
                        Bytes::from(vec![fill; 5]),
                    ),
                    _ => Entry::normal(term, index, Bytes::from(vec![fill; len])),
                }
            })
            .collect();
        Entries::from_batch(batch).unwrap()
    }

    fn conf_state(&mut self) -> ConfState {
        let mut conf_state = ConfState::of_voters((1..=3).filter_map(NodeId::new));
        conf_state.auto_leave = self.below(2) == 0;
        conf_state.learners.extend(NodeId::new(4 + self.below(3)));
        conf_state
    }

    /// A job for a group that stands as in `model`.
    pub(crate) fn write(&mut self, model: &Model, group_id: u64, kind: Kind) -> Job {
        let group = model.groups.get(&group_id).cloned().unwrap_or_default();
        let mut term = group.hard_state.term.max(Term::new(1));
        let mut write = Write::new(group_id, Sync::Required);
        match kind {
            Kind::Append => write.entries = self.entries(group.next(), term),
            Kind::Overwrite => {
                term = term.next();
                let back = self.below(group.entries.len().try_into().unwrap_or(0) + 1);
                let first = LogIndex::new(group.next().get() - back);
                write.entries = self.entries(first, term);
            }
            Kind::Install => {
                let index = group.next().plus(self.below(20));
                write.snapshot = Some(SnapshotMetadata {
                    index,
                    term,
                    conf_state: self.conf_state(),
                });
                if self.below(2) == 0 {
                    write.entries = self.entries(index.next(), term);
                }
            }
            Kind::Vote => term = term.next(),
            Kind::Commit => write.sync = Sync::NotNeeded,
            Kind::Compact => {
                let oldest = group.compacted.index.next();
                let count = group.next().distance_from(oldest);
                let index = oldest.plus(self.below(count.max(1)));
                if let Some(up_to) = group.id_at(index) {
                    return Job::Compact {
                        group: group_id,
                        up_to,
                        snapshot: SnapshotMetadata {
                            index: up_to.index,
                            term: up_to.term,
                            conf_state: self.conf_state(),
                        },
                    };
                }
            }
        }
        let last = write
            .entries
            .last_id()
            .map_or(group.compacted.index, |id| id.index);
        write.hard_state = Some(HardState {
            term,
            vote: NodeId::new(1 + self.below(3)),
            commit: group.hard_state.commit.max(group.compacted.index.max(last)),
        });
        Job::Write(write)
    }

    /// A workload over two groups.
    pub(crate) fn steps(&mut self, start: &Model, commits: usize) -> Vec<Step> {
        let mut model = start.clone();
        let mut steps = Vec::new();
        for _ in 0..commits {
            let mut jobs = Vec::new();
            for _ in 0..=self.below(3) {
                let kind = match self.below(20) {
                    0 | 1 => Kind::Overwrite,
                    2 => Kind::Install,
                    3 => Kind::Vote,
                    4 | 5 => Kind::Commit,
                    6..=8 => Kind::Compact,
                    _ => Kind::Append,
                };
                let group = 1 + self.below(2);
                let job = self.write(&model, group, kind);
                model.apply(&job);
                jobs.push(job);
            }
            steps.push(Step::Commit(jobs));
            match self.below(6) {
                0 => steps.push(Step::Mark),
                1 | 2 => steps.push(Step::Maintain),
                _ => {}
            }
        }
        steps
    }
}
