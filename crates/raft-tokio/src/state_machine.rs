//! # The state machine
//!
//! The one trait that a user implements: what commands mean (Raft §2).
//!
//! Every replica applies the same commands in the same order, so applying must
//! depend on nothing but the state and the command: no clock, no random number,
//! no iteration over a hash map whose order differs between processes.

use bytes::Bytes;
use raft_core::LogIndex;

/// An error of the user's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Builds the bytes of a snapshot, away from the task that applies commands.
pub type SnapshotJob = Box<dyn FnOnce() -> Result<Bytes, BoxError> + Send>;

/// What commands mean. Lives on a task of its own; nothing else touches it, so
/// it needs no locks.
///
/// ```
/// use bytes::Bytes;
/// use raft_tokio::{BoxError, LogIndex, SnapshotJob, StateMachine};
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
///         let value = self.0;
///         Box::new(move || Ok(Bytes::copy_from_slice(&value.to_le_bytes())))
///     }
///
///     fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError> {
///         self.0 = u64::from_le_bytes(snapshot.as_ref().try_into()?);
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

    /// Takes the state as it is now and returns a job that encodes it. The job
    /// runs on another thread while further commands are applied, so it has to
    /// own what it encodes: a clone, or a persistent or reference-counted copy.
    fn snapshot(&mut self) -> SnapshotJob;

    /// Replaces the state by what a snapshot job encoded, here or on another
    /// replica.
    ///
    /// # Errors
    /// The bytes cannot be read. The replica stops, since it cannot go on.
    fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError>;
}
