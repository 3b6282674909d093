//! # Files on the simulated disk
//!
//! The calls that a log makes. Each one that changes the disk is counted, and
//! may be the one that fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use super::state::{Inode, NameChange, Numbers, Power, State, power_is_off};
use super::{Call, Fault, SimDisk};
use crate::fs::{File, Fs};

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
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
