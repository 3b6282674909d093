//! # Sightings
//!
//! What is seen of a node after a command, without the node itself.

use raft_core::{
    ConfState, Entry, EntryId, HardState, LogIndex, NodeId, ProgressState, ReadOnly, ReadState,
    RoleKind, Snapshot, Storage,
};

use crate::environment::Node;

/// A log as far as it can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The entry before the first; what is before it is gone.
    pub before: EntryId,
    /// All the others, in order.
    pub entries: Vec<Entry>,
}

impl Log {
    /// The last entry.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.before, Entry::id)
    }

    /// The entry at `index`, if it is still there.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let place = index.get().checked_sub(self.before.index.get() + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Whether the entry is or was there. What was compacted was applied.
    pub(super) fn has(&self, id: EntryId) -> bool {
        if id.index == self.before.index {
            return id == self.before;
        }
        id.index < self.before.index
            || self
                .entry(id.index)
                .is_some_and(|entry| entry.term() == id.term)
    }

    pub(super) fn append(&mut self, entries: impl Iterator<Item = Entry>) {
        for entry in entries.filter(|entry| entry.index() > self.before.index) {
            let place = entry.index().get() - self.before.index.get() - 1;
            self.entries
                .truncate(usize::try_from(place).unwrap_or(usize::MAX));
            self.entries.push(entry);
        }
    }
}

/// Whether the core has handed out everything it has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOut {
    /// The log that is seen is the log.
    All,
    /// A Ready waits, and may have entries that replace some that are seen.
    NotAll,
}

/// A node after a command.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which one.
    pub node: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// Term, vote and commit index in memory.
    pub hard_state: HardState,
    /// Term, vote and commit index on disk.
    pub stored: HardState,
    /// The active configuration.
    pub conf_state: ConfState,
    /// What the disk has.
    pub durable: Log,
    /// What the disk will have when all that was handed out is written.
    pub log: Log,
    /// Whether `log` is all.
    pub handed_out: HandedOut,
    /// The state machine.
    pub state: Snapshot,
    /// What a leader knows of the others.
    pub progress: Vec<(NodeId, ProgressState)>,
    /// Which promise reads carry.
    pub read_only: ReadOnly,
    /// Every read confirmed since the start.
    pub reads: Vec<ReadState>,
}

impl Sighting {
    /// Looks at a node.
    pub fn of(node: &Node) -> Self {
        let raw = &node.raw;
        let storage = raw.storage();
        let (first, next) = (storage.first_index(), storage.last_index().next());
        // In memory nothing of this fails.
        let before = EntryId::new(storage.term(first.prev()).unwrap_or_default(), first.prev());
        let entries = storage.entries(first, next, u64::MAX).unwrap_or_default();
        let durable = Log {
            before,
            entries: entries.iter().cloned().collect(),
        };
        let mut log = durable.clone();
        for work in node.append_work() {
            if let Some(snapshot) = &work.snapshot {
                log = Log {
                    before: snapshot.metadata.id(),
                    entries: Vec::new(),
                };
            }
            log.append(work.entries.iter().cloned());
        }
        Self {
            node: node.id(),
            role: raw.role(),
            hard_state: raw.hard_state(),
            stored: storage.log.hard_state(),
            conf_state: raw.membership().conf_state(),
            durable,
            log,
            handed_out: if raw.has_ready() {
                HandedOut::NotAll
            } else {
                HandedOut::All
            },
            state: storage.state.clone(),
            progress: raw.status().progress,
            read_only: raw.config().read_only,
            reads: node.reads.clone(),
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.role == RoleKind::Leader
    }
}
