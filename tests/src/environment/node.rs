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
    NodeId, RawNode, Ready, Snapshot, SnapshotMetadata, Storage, StorageAppend, StorageApply,
    StorageError, StorageWrites, Term,
};

use super::{Broken, Letter, Stop};
use crate::format;

/// A node of the environment.
#[derive(Debug)]
pub struct Node {
    /// The core.
    pub raw: RawNode<StateStorage>,
    pub(super) append_work: VecDeque<StorageAppend>,
    pub(super) apply_work: VecDeque<StorageApply>,
}

/// The log in memory, and the latest state of the state machine. Whoever asks
/// for a snapshot gets that state. A node that starts finds the configuration
/// of the last snapshot that was *installed*, as in the reference, though
/// later changes are applied; a driver must start from the latest.
#[derive(Clone, Debug)]
pub struct StateStorage {
    /// The log.
    pub log: MemoryStorage,
    /// The state after the last applied entry, or the installed snapshot.
    pub state: Snapshot,
}

impl Storage for StateStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.log.initial_state()
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
    pub(super) fn new(config: Config, snapshot: Snapshot) -> Result<Self, Broken> {
        let id = config.id;
        let mut log = MemoryStorage::new();
        if !snapshot.is_empty() {
            log.apply_snapshot(snapshot.clone())
                .map_err(|why| broken(id, why))?;
        }
        let storage = StateStorage {
            log,
            state: snapshot,
        };
        Self::start(config, storage)
    }

    fn start(config: Config, storage: StateStorage) -> Result<Self, Broken> {
        let id = config.id;
        Ok(Self {
            raw: RawNode::new(config, storage).map_err(|why| broken(id, why))?,
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
        })
    }

    /// Makes the node anew from what it stored. The work that waits for its
    /// threads is lost.
    pub(super) fn restart(&mut self) -> Result<(), Broken> {
        let storage = self.raw.storage().clone();
        let config = Config {
            applied: storage.state.metadata.index,
            ..self.raw.config().clone()
        };
        *self = Self::start(config, storage)?;
        Ok(())
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.raw.id()
    }

    pub(super) fn broken(&self, why: impl Display) -> Broken {
        broken(self.id(), why)
    }

    pub(super) fn is_asynchronous(&self) -> bool {
        self.raw.config().storage_writes == StorageWrites::Asynchronous
    }

    /// Carries a Ready out, or queues its work. Returns what is to be sent.
    pub(super) fn process(&mut self, ready: Ready) -> Result<Vec<Letter>, Stop> {
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

    /// Writes in the order of the reference, which does not take a snapshot and
    /// entries in one Ready. (A driver must: the snapshot first.)
    pub(super) fn write(
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
            if !entries.is_empty() {
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
            self.apply_entry(entry)?;
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), Broken> {
        let last = &self.raw.storage().state;
        if entry.index() != last.metadata.index.next() {
            return Err(self.broken(format_args!(
                "entry {} is to be applied after {}",
                entry.index(),
                last.metadata.index
            )));
        }
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
