//! # What a state machine writes
//!
//! A snapshot as a job that is done later, on a thread that may wait, while
//! further commands are applied.
//!
//! - Owns: a state that no longer changes, until it is written.

use std::fmt;
use std::io;

use bytes::Bytes;

use crate::box_error::BoxError;

type Write = dyn FnOnce(&mut dyn io::Write) -> Result<(), BoxError> + Send;

/// Writes a snapshot, away from the task that applies commands.
///
/// What it writes goes to the log store piece by piece, so a job that goes
/// through its state needs no memory for the whole. The writer is buffered:
/// small pieces cost little.
///
/// ```
/// use raft_tokio::SnapshotJob;
///
/// let numbers: Vec<u64> = (1..=1000).collect();
/// let job = SnapshotJob::new(move |out| {
///     for number in &numbers {
///         out.write_all(&number.to_le_bytes())?;
///     }
///     Ok(())
/// });
/// assert_eq!(job.into_bytes()?.len(), 8000);
/// assert_eq!(SnapshotJob::bytes("all of it").into_bytes()?, "all of it");
/// # Ok::<(), raft_tokio::BoxError>(())
/// ```
pub struct SnapshotJob(Box<Write>);

impl fmt::Debug for SnapshotJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotJob")
    }
}

impl SnapshotJob {
    /// Writes by this function.
    pub fn new(
        write: impl FnOnce(&mut dyn io::Write) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        Self(Box::new(write))
    }

    /// Writes these bytes. For a state that is small enough to be encoded at
    /// once.
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self::new(move |out| Ok(out.write_all(&data)?))
    }

    /// Writes this value, encoded by postcard. [`SnapshotReader::value`] reads
    /// it.
    ///
    /// [`SnapshotReader::value`]: crate::SnapshotReader::value
    #[cfg(feature = "serde")]
    pub fn value(value: impl serde::Serialize + Send + 'static) -> Self {
        Self::new(move |out| {
            postcard::to_io(&value, out)?;
            Ok(())
        })
    }

    /// Does it.
    ///
    /// # Errors
    /// `out` failed, or the state cannot be encoded.
    pub fn write_to(self, out: &mut dyn io::Write) -> Result<(), BoxError> {
        (self.0)(out)
    }

    /// Does it in memory.
    ///
    /// # Errors
    /// The state cannot be encoded.
    pub fn into_bytes(self) -> Result<Bytes, BoxError> {
        let mut out = Vec::new();
        self.write_to(&mut out)?;
        Ok(out.into())
    }
}
