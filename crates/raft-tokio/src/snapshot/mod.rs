//! # Snapshots
//!
//! The data of a state machine, on its way between the machine, the disk and
//! other replicas. In the protocol a snapshot is a [`SnapshotManifest`]: length
//! and checksum of data that lives in a [`SnapshotStorage`]. The data itself is
//! never in memory as a whole, unless a state machine wants it so.
//!
//! ```text
//!                 SnapshotJob                      chunks
//!  state machine ────────────► SnapshotStorage ◄──────────► transport ◄──► peers
//!                ◄────────────        ▲      SnapshotExchange
//!               SnapshotReader        │ manifests
//!                                 log store
//! ```
//!
//! | file | room |
//! |---|---|
//! | `job.rs` | what a state machine writes |
//! | `reader.rs` | what it reads |
//! | `manifest.rs` | what the protocol carries |
//! | `storage.rs` | where data is kept: the trait |
//! | `memory.rs`, `files.rs` | in memory, on disk |
//! | `custody.rs` | which snapshots have arrived, and who still needs them |
//! | `exchange.rs` | the door for what is sent and what arrives |
//! | `outgoing.rs`, `incoming.rs` | one that is sent, one that arrives |

mod custody;
mod exchange;
mod files;
mod incoming;
mod job;
mod manifest;
mod memory;
mod outgoing;
mod reader;
mod storage;

pub use self::custody::Fate;
pub use self::exchange::SnapshotExchange;
pub use self::files::SnapshotFiles;
pub use self::incoming::{IncomingError, IncomingSnapshot, ReceivedSnapshot};
pub use self::job::SnapshotJob;
pub use self::manifest::{MalformedManifest, SnapshotManifest};
pub use self::memory::MemorySnapshots;
pub use self::outgoing::OutgoingSnapshot;
pub use self::reader::SnapshotReader;
pub use self::storage::{
    SnapshotData, SnapshotPart, SnapshotSink, SnapshotStorage, SnapshotStorageError, StoredSnapshot,
};
pub(crate) use self::storage::{build, open_checked};

/// How much data is read or written at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Does something that waits for a disk, on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotStorageError> + Send + 'static,
) -> Result<T, SnapshotStorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(SnapshotStorageError::failed(panicked)),
    }
}
