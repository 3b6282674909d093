//! # Snapshots on disk
//!
//! One file per snapshot. It is written under another name, synced, and then
//! given its own, so a file that has its name is whole; what a crash leaves
//! half-written never has one.
//!
//! | file | room |
//! |---|---|
//! | `store.rs` | which snapshots there are, and which of them go |
//! | `folder.rs` | what the files are called |
//! | `layout.rs` | the bytes around the data |
//! | `writer.rs` | a snapshot that is made here |
//! | `part.rs` | a snapshot that arrives, perhaps in several attempts |
//! | `reader.rs` | a snapshot that is read |
//!
//! - Owns: the folder `snapshots/<group>`.
//! - Reads and emits: the data of the state machine, as bytes or as a stream.

mod folder;
mod layout;
mod part;
mod reader;
mod store;
mod writer;

use std::path::PathBuf;

use crate::error::Failure;
use crate::identity::Identity;

pub use self::folder::StoredSnapshot;
pub use self::part::SnapshotPart;
pub use self::reader::SnapshotReader;
pub use self::store::{LatestSnapshot, SnapshotStore};
pub use self::writer::SnapshotWriter;

/// How much is written or read at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Why a snapshot could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed. Nothing is lost that was stored before.
    #[error("{0}; check the disk")]
    Disk(#[from] Failure),
    /// The disk is full. Nothing is lost that was stored before.
    #[error("the disk is full, and a snapshot needs room; make room and try again ({0})")]
    DiskFull(Failure),
    /// The members and the note do not fit into a header.
    #[error(
        "the snapshot has too many members, or too long a note ({bytes} bytes); \
         1 MiB is allowed, and 256 KiB of it for the note"
    )]
    HeaderTooLong {
        /// What the header would take.
        bytes: u64,
    },
    /// The file is damaged.
    #[error(
        "the snapshot {} is damaged: {what}; an older one may do, or the leader sends a new one",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The snapshot is that of another node, cluster or group.
    #[error("the snapshot {} belongs to {found}, and not to this node", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
    },
    /// The snapshot was written by a version of this crate that this one does
    /// not know.
    #[error(
        "the snapshot {} has format version {found}; start the version that wrote it",
        file.display()
    )]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

fn disk(failure: Failure) -> SnapshotError {
    if failure.is_disk_full() {
        SnapshotError::DiskFull(failure)
    } else {
        SnapshotError::Disk(failure)
    }
}
