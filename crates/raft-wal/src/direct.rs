//! # The log without its queue
//!
//! A write is carried out by its caller, alone in its batch, instead of by the
//! log's thread with whatever else has queued up. So the instructions of a write
//! can be counted.
//!
//! - Owns: the log. Everything that a write costs is in `log/` and `format/`.

use std::path::Path;

use crate::error::{OpenError, WalError};
use crate::fs::Fs;
use crate::identity::Identity;
use crate::log::{Job, Log};
use crate::options::WalOptions;
use crate::write::Write;

/// A log whose writes are carried out by their caller.
#[derive(Debug)]
pub struct DirectLog<F: Fs>(Log<F>);

impl<F: Fs> DirectLog<F> {
    /// Opens the log in `dir` on this disk, or makes it.
    ///
    /// # Errors
    /// As for [`Wal::open`](crate::Wal::open).
    pub fn open(
        fs: F,
        dir: &Path,
        identity: Identity,
        options: WalOptions,
    ) -> Result<Self, OpenError> {
        let (log, _) = Log::open(fs, dir, identity, options)?;
        Ok(Self(log))
    }

    /// Writes this as a batch of its own, and returns when it counts as done.
    ///
    /// # Errors
    /// As for [`Wal::append`](crate::Wal::append).
    pub fn write(&mut self, write: Write) -> Result<(), WalError> {
        let results = self.0.commit(&[Job::Write(write)]);
        results.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft_core::{Entry, LogIndex, NodeId, Term};

    use super::*;
    use crate::sim::SimDisk;
    use crate::write::Sync;

    #[test]
    fn what_was_written_is_there_when_the_log_is_opened_again() {
        let disk = SimDisk::new();
        let dir = Path::new("node");
        let identity = Identity {
            cluster_id: 7,
            node_id: NodeId::new(1).expect("1 is a node id"),
        };
        let options = WalOptions::default();
        let mut log = DirectLog::open(disk.clone(), dir, identity, options).expect("a new log");
        let mut write = Write::new(3, Sync::Required);
        let entry = Entry::normal(Term::new(1), LogIndex::new(1), Bytes::from_static(b"x"));
        write.entries = entry.into();
        log.write(write).expect("the disk takes it");
        drop(log);
        let (_, mut recovered) = Log::open(disk, dir, identity, options).expect("the same log");
        let next = recovered.take_group(3).entries.next_index();
        assert_eq!(next, LogIndex::new(2));
    }
}
