//! # The names in a data folder
//!
//! Where the log is, and what its files are called. `docs/WAL.md` has the list.

use std::path::{Path, PathBuf};

pub(crate) const LOCK: &str = "LOCK";
/// A segment that is being written anew; none once that is done.
pub(crate) const SEGMENT_TMP: &str = "segment.tmp";
/// A spare that is being made.
pub(crate) const SPARE_TMP: &str = "spare.tmp";
const LOG_DIR: &str = "wal";

/// The folder of the segments in a data folder.
pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join(LOG_DIR)
}

/// The file of a spare. They are taken from the last one down.
pub(crate) fn spare_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("spare.{number}"))
}

/// The name of a segment's file.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

/// The segments in a listing, in order.
pub(crate) fn segments(dir: &Path, names: &[String]) -> Vec<(u64, PathBuf)> {
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let digits = name
                .strip_suffix(".wal")
                .filter(|digits| digits.len() == 16)?;
            let sequence = u64::from_str_radix(digits, 16).ok()?;
            Some((sequence, dir.join(name)))
        })
        .collect();
    segments.sort_unstable();
    segments
}
