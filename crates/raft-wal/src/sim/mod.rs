//! # A disk that loses power
//!
//! A file system in memory with a cache, sectors and names that are durable
//! only when they were synced. A test can cut the power at any call, choose
//! what the disk kept, fail any one call, and restart the process with the
//! cache as it was.
//!
//! - Owns: which call fails, and what is kept when the power goes.

mod files;
mod state;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use files::{SimFile, SimLock};

use state::{Inode, Numbers, Power, State};

/// What a disk writes as a whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A file system in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// What a call that changes the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Makes a file or a folder.
    Create,
    /// Writes bytes.
    Write,
    /// Makes bytes durable.
    Sync,
    /// Gives a file another name.
    Rename,
    /// Removes a file.
    Remove,
    /// Makes names durable.
    SyncDir,
}

/// How one call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing happens. A failed sync makes the cache forget that
    /// it has something to write, as Linux does.
    Error(io::ErrorKind),
    /// A write fails in the middle.
    ShortWrite(io::ErrorKind),
    /// The power goes: this call and all later ones fail.
    PowerCut,
}

/// What the disk kept of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// Sectors and names chosen by a seed: any sectors, and either the first
    /// changes of names, as a journal keeps them, or any of them.
    Chosen(u64),
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls that changed the disk, or tried to, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls of a kind there were.
    pub fn count(&self, call: Call) -> usize {
        self.lock()
            .calls
            .iter()
            .filter(|made| **made == call)
            .count()
    }

    /// Lets the call with this number fail, counted from 0 over the life of the
    /// disk.
    pub fn fail_at(&self, number: usize, fault: Fault) {
        self.lock().fault = Some((number, fault));
    }

    /// Limits what files may still grow by, in bytes; `None` lifts the limit.
    pub fn limit_free_bytes(&self, bytes: Option<u64>) {
        self.lock().free_bytes = bytes;
    }

    /// Whether the power was cut.
    pub fn is_off(&self) -> bool {
        self.lock().power == Power::Off
    }

    /// Loses the power and comes back with what survived.
    pub fn crash(&self, survivors: Survivors) {
        let mut state = self.lock();
        let mut numbers = Numbers(match survivors {
            Survivors::Chosen(seed) => seed,
            Survivors::None | Survivors::All => 0,
        });
        let changes = std::mem::take(&mut state.name_changes);
        let some = u64::try_from(changes.len()).unwrap_or(0) + 1;
        let (in_order, first) = (numbers.next().is_multiple_of(2), numbers.next() % some);
        for (place, (_, change)) in (0..).zip(&changes) {
            let keep = match survivors {
                Survivors::None => false,
                Survivors::All => true,
                Survivors::Chosen(_) if in_order => place < first,
                Survivors::Chosen(_) => numbers.next().is_multiple_of(2),
            };
            if keep {
                change.apply(&mut state.durable_names);
            }
        }
        for inode in &mut state.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                let keep = match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Chosen(_) => numbers.next().is_multiple_of(2),
                };
                if keep {
                    inode.keep(sector);
                }
            }
            inode.cache = inode.plate.clone();
        }
        state.names = state.durable_names.clone();
        state.restart();
    }

    /// Ends the process and starts it again: the cache is as it was, and what a
    /// failed sync has forgotten stays forgotten.
    pub fn restart(&self) {
        self.lock().restart();
    }

    /// The bytes of a file as a process sees them.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let inode = state.inode(path.as_ref())?;
        Ok(state.inodes[inode].cache.clone())
    }

    /// Puts a file there, durably, whatever was there before.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            cache: bytes.to_vec(),
            plate: bytes.to_vec(),
            dirty: BTreeSet::new(),
        });
        state.names.insert(path.as_ref().to_owned(), inode);
        state.durable_names.insert(path.as_ref().to_owned(), inode);
    }

    /// Removes a file, durably.
    pub fn lose(&self, path: impl AsRef<Path>) {
        let mut state = self.lock();
        state.names.remove(path.as_ref());
        state.durable_names.remove(path.as_ref());
    }

    /// The names of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// A disk of its own with the same files, all of them durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let state = self.lock();
        copy.lock().ids = state.ids;
        for (path, inode) in &state.names {
            copy.put(path, &state.inodes[*inode].cache);
        }
        copy
    }
}
