//! A durable log for Raft: segmented, checksummed, group-committing.
//!
//! [`Wal`] takes entries, votes and compaction marks of many groups, writes
//! whatever has queued up as one batch with one `fdatasync`, and tells each
//! caller when its write is durable. [`Wal::open`] gives everything back that
//! was ever acknowledged, or refuses the log and says where it is damaged.
//! [`SnapshotStore`] keeps the data of snapshots, and [`Dump`] shows a log to
//! people.
//!
//! What is promised under which failure, and every byte on the disk, is in
//! `docs/WAL.md`.
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::{Entry, LogIndex, NodeId, Term};
//! use raft_wal::{Identity, Sync, Wal, WalOptions, Write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let identity = Identity {
//!     cluster_id: 7,
//!     node_id: NodeId::try_from(1)?,
//! };
//! let (wal, _) = Wal::open(dir, identity, WalOptions::default())?;
//! let mut write = Write::new(0, Sync::Required);
//! write.entries = Entry::normal(Term::new(1), LogIndex::new(1), Bytes::from("set x 1")).into();
//! wal.append(write, |result| result.expect("the entry is durable"));
//! wal.close()?;
//!
//! let (_wal, mut recovered) = Wal::open(dir, identity, WalOptions::default())?;
//! assert_eq!(recovered.take_group(0).entries.next_index(), LogIndex::new(2));
//! # Ok(())
//! # }
//! ```
//!
//! # Where is it?
//!
//! | what | file |
//! |---|---|
//! | the bytes of segments and records | `format/` |
//! | reading a segment, torn or damaged | `segment.rs` |
//! | what the records add up to | `replay.rs`, `newest.rs`, `group.rs` |
//! | opening a folder, repairing its end | `folder.rs`, `recovery.rs`, `log/reopen.rs` |
//! | writing, sealing, dropping, room on the disk | `log/` |
//! | the queue and the thread | `wal.rs` |
//! | the log without them, to count instructions | `direct.rs` |
//! | reading entries back | `read.rs` |
//! | snapshots | `snapshots/` |
//! | the disk, and one that loses power | `fs.rs`, `sim/` |

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(any(test, feature = "testing"))]
mod direct;
mod dump;
mod error;
mod folder;
mod format;
mod fs;
mod group;
mod identity;
mod log;
mod newest;
mod options;
mod read;
mod recovery;
mod replay;
mod segment;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod snapshots;
mod starts;
#[cfg(test)]
mod tests;
mod wal;
mod write;

// The public interface is:
#[cfg(any(test, feature = "testing"))]
pub use direct::DirectLog;
pub use dump::{Dump, DumpItem, DumpRecord};
pub use error::{
    Corruption, Damage, Failure, OpenError, Operation, ReadError, UnreadableEntries, WalError,
};
pub use format::FORMAT_VERSION;
pub use fs::{File, Fs, OsFs};
pub use identity::Identity;
pub use log::WRITE_BYTES_MAX;
pub use options::WalOptions;
pub use replay::{Recovered, RecoveredGroup, TornTail};
pub use snapshots::{
    LatestSnapshot, SnapshotError, SnapshotPart, SnapshotReader, SnapshotStore, SnapshotWriter,
    StoredSnapshot,
};
pub use starts::Incarnation;
pub use wal::{QueueFill, QueueFull, Wal};
pub use write::{Sync, Write};
