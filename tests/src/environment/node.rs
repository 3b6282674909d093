//! # A node of the environment
//!
//! The core, its storage in memory, and the work that waits for its two storage
//! threads. The state machine appends every payload to one value, so that two
//! nodes are equal if they applied the same.
//!
//! - Owns: the core, the storage, the queued work.
//! - Source: etcd `rafttest.Node`, `processAppend`, `processApply`.

use std::collections::VecDeque;
use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use raft_core::{
    AppendOutcome, Config, Entries, Entry, HardState, InitialState, LogIndex, MemoryStorage,
    NodeId, RawNode, ReadState, Ready, Snapshot, SnapshotMetadata, Storage, StorageAppend,
    StorageApply, StorageError, StorageWrites, Term,
};

use super::{Broken, Letter, Stop};
use crate::format;

/// Whose habits the harness of a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Those of the reference's tests, with what they leave to luck.
    #[default]
    Reference,
    /// Those that a driver must have: a snapshot is written before the entries
    /// that come with it; what a received snapshot replaces is not applied any
    /// more; a node restarts with what it applied last.
    Careful,
}

/// A node of the environment.
#[derive(Debug)]
pub struct Node {
    /// The core.
    pub raw: RawNode<StateStorage>,
    /// Every read that was confirmed since the start, in order.
    pub reads: Vec<ReadState>,
    pub(super) append_work: VecDeque<StorageAppend>,
    pub(super) apply_work: VecDeque<StorageApply>,
    storage_trust: StorageTrust,
}

/// Whether what the core believes of its storage is so. Invariants are about
/// nodes whose storage does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StorageTrust {
    Kept,
    /// The reference's harness refused a write, and goes on as if nothing was.
    Lost,
}

/// The log in memory, and the latest state of the state machine. Whoever asks
/// for a snapshot gets that state. A node that starts finds the configuration
/// of the last snapshot that was *installed*, as in the reference, though
/// later changes are applied; with [`Driver::Careful`] it starts from the latest.
#[derive(Clone, Debug)]
pub struct StateStorage {
    /// The log.
    pub log: MemoryStorage,
    /// The state after the last applied entry, or the installed snapshot.
    pub state: Snapshot,
    driver: Driver,
}

impl StateStorage {
    /// The index of the snapshot that was installed last.
    fn installed(&self) -> LogIndex {
        let snapshot = self.log.snapshot();
        snapshot.map_or(LogIndex::ZERO, |snapshot| snapshot.metadata.index)
    }
}

impl Storage for StateStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let stored = self.log.initial_state()?;
        if self.driver == Driver::Reference {
            return Ok(stored);
        }
        Ok(InitialState {
            conf_state: self.state.metadata.conf_state.clone(),
            ..stored
        })
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.log.entries(low, high, bytes_max)
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
        Ok(self.state.clone())
    }
}

impl Node {
    /// A node that starts from `snapshot`, unless that is empty.
    pub(super) fn new(config: Config, driver: Driver, snapshot: Snapshot) -> Result<Self, Broken> {
        let id = config.id;
        let mut log = MemoryStorage::new();
        if !snapshot.is_empty() {
            log.apply_snapshot(snapshot.clone())
                .map_err(|why| broken(id, why))?;
        }
        let storage = StateStorage {
            log,
            state: snapshot,
            driver,
        };
        Self::start(config, storage)
    }

    fn start(config: Config, storage: StateStorage) -> Result<Self, Broken> {
        let id = config.id;
        Ok(Self {
            raw: RawNode::new(config, storage).map_err(|why| broken(id, why))?,
            reads: Vec::new(),
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
            storage_trust: StorageTrust::Kept,
        })
    }

    /// Makes the node anew from what it stored. The work that waits for its
    /// threads is lost.
    pub(super) fn restart(&mut self) -> Result<(), Broken> {
        let mut storage = self.raw.storage().clone();
        let hard_state = storage.log.hard_state();
        let applied = storage.state.metadata.index.max(storage.installed());
        if storage.driver == Driver::Careful && !hard_state.is_empty() {
            // The commit index is not always written before it is acted upon.
            storage.log.set_hard_state(HardState {
                commit: hard_state.commit.max(applied),
                ..hard_state
            });
        }
        let config = Config {
            applied,
            ..self.raw.config().clone()
        };
        *self = Self::start(config, storage)?;
        Ok(())
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.raw.id()
    }

    /// The writes that its thread has not done yet, oldest first.
    pub fn append_work(&self) -> impl Iterator<Item = &StorageAppend> {
        self.append_work.iter()
    }

    pub(super) fn broken(&self, why: impl Display) -> Broken {
        broken(self.id(), why)
    }

    pub(super) fn is_asynchronous(&self) -> bool {
        self.raw.config().storage_writes == StorageWrites::Asynchronous
    }

