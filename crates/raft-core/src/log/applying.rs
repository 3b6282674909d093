//! # Applying
//!
//! The cursors between committed and applied, and the budget of bytes that may
//! be handed out before the state machine has answered.
//!
//! ```text
//!   applied <= applying <= committed
//! ```
//!
//! - Owns: `applying`, `applied` and the bytes outstanding between them.
//! - Source: etcd `raftLog.acceptApplying`, `appliedTo`.

use crate::types::LogIndex;

/// How far the state machine is.
#[derive(Debug)]
pub(crate) struct Applying {
    applied: LogIndex,
    applying: LogIndex,
    bytes_max: u64,
    bytes: u64,
    paused: bool,
}

impl Applying {
    pub(crate) fn new(applied: LogIndex, bytes_max: u64) -> Self {
        Self {
            applied,
            applying: applied,
            bytes_max,
            bytes: 0,
            paused: false,
        }
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The last index that was handed out.
    pub(crate) fn applying(&self) -> LogIndex {
        self.applying
    }

    /// Whether nothing is handed out until the state machine answers.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// How many bytes may still be handed out.
    pub(crate) fn bytes_left(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// How many bytes may be outstanding.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Entries up to `index` with `bytes` of encoding were handed out, of those
    /// up to `appliable` that could have been. A shorter run than possible
    /// means that the next entry did not fit.
    pub(crate) fn accept(&mut self, index: LogIndex, bytes: u64, appliable: LogIndex) {
        self.applying = index;
        self.bytes = self.bytes.saturating_add(bytes);
        self.paused = self.bytes >= self.bytes_max || index < appliable;
    }

    /// The state machine has applied everything up to `index`, which gives
    /// `bytes` back.
    pub(crate) fn applied_to(&mut self, index: LogIndex, bytes: u64) {
        self.applied = self.applied.max(index);
        self.applying = self.applying.max(self.applied);
        self.bytes = self.bytes.saturating_sub(bytes);
        // A budget of zero lets one entry out at a time. (etcd never applies
        // anything with it: DIVERGENCES.)
        self.paused = self.bytes >= self.bytes_max && self.bytes > 0;
    }
}
