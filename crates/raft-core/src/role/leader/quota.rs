//! # The quota of uncommitted bytes
//!
//! Bounds the data in the log that is not applied, so that a leader without a
//! quorum refuses instead of growing.
//!
//! - Owns: the count of these bytes.
//! - Source: etcd `increaseUncommittedSize`, `reduceUncommittedSize`.

/// Bytes of entry data in the log that are not applied.
#[derive(Debug)]
pub(super) struct UncommittedQuota {
    bytes: u64,
    bytes_max: u64,
}

impl UncommittedQuota {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes: 0,
            bytes_max,
        }
    }

    /// Counts new entries. The first ones go in whatever their size, and empty
    /// ones always do: a new leader's no-op, and leaving a joint configuration.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        if self.bytes > 0 && bytes > 0 && sum > self.bytes_max {
            return false;
        }
        self.bytes = sum;
        true
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn release(&mut self, bytes: u64) {
        // What an earlier leader appended is released but was never counted.
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