    /// Whether a documented invariant does not hold.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let node = self.id();
        if self.storage_trust == StorageTrust::Kept {
            self.raw
                .check()
                .map_err(|broken| Broken::Invariant { node, broken })?;
        }
        self.raw
            .failure()
            .map_or(Ok(()), |why| Err(self.broken(why)))
    }

    /// Carries a Ready out, or queues its work. Returns what is to be sent.
    pub(super) fn process(&mut self, ready: Ready) -> Result<Vec<Letter>, Stop> {
        self.reads.extend(ready.read_states);
        let mut letters: Vec<Letter> = ready.messages.into_iter().map(Letter::Peer).collect();
        if self.is_asynchronous() {
            self.append_work.extend(ready.append);
            self.apply_work.extend(ready.apply);
            return Ok(letters);
        }
        if let Some(append) = ready.append {
            self.write(append.hard_state, append.entries, append.snapshot)?;
            letters.extend(self.outcomes(append.responses));
        }
        if let Some(apply) = ready.apply {
            self.apply(&apply.entries)?;
        }
        let id = self.id();
        self.raw.advance().map_err(|why| broken(id, why))?;
        Ok(letters)
    }

    /// What follows from a write, as letters.
    pub(super) fn outcomes(&self, outcomes: Vec<AppendOutcome>) -> Vec<Letter> {
        let node = self.id();
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                AppendOutcome::Send(message) => Letter::Peer(message),
                AppendOutcome::Receipt(receipt) => Letter::Written { node, receipt },
            })
            .collect()
    }

    /// Writes, unless the reference's harness would refuse to.
    pub(super) fn write(
        &mut self,
        hard_state: Option<HardState>,
        entries: Entries,
        snapshot: Option<Snapshot>,
    ) -> Result<(), Stop> {
        let result = self.try_write(hard_state, entries, snapshot);
        let goes_on = self.raw.storage().driver == Driver::Reference;
        if goes_on && matches!(result, Err(Stop::Refused(_))) {
            self.storage_trust = StorageTrust::Lost;
        }
        result
    }

    /// Writes in the order of the reference, which does not take a snapshot and
    /// entries in one Ready.
    fn try_write(
        &mut self,
        hard_state: Option<HardState>,
        entries: Entries,
        snapshot: Option<Snapshot>,
    ) -> Result<(), Stop> {
        let id = self.id();
        let storage = self.raw.storage_mut();
        if let Some(hard_state) = hard_state {
            storage.log.set_hard_state(hard_state);
        }
        if let Some(snapshot) = snapshot {
            if storage.driver == Driver::Reference && !entries.is_empty() {
                return Err(Stop::Refused(
                    "can't apply snapshot and entries at the same time".to_owned(),
                ));
            }
            storage
                .log
                .apply_snapshot(snapshot.clone())
                .map_err(|why| Stop::Refused(format::storage_error(why)))?;
            storage.state = snapshot;
        }
        let appended = storage.log.append(entries);
        Ok(appended.map_err(|why| broken(id, why))?)
    }

    pub(super) fn apply(&mut self, entries: &Entries) -> Result<(), Broken> {
        for entry in entries.iter() {
            let superseded = entry.index() < self.raw.first_index();
            if superseded && self.raw.storage().driver == Driver::Careful {
                continue;
            }
            self.check_order(entry)?;
            self.apply_entry(entry)?;
        }
        Ok(())
    }

    /// An entry follows the one before it or the installed snapshot. Where the
    /// apply thread of the reference's harness is behind a snapshot that was
    /// installed meanwhile, it goes through the entries before it once more.
    fn check_order(&self, entry: &Entry) -> Result<(), Broken> {
        let storage = self.raw.storage();
        let last = storage.state.metadata.index;
        let installed = storage.installed();
        if [last.next(), installed.next()].contains(&entry.index())
            || entry.index() < self.raw.first_index()
        {
            return Ok(());
        }
        Err(self.broken(format_args!(
            "entry {} is to be applied after {last}",
            entry.index()
        )))
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), Broken> {
        let last = &self.raw.storage().state;
        let mut data = BytesMut::from(&last.data[..]);
        let mut conf_state = last.metadata.conf_state.clone();
        let change = entry.conf_change().map_err(|why| self.broken(why))?;
        if let Some(change) = change {
            data.extend_from_slice(&change.context);
            // A change that cannot be made is void.
            if let Ok(next) = self.raw.apply_conf_change(&change) {
                conf_state = next;
            }
        } else {
            data.extend_from_slice(entry.data());
        }
        self.raw.storage_mut().state = Snapshot {
            metadata: SnapshotMetadata {
                index: entry.index(),
                term: entry.term(),
                conf_state,
            },
            data: Bytes::from(data),
        };
        Ok(())
    }
}

fn broken(node: NodeId, why: impl Display) -> Broken {
    Broken::Node {
        node,
        why: why.to_string(),
    }
}
