//! # The state machine of a test server
//!
//! - Owns: the state, and up to where it is applied.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use raft_core::{ConfState, Entry, EntryType, LogIndex, Snapshot};

/// A state machine whose state is a hash of everything it was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) index: LogIndex,
    pub(super) state: u64,
    pub(super) conf_state: ConfState,
    pub(super) commands: Vec<Bytes>,
}

impl Machine {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut state = [0; 8];
        if let Some(stored) = snapshot.data.get(..8) {
            state.copy_from_slice(stored);
        }
        Self {
            index: snapshot.metadata.index,
            state: u64::from_le_bytes(state),
            conf_state: snapshot.metadata.conf_state.clone(),
            commands: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        assert_eq!(
            entry.index(),
            self.index.next(),
            "entries are applied in order, each once"
        );
        let mut hasher = DefaultHasher::new();
        (self.state, entry.id(), entry.data()).hash(&mut hasher);
        self.state = hasher.finish();
        self.index = entry.index();
        if entry.entry_type() == EntryType::Normal && !entry.data().is_empty() {
            self.commands.push(entry.data().clone());
        }
    }
}
