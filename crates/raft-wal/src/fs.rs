//! # The disk
//!
//! Everything that this crate asks of a file system, as two small traits, so
//! that a test can put a disk below it that loses power between any two calls.
//!
//! - Emits: one system call per method, in the caller's order.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file system. Nothing that it is told is durable until it was synced: a
/// file's bytes by the file, its name by the folder.
pub trait Fs: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Keeps others out of a folder until it is dropped.
    type Lock: fmt::Debug + Send;

    /// Makes a folder and those above it, durably.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in a folder; none if there is no such folder.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one that is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading only.
    ///
    /// # Errors
    /// What the operating system says.
    fn open_read_only(&self, path: &Path) -> io::Result<Self::File>;
    /// Gives a file another name, in place of a file that has it.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock at `path`, or returns `None` if somebody has it.
    ///
    /// # Errors
    /// What the operating system says.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;
    /// A number that no other segment has, and that nobody can guess.
    fn unique_id(&self) -> u128;
}

/// An open file.
pub trait File: fmt::Debug + Send {
    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the operating system says; a part may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable, and the length where it is needed to read them
    /// (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says; then nothing is known of what is
    /// durable, and asking again does not tell.
    fn sync_data(&self) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

impl Fs for OsFs {
    type File = fs::File;
    type Lock = fs::File;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(path)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Only Unix can open a folder; elsewhere names are durable at once.
        if !cfg!(unix) {
            return Ok(());
        }
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        fs::File::open(dir)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<fs::File>> {
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unique_id(&self) -> u128 {
        // The standard library seeds its hash maps from the system's entropy,
        // so no crate is needed for these sixteen bytes.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let half = || u128::from(RandomState::new().hash_one((now, std::process::id())));
        half() << 64 | half()
    }
}

impl File for fs::File {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    #[cfg(not(unix))]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek};
        let mut file = self;
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }

    #[cfg(unix)]
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(not(unix))]
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        use std::io::{Seek, Write};
        let mut file = self;
        file.seek(io::SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }
}

/// All bytes of a file.
pub(crate) fn read_all(file: &impl File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let len = file.len_bytes()?;
    // A length that no file of ours has is refused before memory is taken.
    let len = Some(len)
        .filter(|len| *len <= bytes_max)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
