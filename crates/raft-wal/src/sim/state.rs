//! # What the disk holds
//!
//! Bytes in the cache and on the plate, names now and names that are durable,
//! and the count of the calls that change them.
//!
//! - Owns: every byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Call, Fault, SECTOR_BYTES};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not durable, in order.
    pub(super) name_changes: Vec<(PathBuf, NameChange)>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) calls: Vec<Call>,
    pub(super) fault: Option<(usize, Fault)>,
    pub(super) power: Power,
    /// Counts restarts, so that a lock or file of a former life has no effect.
    pub(super) life: u64,
    pub(super) ids: u64,
    pub(super) free_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Power {
    #[default]
    On,
    Off,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) cache: Vec<u8>,
    pub(super) plate: Vec<u8>,
    /// Sectors that a sync would write.
    pub(super) dirty: BTreeSet<usize>,
}

/// A small generator of numbers (splitmix64), so that a seed is enough.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

impl Inode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    pub(super) fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.cache.len());
        if self.plate.len() < end {
            self.plate.resize(end, 0);
        }
        self.plate[start..end].copy_from_slice(&self.cache[start..end]);
    }

    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts a call, and fails it if it is its turn. `Ok` with a fault is a
    /// call that has to fail after half of its effect.
    pub(super) fn call(&mut self, call: Call) -> Result<Option<Fault>, io::Error> {
        if self.power == Power::Off {
            return Err(power_is_off());
        }
        let number = self.calls.len();
        self.calls.push(call);
        match self.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::PowerCut => {
                    self.power = Power::Off;
                    Ok(Some(fault))
                }
                Fault::ShortWrite(_) if call == Call::Write => Ok(Some(fault)),
                Fault::Error(_) if call == Call::Sync => Ok(Some(fault)),
                Fault::Error(kind) | Fault::ShortWrite(kind) => Err(kind.into()),
            },
            _ => Ok(None),
        }
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts the room of a file that is going.
    pub(super) fn free(&mut self, path: &Path) {
        let len = self
            .names
            .get(path)
            .map_or(0, |inode| self.inodes[*inode].cache.len());
        if let Some(free) = &mut self.free_bytes {
            *free += u64::try_from(len).unwrap_or(0);
        }
    }

    pub(super) fn change_name(&mut self, dir: &Path, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push((dir.to_owned(), change));
    }

    /// Ends the process and starts it again.
    pub(super) fn restart(&mut self) {
        self.locks.clear();
        self.fault = None;
        self.power = Power::On;
        self.life += 1;
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                // The old name may have come to mean another file by now.
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}
