//! # How often a node has started
//!
//! Peers tell a node from its earlier self by a number that grows with every
//! start. It is kept in a file of the data folder, and is at least the time in
//! milliseconds, so that it grows even if that file is lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {}: {error}; check the disk and the rights on it", path.display())]
pub struct IncarnationError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

/// The number of this start. It is on the disk when this returns.
pub(super) fn next(folder: &Path) -> Result<u64, IncarnationError> {
    let path = folder.join("incarnation");
    let failed = |error| IncarnationError {
        path: path.clone(),
        error,
    };
    let earlier = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let next = milliseconds_now().max(earlier).saturating_add(1);
    replace(folder, &path, next).map_err(failed)?;
    Ok(next)
}

fn milliseconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Writes a new file and puts it in the place of the old one, so that there is
/// always a whole one.
fn replace(folder: &Path, path: &Path, number: u64) -> io::Result<()> {
    let new_path = path.with_extension("new");
    let mut file = File::create(&new_path)?;
    writeln!(file, "{number}")?;
    file.sync_all()?;
    fs::rename(&new_path, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_a_larger_number_than_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let first = next(folder.path()).unwrap();
        let second = next(folder.path()).unwrap();
        assert!(second > first);

        let ahead_of_the_clock = u64::MAX - 5;
        fs::write(
            folder.path().join("incarnation"),
            ahead_of_the_clock.to_string(),
        )
        .unwrap();
        assert_eq!(next(folder.path()).unwrap(), ahead_of_the_clock + 1);

        fs::write(folder.path().join("incarnation"), "damaged").unwrap();
        assert!(next(folder.path()).unwrap() >= first);
    }
}
