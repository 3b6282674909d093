//! # Settings

use std::time::Duration;

/// How a log is laid out and written. The defaults suit a server; every value
/// is raised to the least that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalOptions {
    /// When a segment ends, in bytes. Old entries go in whole segments, and the
    /// last one is written again at every start. Default: 16 MiB.
    pub segment_bytes: u64,
    /// How far zeros are written ahead of the batches, and how large the
    /// reserve for a full disk is, in bytes. Default: 1 MiB.
    pub preallocate_bytes: u64,
    /// How much is written and synced together at most, in bytes, unless a
    /// single write is larger. Default: 4 MiB.
    pub batch_bytes_max: u64,
    /// How much may wait to be written before
    /// [`try_append`](crate::Wal::try_append) refuses, in bytes. Default:
    /// 64 MiB.
    pub queue_bytes_max: u64,
    /// How long nothing must be written before the log records that its last
    /// batch is durable. From then on damage to that batch is noticed too.
    /// Default: 5 ms.
    pub durable_mark_after: Duration,
    /// How much of each group's entries is in memory once the log is open, the
    /// newest, in bytes of
    /// [`encoded_len`](raft_core::Entry::encoded_len); one record goes in any case.
    /// [`Wal::read`](crate::Wal::read) reads the others. Default: 256 MiB.
    pub recovered_bytes_max: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            preallocate_bytes: 1 << 20,
            batch_bytes_max: 4 << 20,
            queue_bytes_max: 64 << 20,
            durable_mark_after: Duration::from_millis(5),
            recovered_bytes_max: 256 << 20,
        }
    }
}

impl WalOptions {
    /// When a segment ends, in bytes.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How far zeros are written ahead, in bytes.
    #[must_use]
    pub fn preallocate_bytes(mut self, bytes: u64) -> Self {
        self.preallocate_bytes = bytes;
        self
    }

    /// How much is written and synced together at most, in bytes.
    #[must_use]
    pub fn batch_bytes_max(mut self, bytes: u64) -> Self {
        self.batch_bytes_max = bytes;
        self
    }

    /// How much may wait to be written, in bytes.
    #[must_use]
    pub fn queue_bytes_max(mut self, bytes: u64) -> Self {
        self.queue_bytes_max = bytes;
        self
    }

    /// How long nothing must be written before a durable mark.
    #[must_use]
    pub fn durable_mark_after(mut self, idle: Duration) -> Self {
        self.durable_mark_after = idle;
        self
    }

    /// How much of each group's entries is in memory once the log is open, in
    /// bytes.
    #[must_use]
    pub fn recovered_bytes_max(mut self, bytes: u64) -> Self {
        self.recovered_bytes_max = bytes;
        self
    }

    pub(crate) fn sanitized(self) -> Self {
        Self {
            segment_bytes: self.segment_bytes.clamp(8 << 10, 1 << 30),
            preallocate_bytes: self.preallocate_bytes.clamp(8 << 10, 1 << 30),
            batch_bytes_max: self.batch_bytes_max.clamp(1, 256 << 20),
            ..self
        }
    }
}
