//! # Room on the disk
//!
//! Space is taken before it is needed: zeros ahead of the batches, so that a
//! sync changes no metadata, and spare files for the next segments, so that a
//! full disk is noticed while votes and compactions can still be written.
//!
//! - Owns: the spares.
//! - Source: `docs/WAL.md`.

use std::path::Path;

use super::job::Growth;
use super::{Heading, Log};
use crate::error::{Attempt, Failure, Operation};
use crate::folder::{SPARE_TMP, spare_path};
use crate::format::{SEAL_BYTES, len_u64, size};
use crate::fs::{File, Fs};

/// How many files wait to become segments: one for the next segment, one that on
/// a full disk only votes and compactions may use, and one for a restart.
pub(super) const SPARES: usize = 3;

/// Whether there is room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Made,
    DiskFull,
}

impl<F: Fs> Log<F> {
    /// Sees to it that a batch of `bytes` can be written, and the seal behind
    /// it. Begins the next segment if this one has no place for it.
    pub(super) fn make_room(&mut self, bytes: u64, growth: Growth) -> Result<Room, Failure> {
        let extra = match self.active.heading {
            Heading::Missing => self.heading_bytes(),
            Heading::Written => 0,
        };
        let needed = self.active.end + extra + bytes + SEAL_BYTES;
        if needed <= self.options.segment_bytes || self.active.heading == Heading::Missing {
            if self.allocate(needed)? == Room::Made {
                return Ok(Room::Made);
            }
            if growth == Growth::Data || self.active.heading == Heading::Missing {
                return Ok(Room::DiskFull);
            }
        }
        if self.make_spares(growth.spares_left() + 1)? == Room::DiskFull {
            return Ok(Room::DiskFull);
        }
        self.begin_segment()?;
        self.allocate(self.active.end + self.heading_bytes() + bytes + SEAL_BYTES)
    }

    fn heading_bytes(&self) -> u64 {
        self.groups
            .values()
            .map(|group| size::group_state(group.snapshot.as_ref()))
            .fold(0, u64::saturating_add)
    }

    /// Writes zeros ahead of the batches, so that syncing a batch changes no
    /// metadata, and so that a full disk is noticed before a batch is written.
    fn allocate(&mut self, needed: u64) -> Result<Room, Failure> {
        if needed <= self.active.allocated {
            return Ok(Room::Made);
        }
        let step = self.options.preallocate_bytes;
        let ahead = (self.active.allocated + step).min(self.options.segment_bytes);
        let target = needed.max(ahead);
        let written = write_zeros(&self.active.file, self.active.allocated, target)
            .attempt(Operation::Write, &self.active.path);
        match written {
            Ok(()) => self.active.allocated = target,
            Err(failure) if failure.is_disk_full() => return Ok(Room::DiskFull),
            Err(failure) => return Err(failure),
        }
        Ok(Room::Made)
    }

    /// Makes spares until there are `count`, if there is room for them.
    pub(super) fn make_spares(&mut self, count: usize) -> Result<Room, Failure> {
        while self.spares < count {
            let (tmp, path) = (self.dir.join(SPARE_TMP), spare_path(&self.dir, self.spares));
            match self.write_spare(&tmp, &path) {
                Ok(()) => self.spares += 1,
                Err(failure) if failure.is_disk_full() => {
                    // Half a spare only takes room from others.
                    let _ = self.fs.remove(&tmp);
                    return Ok(Room::DiskFull);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Room::Made)
    }

    fn write_spare(&self, tmp: &Path, path: &Path) -> Result<(), Failure> {
        let file = self.fs.create(tmp).attempt(Operation::Create, tmp)?;
        let bytes = self
            .options
            .preallocate_bytes
            .min(self.options.segment_bytes);
        write_zeros(&file, 0, bytes).attempt(Operation::Write, tmp)?;
        file.sync_data().attempt(Operation::Sync, tmp)?;
        self.fs.rename(tmp, path).attempt(Operation::Rename, path)?;
        self.sync_dir()
    }
}

fn write_zeros(file: &impl File, from: u64, to: u64) -> std::io::Result<()> {
    const ZEROS: &[u8] = &[0; 256 << 10];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..len], at)?;
        at += len_u64(len);
    }
    Ok(())
}
