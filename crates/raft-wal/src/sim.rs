//! # A disk that loses power
//!
//! A file system in memory with a cache, sectors and names that are durable
//! only when they were synced. A test can cut the power at any call, choose
//! what the disk kept, fail any one call, and restart the process with the
//! cache as it was.
//!
//! - Owns: every byte, in the cache and on the plate.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{File, Fs};

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

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not durable, in order.
    name_changes: Vec<(PathBuf, NameChange)>,
    locks: BTreeSet<PathBuf>,
    calls: Vec<Call>,
    fault: Option<(usize, Fault)>,
    power: Power,
    /// Counts restarts, so that a lock or file of a former life has no effect.
    life: u64,
    ids: u64,
    free_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Power {
    #[default]
    On,
    Off,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    plate: Vec<u8>,
    /// Sectors that a sync would write.
    dirty: BTreeSet<usize>,
}

/// A small generator of numbers (splitmix64), so that a seed is enough.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
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

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.cache.len());
        if self.plate.len() < end {
            self.plate.resize(end, 0);
        }
        self.plate[start..end].copy_from_slice(&self.cache[start..end]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts a call, and fails it if it is its turn. `Ok` with a fault is a
    /// call that has to fail after half of its effect.
    fn call(&mut self, call: Call) -> Result<Option<Fault>, io::Error> {
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

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts the room of a file that is going.
    fn free(&mut self, path: &Path) {
        let len = self
            .names
            .get(path)
            .map_or(0, |inode| self.inodes[*inode].cache.len());
        if let Some(free) = &mut self.free_bytes {
            *free += u64::try_from(len).unwrap_or(0);
        }
    }

    fn change_name(&mut self, dir: &Path, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push((dir.to_owned(), change));
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
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

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
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

impl State {
    fn restart(&mut self) {
        self.locks.clear();
        self.fault = None;
        self.power = Power::On;
        self.life += 1;
    }
}

/// A file on a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
}

/// A lock on a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl SimDisk {
    fn file(&self, inode: usize, life: u64) -> SimFile {
        SimFile {
            disk: self.clone(),
            inode,
            life,
        }
    }
}

impl Fs for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        // Folders are there as soon as somebody names them.
        if self.is_off() {
            return Err(power_is_off());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if state.power == Power::Off {
            return Err(power_is_off());
        }
        Ok(state
            .names
            .keys()
            .filter(|path| parent(path) == dir)
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.lock();
        let fault = state.call(Call::Create)?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_name(parent(path), NameChange::Set(path.to_owned(), inode));
        match fault {
            Some(_) => Err(power_is_off()),
            None => Ok(self.file(inode, state.life)),
        }
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.lock();
        if state.power == Power::Off {
            return Err(power_is_off());
        }
        let inode = state.inode(path)?;
        Ok(self.file(inode, state.life))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<SimFile> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.call(Call::Rename)?;
        let inode = state.inode(from)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), inode);
        state.free(to);
        state.change_name(parent(from), change);
        fault.map_or(Ok(()), |_| Err(power_is_off()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let fault = state.call(Call::Remove)?;
        state.inode(path)?;
        state.free(path);
        state.change_name(parent(path), NameChange::Remove(path.to_owned()));
        fault.map_or(Ok(()), |_| Err(power_is_off()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.call(Call::SyncDir)?.is_some() {
            return Err(power_is_off());
        }
        let changes = std::mem::take(&mut state.name_changes);
        for (changed, change) in changes {
            if changed == dir {
                change.apply(&mut state.durable_names);
            } else {
                state.name_changes.push((changed, change));
            }
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let mut state = self.lock();
        if state.power == Power::Off {
            return Err(power_is_off());
        }
        let free = state.locks.insert(path.to_owned());
        let life = state.life;
        Ok(free.then(|| SimLock {
            disk: self.clone(),
            path: path.to_owned(),
            life,
        }))
    }

    fn unique_id(&self) -> u128 {
        let mut state = self.lock();
        state.ids += 1;
        let mut numbers = Numbers(state.ids);
        u128::from(numbers.next()) << 64 | u128::from(numbers.next())
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.power == Power::Off || state.life != self.life {
            return Err(power_is_off());
        }
        Ok(state)
    }
}

impl File for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let state = self.state()?;
        Ok(u64::try_from(state.inodes[self.inode].cache.len()).unwrap_or(u64::MAX))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.inodes[self.inode]
            .cache
            .get(start..start.saturating_add(buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fault = state.call(Call::Write)?;
        let len = state.inodes[self.inode].cache.len();
        let growth = (offset + bytes.len()).saturating_sub(len);
        let growth = u64::try_from(growth).unwrap_or(u64::MAX);
        if let Some(free) = &mut state.free_bytes {
            match free.checked_sub(growth) {
                Some(left) => *free = left,
                None => return Err(io::ErrorKind::StorageFull.into()),
            }
        }
        let inode = &mut state.inodes[self.inode];
        match fault {
            None => {
                inode.write(bytes, offset);
                Ok(())
            }
            Some(Fault::ShortWrite(kind) | Fault::Error(kind)) => {
                inode.write(&bytes[..bytes.len() / 2], offset);
                Err(kind.into())
            }
            Some(Fault::PowerCut) => {
                // Any part of it may be on its way to the disk already.
                inode.write(bytes, offset);
                Err(power_is_off())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.call(Call::Sync)?;
        let inode = &mut state.inodes[self.inode];
        match fault {
            None => {
                inode.sync();
                Ok(())
            }
            Some(Fault::Error(kind) | Fault::ShortWrite(kind)) => {
                inode.dirty.clear();
                Err(kind.into())
            }
            Some(Fault::PowerCut) => Err(power_is_off()),
        }
    }
}
