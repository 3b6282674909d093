//! # From one segment to the next
//!
//! Sealing a segment and beginning another, and dropping those that no group
//! needs any more.
//!
//! - Owns: the order in which both become durable.
//! - Source: `docs/WAL.md`.

use super::job::Growth;
use super::room::{Room, SPARES};
use super::{Active, Heading, Log};
use crate::error::{Attempt, Failure, Operation};
use crate::folder::{segment_name, spare_path};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, TRAILER_BYTES, size};
use crate::fs::{File, Fs};
use crate::group::Group;

impl<F: Fs> Log<F> {
    /// Makes a segment of a spare, and seals the active one.
    ///
    /// The new segment is durable before the seal is written, so that a seal
    /// proves that there is a next segment; and the seal is durable before the
    /// new segment gets its first batch, so that a batch proves the seal.
    pub(super) fn begin_segment(&mut self) -> Result<(), Failure> {
        let sequence = self.active.sequence + 1;
        let seal_batch = self.last_batch + 1;
        self.encoder
            .begin(self.active.id, self.active.end, self.active.chain);
        self.encoder.seal(sequence);
        self.encoder.trailer(seal_batch, self.durable_batch, 0);
        let (seal, chain) = self.encoder.encoded();

        let header = SegmentHeader {
            id: self.fs.unique_id(),
            sequence,
            identity: self.identity,
            previous_id: self.active.id,
            previous_chain: chain,
            oldest_sequence: self.oldest_sequence,
            first_batch: seal_batch + 1,
            durable_batch: self.durable_batch,
        };
        let encoded = header.encode();
        let spare = spare_path(&self.dir, self.spares - 1);
        let file = self.fs.open(&spare).attempt(Operation::Open, &spare)?;
        file.write_all_at(&encoded, 0)
            .attempt(Operation::Write, &spare)?;
        file.sync_data().attempt(Operation::Sync, &spare)?;
        let allocated = file.len_bytes().attempt(Operation::Read, &spare)?;
        let path = self.dir.join(segment_name(sequence));
        self.fs
            .rename(&spare, &path)
            .attempt(Operation::Rename, &path)?;
        self.spares -= 1;
        self.sync_dir()?;

        self.active
            .file
            .write_all_at(seal, self.active.end)
            .attempt(Operation::Write, &self.active.path)?;
        self.active
            .file
            .sync_data()
            .attempt(Operation::Sync, &self.active.path)?;
        self.last_batch = seal_batch;
        self.durable_batch = seal_batch;
        self.active = Active {
            file,
            path,
            id: header.id,
            sequence,
            end: SEGMENT_HEADER_BYTES,
            allocated,
            chain: SegmentHeader::chain(&encoded),
            heading: Heading::Missing,
        };
        Ok(())
    }

    /// Drops the segments that no group needs any more, once it is durable that
    /// they may go.
    pub(super) fn purge(&mut self) -> Result<(), Failure> {
        if self.active.heading == Heading::Missing {
            return Ok(());
        }
        let needed = |log: &Self| {
            log.groups
                .values()
                .filter_map(Group::oldest_sequence)
                .fold(log.active.sequence, u64::min)
        };
        if needed(self) <= self.oldest_sequence {
            return Ok(());
        }
        let bytes = size::hard_state() + TRAILER_BYTES;
        if self.make_room(bytes, Growth::State)? == Room::DiskFull {
            return Ok(());
        }
        let oldest = needed(self).min(self.active.sequence);
        self.begin_batch();
        self.encoder.purge(oldest);
        self.write_batch()?;
        self.sync()?;
        for sequence in self.oldest_sequence..oldest {
            let path = self.dir.join(segment_name(sequence));
            if self.spares < SPARES {
                // Its bytes are on the disk already, and mean nothing under
                // the id of the next segment.
                let spare = spare_path(&self.dir, self.spares);
                self.fs
                    .rename(&path, &spare)
                    .attempt(Operation::Rename, &path)?;
                self.spares += 1;
            } else {
                self.fs.remove(&path).attempt(Operation::Remove, &path)?;
            }
        }
        self.oldest_sequence = oldest;
        self.sync_dir()
    }
}
