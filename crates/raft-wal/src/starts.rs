//! # Which folder it is, and how often it was opened
//!
//! A folder gets a number at random when it is made, and counts how often it was
//! opened. With both, others can tell it from a folder that was made anew in its
//! place, and from a copy of it.
//!
//! The file has two sectors that are written in turn, so that one of them is
//! whole whenever the power goes, and a start needs no room on the disk.
//!
//! - Owns: the file `STARTS`.

use std::path::Path;

use crate::error::{Attempt, Damage, OpenError, Operation};
use crate::format::{Reader, SECTOR_BYTES};
use crate::fs::{File, Fs, read_all};
use crate::segment::Stop;

const NAME: &str = "STARTS";
const TMP: &str = "STARTS.tmp";
const MAGIC: [u8; 8] = *b"RaftLife";
/// The version of this file, which has a life of its own.
const VERSION: u32 = 1;
const SECTORS: u64 = 2;

/// Which folder it is, and how often it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Drawn at random when the folder was made. A copy has the same.
    pub folder_id: u128,
    /// How often the folder was opened, this time included.
    pub start: u64,
}

/// Counts one more start, durably, and says which it is.
pub(crate) fn count<F: Fs>(fs: &F, dir: &Path) -> Result<Incarnation, OpenError> {
    let io = |failure| OpenError::from_failure(failure, dir);
    let names = fs.list(dir).attempt(Operation::List, dir).map_err(io)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let (tmp, path) = (dir.join(TMP), dir.join(NAME));
    if has(TMP) {
        fs.remove(&tmp)
            .attempt(Operation::Remove, &tmp)
            .map_err(io)?;
    }
    if !has(NAME) {
        let first = Incarnation {
            folder_id: fs.unique_id(),
            start: 1,
        };
        let mut bytes = vec![0; to_len(SECTORS * SECTOR_BYTES)];
        let at = to_len(place(first.start));
        let sector = encode(first);
        bytes[at..at + sector.len()].copy_from_slice(&sector);
        let file = fs.create(&tmp).attempt(Operation::Create, &tmp);
        let file = file.map_err(io)?;
        file.write_all_at(&bytes, 0)
            .attempt(Operation::Write, &tmp)
            .map_err(io)?;
        file.sync_data()
            .attempt(Operation::Sync, &tmp)
            .map_err(io)?;
        fs.rename(&tmp, &path)
            .attempt(Operation::Rename, &path)
            .map_err(io)?;
        fs.sync_dir(dir).attempt(Operation::Sync, dir).map_err(io)?;
        return Ok(first);
    }
    let file = fs.open(&path).attempt(Operation::Open, &path).map_err(io)?;
    let bytes = read_all(&file, SECTORS * SECTOR_BYTES)
        .attempt(Operation::Read, &path)
        .map_err(io)?;
    let latest = bytes
        .chunks(to_len(SECTOR_BYTES))
        .filter_map(decode)
        .max_by_key(|found| found.start);
    let next = latest.and_then(|latest| {
        Some(Incarnation {
            start: latest.start.checked_add(1)?,
            ..latest
        })
    });
    let next = next.ok_or_else(|| Stop::new(0, Damage::Starts).into_corruption(&path))?;
    file.write_all_at(&encode(next), place(next.start))
        .attempt(Operation::Write, &path)
        .map_err(io)?;
    file.sync_data()
        .attempt(Operation::Sync, &path)
        .map_err(io)?;
    Ok(next)
}

/// Where a start is written, in bytes.
fn place(start: u64) -> u64 {
    start % SECTORS * SECTOR_BYTES
}

fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn encode(incarnation: Incarnation) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&incarnation.folder_id.to_le_bytes());
    out.extend_from_slice(&incarnation.start.to_le_bytes());
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The length of what is written in a sector, in bytes.
const ENCODED_BYTES: usize = 8 + 4 + 16 + 8 + 4;

fn decode(sector: &[u8]) -> Option<Incarnation> {
    let (covered, checksum) = sector.get(..ENCODED_BYTES)?.split_last_chunk()?;
    if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut reader = Reader(covered);
    if reader.array() != Some(MAGIC) || reader.u32()? != VERSION {
        return None;
    }
    let folder_id = reader.u128()?;
    let start = reader.u64()?;
    reader.end().map(|()| Incarnation { folder_id, start })
}
