//! # The state machine
//!
//! The one trait that a user implements: what commands mean (Raft §2).
//!
//! Every replica applies the same commands in the same order, so applying must
//! depend on nothing but the state and the command: no clock, no random number,
//! no iteration over a hash map whose order differs between processes.

use bytes::Bytes;
use raft_core::LogIndex;

use crate::box_error::BoxError;
use crate::snapshot::{SnapshotJob, SnapshotReader};

/// What commands mean. Lives on a task of its own; nothing else touches it, so
/// it needs no locks.
///
/// ```
/// use bytes::Bytes;
/// use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
///         self.0 += 1;
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///
///     fn query(&mut self, _query: &Bytes) -> Bytes {
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///
///     fn snapshot(&mut self) -> SnapshotJob {
///         SnapshotJob::bytes(self.0.to_le_bytes().to_vec())
///     }
///
///     fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
///         self.0 = u64::from_le_bytes(snapshot.read_whole()?.as_ref().try_into()?);
///         Ok(())
///     }
/// }
/// ```
///
/// A large state is written and read piece by piece, so that no more than a few
/// pieces are in memory besides the state itself:
///
/// ```
/// use std::io::Read;
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};
///
/// /// Pages that a snapshot shares with the state until one of them changes.
/// #[derive(Default)]
/// struct Pages(Vec<Arc<[u8; 4096]>>);
///
/// impl StateMachine for Pages {
///     fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
///         let page = usize::from(command[0]);
///         self.0.resize_with(self.0.len().max(page + 1), || Arc::new([0; 4096]));
///         Arc::make_mut(&mut self.0[page])[0] += 1;
///         Bytes::new()
///     }
///
///     fn snapshot(&mut self) -> SnapshotJob {
///         let pages = self.0.clone();
///         SnapshotJob::new(move |out| {
///             for page in pages {
///                 out.write_all(&page[..])?;
///             }
///             Ok(())
///         })
///     }
///
///     fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
///         let mut pages = Vec::new();
///         while snapshot.bytes_left() > 0 {
///             let mut page = [0; 4096];
///             snapshot.read_exact(&mut page)?;
///             pages.push(Arc::new(page));
///         }
///         self.0 = pages;
///         Ok(())
///     }
/// }
/// ```
pub trait StateMachine: Send + 'static {
    /// Applies a committed command and returns the reply for whoever proposed
    /// it. Must be deterministic, and must not fail: a command that makes no
    /// sense has a reply that says so.
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes;

    /// Answers a question without changing anything. Runs after every command
    /// that was committed when a linearizable [`query`](crate::Raft::query)
    /// began.
    fn query(&mut self, query: &Bytes) -> Bytes {
        let _ = query;
        Bytes::new()
    }

    /// Takes the state as it is now and returns a job that writes it. The job
    /// runs on another thread while further commands are applied, so it has to
    /// own what it writes: a clone, or a persistent or reference-counted copy.
    fn snapshot(&mut self) -> SnapshotJob;

    /// Replaces the state by what a snapshot job wrote, here or on another
    /// replica. Runs on a thread that may wait; nothing else is asked of the
    /// state machine meanwhile.
    ///
    /// # Errors
    /// The data cannot be read. The replica stops, since it cannot go on.
    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError>;
}
