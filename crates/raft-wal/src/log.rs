//! # The log
//!
//! Segments on a disk, written by one owner: opening and repairing, appending a
//! batch, sealing a segment and beginning the next, dropping old ones. It is
//! synchronous and has no thread, so a test can stop it between any two calls
//! of the disk.
//!
//! - Owns: the folder, the active segment, where each group stands.
//! - Reads: [`Write`]s and compactions, in order.
//! - Emits: one write and at most one sync per batch, and a result per job.
//! - Source: `docs/WAL.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_core::{Entries, Entry, EntryId, HardState, LogIndex, SnapshotMetadata};

use crate::error::{Attempt, Damage, Failure, OpenError, Operation, WalError};
use crate::format::{
    Encoder, MARK_BYTES_MAX, Record, SEAL_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
    TRAILER_BYTES, len_u64, size,
};
use crate::fs::{File, Fs, read_all};
use crate::group::{Group, Intake};
use crate::identity::{self, Identity};
use crate::options::WalOptions;
use crate::replay::{Recovered, Replay, TornTail, segment_name, segments};
use crate::segment::{Segment, Stop};
use crate::write::{Sync, Write};

/// The largest write that is taken, in bytes of the log.
pub const WRITE_BYTES_MAX: u64 = 1 << 30;
/// Nothing longer is a segment.
pub(crate) const SEGMENT_FILE_BYTES_MAX: u64 = 4 << 30;
/// The encoding buffer keeps no more than this between batches.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

const LOCK: &str = "LOCK";
const LOG_DIR: &str = "wal";
/// How many files wait to become segments: one for the next segment, one that on
/// a full disk only votes and compactions may use, and one for a restart.
const SPARES: usize = 3;
const SPARE_TMP: &str = "spare.tmp";
const SEGMENT_TMP: &str = "segment.tmp";

/// The folder of the segments in a data folder.
pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join(LOG_DIR)
}

/// Something to write.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Write(Write),
    Compact {
        group: u64,
        up_to: EntryId,
        snapshot: SnapshotMetadata,
    },
}

/// Whether a job may be refused to keep room for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// Entries and snapshots: they can wait for room.
    Data,
    /// Votes and compactions: they may use the reserve.
    State,
}

impl Growth {
    /// How many spares must be left for what is more important.
    const fn spares_left(self) -> usize {
        match self {
            Self::Data => 2,
            Self::State => 1,
        }
    }
}

impl Job {
    /// The most that this takes in the log, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Write(write) => write.log_bytes(),
            Self::Compact { snapshot, .. } => size::compact(&snapshot.conf_state),
        }
    }

    fn growth(&self) -> Growth {
        match self {
            Self::Write(write) if !write.entries.is_empty() || write.snapshot.is_some() => {
                Growth::Data
            }
            Self::Write(_) | Self::Compact { .. } => Growth::State,
        }
    }

    fn sync(&self) -> Sync {
        match self {
            Self::Write(write) => write.sync,
            Self::Compact { .. } => Sync::Required,
        }
    }

    fn group(&self) -> u64 {
        match self {
            Self::Write(write) => write.group,
            Self::Compact { group, .. } => *group,
        }
    }
}

/// Whether there is room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Made,
    DiskFull,
}

/// Whether a new segment says already where the groups stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heading {
    Missing,
    Written,
}

/// The segment that is written.
#[derive(Debug)]
struct Active<D> {
    file: D,
    path: PathBuf,
    id: u128,
    sequence: u64,
    /// Where the next batch goes, in bytes.
    end: u64,
    /// How much of the file has been written before, so that writing it again
    /// changes no metadata; in bytes.
    allocated: u64,
    chain: u32,
    heading: Heading,
}

/// The log on its disk.
#[derive(Debug)]
pub(crate) struct Log<F: Fs> {
    fs: F,
    dir: PathBuf,
    identity: Identity,
    options: WalOptions,
    groups: BTreeMap<u64, Group>,
    oldest_sequence: u64,
    active: Active<F::File>,
    /// How many spares there are.
    spares: usize,
    last_batch: u64,
    durable_batch: u64,
    encoder: Encoder,
    poison: Option<Arc<Failure>>,
    _lock: F::Lock,
}

/// The file of a spare. They are taken from the last one down.
fn spare_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("spare.{number}"))
}

impl<F: Fs> Log<F> {
    /// Opens the log in `dir`, or makes it. Everything that is returned is
    /// durable, and nothing was acknowledged that is not returned.
    pub(crate) fn open(
        fs: F,
        data_dir: &Path,
        identity: Identity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        let io = |failure| OpenError::from_failure(failure, data_dir);
        let dir = log_dir(data_dir);
        fs.create_dir_all(&dir)
            .attempt(Operation::Create, &dir)
            .map_err(io)?;
        let lock_path = data_dir.join(LOCK);
        let lock = fs
            .try_lock(&lock_path)
            .attempt(Operation::Lock, &lock_path)
            .map_err(io)?
            .ok_or_else(|| OpenError::InUse {
                dir: data_dir.to_owned(),
            })?;

        let named = identity::check(&fs, data_dir, identity)?;
        let names = fs.list(&dir).attempt(Operation::List, &dir).map_err(io)?;
        let files = segments(&dir, &names);
        let found = match (files.is_empty(), named) {
            (true, identity::Named::Yes) => {
                return Err(Stop::new(0, Damage::MissingLog)
                    .into_corruption(&dir)
                    .into());
            }
            (true, identity::Named::No) => Found::new(),
            (false, _) => Found::read(&fs, data_dir, identity, &files)?,
        };
        for leftover in [SPARE_TMP, SEGMENT_TMP] {
            if names.iter().any(|name| name == leftover) {
                let path = dir.join(leftover);
                fs.remove(&path)
                    .attempt(Operation::Remove, &path)
                    .map_err(io)?;
            }
        }
        let is_there = |number: &usize| {
            let spare = spare_path(&dir, *number);
            names.iter().any(|name| spare.ends_with(name))
        };
        let mut spares = (0..SPARES).take_while(is_there).count();
        let active = rewrite(&fs, &dir, identity, &found, &mut spares).map_err(io)?;
        for path in &found.leftovers {
            fs.remove(path)
                .attempt(Operation::Remove, path)
                .map_err(io)?;
        }
        fs.sync_dir(&dir)
            .attempt(Operation::Sync, &dir)
            .map_err(io)?;
        if named == identity::Named::No {
            identity::write(&fs, data_dir, identity).map_err(io)?;
        }
        let mut log = Self {
            fs,
            dir,
            identity,
            options,
            groups: found.groups,
            oldest_sequence: found.oldest_sequence,
            active,
            spares,
            last_batch: found.last_batch,
            durable_batch: found.last_batch,
            encoder: Encoder::new(),
            poison: None,
            _lock: lock,
        };
        // Without room for the reserve the node can still vote and compact.
        let _ = log.make_spares(SPARES).map_err(io)?;
        Ok((log, found.recovered))
    }

    /// Writes jobs as one batch, and makes it durable if one of them asks for
    /// it. The results are in the order of the jobs.
    pub(crate) fn commit(&mut self, jobs: &[Job]) -> Vec<Result<(), WalError>> {
        if let Some(poison) = &self.poison {
            let error = WalError::Poisoned(poison.clone());
            return jobs.iter().map(|_| Err(error.clone())).collect();
        }
        let mut results = vec![Ok(()); jobs.len()];
        if let Err(failure) = self.commit_batch(jobs, &mut results) {
            let poison = Arc::new(failure);
            self.poison = Some(poison.clone());
            for result in &mut results {
                // A refusal stays what it is: the caller can learn from it.
                if result.is_ok() {
                    *result = Err(WalError::Poisoned(poison.clone()));
                }
            }
        }
        results
    }

    fn commit_batch(
        &mut self,
        jobs: &[Job],
        results: &mut [Result<(), WalError>],
    ) -> Result<(), Failure> {
        for (job, result) in jobs.iter().zip(results.iter_mut()) {
            let bytes = job.bytes();
            if bytes > WRITE_BYTES_MAX {
                *result = Err(WalError::TooLarge { bytes });
            }
        }
        // The reserve is there for votes, so entries are taken only while there
        // is one.
        let grows = |(job, result): (&Job, &Result<(), WalError>)| {
            result.is_ok() && job.growth() == Growth::Data
        };
        if jobs.iter().zip(results.iter()).any(grows) {
            let bytes = bytes_of(jobs, results);
            let room = match self.make_spares(Growth::Data.spares_left())? {
                Room::Made => self.make_room(bytes, Growth::Data)?,
                Room::DiskFull => Room::DiskFull,
            };
            if room == Room::DiskFull {
                for (job, result) in jobs.iter().zip(results.iter_mut()) {
                    if result.is_ok() && job.growth() == Growth::Data {
                        *result = Err(WalError::DiskFull);
                        if let Some(group) = self.groups.get_mut(&job.group()) {
                            group.intake = Intake::Refused;
                        }
                    }
                }
            }
        }
        if results.iter().all(Result::is_err) {
            return Ok(());
        }
        if self.make_room(bytes_of(jobs, results), Growth::State)? == Room::DiskFull {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(WalError::DiskFull);
            }
            return Ok(());
        }

        self.begin_batch();
        let mut sync = Sync::NotNeeded;
        for (job, result) in jobs.iter().zip(results.iter_mut()) {
            if result.is_ok() {
                *result = self.encode(job);
            }
            if result.is_ok() && job.sync() == Sync::Required {
                sync = Sync::Required;
            }
        }
        if results.iter().all(Result::is_err) {
            return Ok(());
        }
        self.write_batch()?;
        match sync {
            Sync::Required => self.sync(),
            Sync::NotNeeded => Ok(()),
        }
    }

    /// Checks a job, encodes it, and moves its group on.
    fn encode(&mut self, job: &Job) -> Result<(), WalError> {
        let group_id = job.group();
        let group = self.groups.entry(group_id).or_insert_with(Group::new);
        match job {
            Job::Write(write) => {
                let entries = acceptable(group_id, group, write)?;
                if let Some(snapshot) = &write.snapshot {
                    group.install(snapshot.clone());
                    self.encoder.snapshot(group_id, snapshot);
                }
                if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                    group.append(self.active.sequence, first.index(), last.index().next());
                    self.encoder.entries(group_id, &entries);
                }
                if let Some(hard_state) = write.hard_state {
                    group.hard_state = within(hard_state, group);
                    self.encoder.hard_state(group_id, group.hard_state);
                }
            }
            Job::Compact {
                up_to, snapshot, ..
            } => {
                if up_to.index >= group.next {
                    return Err(WalError::Gap {
                        group: group_id,
                        expected: group.next,
                        found: up_to.index,
                    });
                }
                let own = group.snapshot.as_ref().map(|own| own.index);
                if up_to.index < group.compacted.index || own > Some(snapshot.index) {
                    return Err(WalError::OutOfDate {
                        group: group_id,
                        compacted: group.compacted.index,
                        found: up_to.index,
                    });
                }
                group.compact(*up_to, snapshot.clone());
                self.encoder.compact(group_id, *up_to, snapshot);
            }
        }
        Ok(())
    }

    /// Begins a batch; in a new segment, with where every group stands, so that
    /// the segments before can go one day.
    fn begin_batch(&mut self) {
        self.encoder
            .begin(self.active.id, self.active.end, self.active.chain);
        if self.active.heading == Heading::Missing {
            for (id, group) in &self.groups {
                self.encoder.group_state(*id, &group.state());
            }
        }
    }

    /// Ends the batch, and hands it to the disk in one write.
    fn write_batch(&mut self) -> Result<(), Failure> {
        let batch = self.last_batch.saturating_add(1);
        self.encoder.trailer(batch, self.durable_batch, 0);
        let (bytes, chain) = self.encoder.encoded();
        self.active
            .file
            .write_all_at(bytes, self.active.end)
            .attempt(Operation::Write, &self.active.path)?;
        self.active.end += len_u64(bytes.len());
        self.active.allocated = self.active.allocated.max(self.active.end);
        self.active.chain = chain;
        self.active.heading = Heading::Written;
        self.last_batch = batch;
        self.encoder.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.active
            .file
            .sync_data()
            .attempt(Operation::Sync, &self.active.path)?;
        self.durable_batch = self.last_batch;
        Ok(())
    }

    /// Sees to it that a batch of `bytes` can be written, and the seal behind
    /// it. Begins the next segment if this one has no place for it.
    fn make_room(&mut self, bytes: u64, growth: Growth) -> Result<Room, Failure> {
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
    fn make_spares(&mut self, count: usize) -> Result<Room, Failure> {
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

    fn sync_dir(&self) -> Result<(), Failure> {
        self.fs
            .sync_dir(&self.dir)
            .attempt(Operation::Sync, &self.dir)
    }

    /// Makes a segment of a spare, and seals the active one.
    ///
    /// The new segment is durable before the seal is written, so that a seal
    /// proves that there is a next segment; and the seal is durable before the
    /// new segment gets its first batch, so that a batch proves the seal.
    fn begin_segment(&mut self) -> Result<(), Failure> {
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

    /// Work that nobody waits for: drops old segments, makes the spares. A
    /// failure is final, as everywhere.
    pub(crate) fn maintain(&mut self) {
        self.unless_poisoned(|log| {
            log.purge()?;
            log.make_spares(SPARES).map(|_| ())
        });
    }

    /// Records that everything written so far is durable, so that damage to
    /// the last batch cannot be taken for a torn write. Not synced itself.
    pub(crate) fn mark_durable(&mut self) {
        self.unless_poisoned(Self::write_mark);
    }

    fn write_mark(&mut self) -> Result<(), Failure> {
        // A mark is worth no new segment, nor more room on the disk.
        let fits = self.active.heading == Heading::Written
            && self.active.end + MARK_BYTES_MAX + SEAL_BYTES <= self.active.allocated;
        if fits && self.durable_batch == self.last_batch {
            self.begin_batch();
            self.encoder.pad_to_sector();
            self.write_batch()?;
        }
        Ok(())
    }

    /// Makes everything durable that was written.
    pub(crate) fn close(&mut self) -> Result<(), WalError> {
        self.unless_poisoned(|log| {
            if log.durable_batch < log.last_batch {
                log.sync()?;
            }
            log.write_mark()?;
            log.sync()
        });
        match &self.poison {
            Some(poison) => Err(WalError::Poisoned(poison.clone())),
            None => Ok(()),
        }
    }

    fn unless_poisoned(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Failure>) {
        if self.poison.is_none()
            && let Err(failure) = work(self)
        {
            self.poison = Some(Arc::new(failure));
        }
    }

    /// Drops the segments that no group needs any more, once it is durable that
    /// they may go.
    fn purge(&mut self) -> Result<(), Failure> {
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

/// The entries of a write that need a place, if the write follows the log of its
/// group.
fn acceptable(group_id: u64, group: &Group, write: &Write) -> Result<Entries, WalError> {
    let (compacted, next) = match &write.snapshot {
        Some(snapshot) if snapshot.index < group.compacted.index => {
            return Err(WalError::OutOfDate {
                group: group_id,
                compacted: group.compacted.index,
                found: snapshot.index,
            });
        }
        Some(snapshot) => (snapshot.index, snapshot.index.next()),
        None => (group.compacted.index, group.next),
    };
    let Some(first) = write.entries.first().map(Entry::index) else {
        return Ok(Entries::new());
    };
    if first > next {
        return Err(WalError::Gap {
            group: group_id,
            expected: next,
            found: first,
        });
    }
    if first > compacted {
        return Ok(write.entries.clone());
    }
    Ok(write
        .entries
        .between(compacted.next(), LogIndex::new(u64::MAX)))
}

/// The hard state as it may be written: after entries were refused, no commit
/// index may be ahead of the log. Losing some of it costs time only.
fn within(hard_state: HardState, group: &Group) -> HardState {
    match group.intake {
        Intake::Whole => hard_state,
        Intake::Refused => HardState {
            commit: hard_state.commit.min(group.next.prev()),
            ..hard_state
        },
    }
}

/// The most that the jobs take that were not refused, as one batch, in bytes.
fn bytes_of(jobs: &[Job], results: &[Result<(), WalError>]) -> u64 {
    jobs.iter()
        .zip(results)
        .filter(|(_, result)| result.is_ok())
        .map(|(job, _)| job.bytes())
        .fold(TRAILER_BYTES, u64::saturating_add)
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

/// What was found in a folder.
#[derive(Debug)]
struct Found {
    recovered: Recovered,
    groups: BTreeMap<u64, Group>,
    oldest_sequence: u64,
    last_batch: u64,
    /// The last segment, without what was torn; `None` in a new folder.
    tail: Option<Tail>,
    /// Segments that are not part of the log.
    leftovers: Vec<PathBuf>,
}

/// The last segment of a log that was found.
#[derive(Debug)]
struct Tail {
    segment: Segment,
    /// The last batch of it that is kept.
    last_batch: u64,
}

impl Found {
    fn new() -> Self {
        Self {
            recovered: Recovered::default(),
            groups: BTreeMap::new(),
            oldest_sequence: 1,
            last_batch: 0,
            tail: None,
            leftovers: Vec::new(),
        }
    }

    fn read<F: Fs>(
        fs: &F,
        data_dir: &Path,
        identity: Identity,
        files: &[(u64, PathBuf)],
    ) -> Result<Self, OpenError> {
        let mut found = Self::new();
        let mut replay = Replay::new();
        let mut previous: Option<(Segment, Link)> = None;
        // What is left of segments that were being dropped may have gaps.
        let start = files
            .windows(2)
            .rposition(|pair| matches!(pair, [(a, _), (b, _)] if a.checked_add(1) != Some(*b)))
            .map_or(0, |gap| gap + 1);
        let (dropped, files) = files.split_at(start);
        let oldest = files.first().map_or(1, |(sequence, _)| *sequence);
        for (place, (sequence, path)) in files.iter().enumerate() {
            let segment = read_segment(fs, data_dir, path)?;
            let header = &segment.header;
            if header.identity != identity {
                return Err(OpenError::Foreign {
                    dir: data_dir.to_owned(),
                    found: header.identity,
                    own: identity,
                });
            }
            let damaged = |what| Stop::new(0, what).into_corruption(path);
            if header.sequence != *sequence {
                return Err(damaged(Damage::SegmentHeader).into());
            }
            replay.oldest_needed = replay.oldest_needed.max(header.oldest_sequence);

            let mut batches = segment.batches();
            let mut sealed = None;
            let mut count = 0_u64;
            let stop = loop {
                if let Some(next) = sealed {
                    break Stop::new(
                        batches.position(),
                        Damage::MissingSegment { sequence: next },
                    );
                }
                let batch = match batches.next() {
                    Ok(batch) => batch,
                    Err(stop) => break stop,
                };
                if count == 0
                    && let Some((earlier, link)) = &previous
                {
                    // A batch proves that the segment before was sealed.
                    link.check(earlier, &segment)?;
                }
                count += 1;
                for placed in batch.records {
                    if let Record::Seal(next) = placed.record {
                        sealed = Some(next);
                    }
                    replay
                        .record(*sequence, placed.header.group, placed.record)
                        .map_err(|what| Stop::new(placed.offset, what).into_corruption(path))?;
                }
            };
            let last = place + 1 == files.len();
            let empty = count == 0 && place > 0;
            if last && !empty {
                match sealed {
                    Some(_) => return Err(stop.into_corruption(path).into()),
                    None => batches.judge_tail(stop.clone(), 0)?,
                }
            }
            if empty {
                if !last {
                    return Err(stop.into_corruption(path).into());
                }
                // Nothing was ever durable in here, so the one before is the
                // last again: also its seal may only be in the cache.
                batches.judge_tail(stop, 0)?;
                if let Some((earlier, link)) = previous.take() {
                    link.judge(&earlier, header.durable_batch)?;
                    found.torn_tail(&earlier, &link);
                    found.leftovers.push(path.clone());
                    found.last_batch = link.unsealed_batch;
                    found.tail = Some(Tail {
                        segment: earlier,
                        last_batch: link.unsealed_batch,
                    });
                }
                break;
            }
            let last_batch = batches.next_number() - 1;
            let link = Link {
                sealed,
                stop,
                chain: batches.chain(),
                position: batches.position(),
                last_batch,
                unsealed_batch: match sealed {
                    Some(_) => last_batch - 1,
                    None => last_batch,
                },
            };
            if last {
                found.torn_tail(&segment, &link);
                found.last_batch = last_batch;
                found.tail = Some(Tail {
                    segment,
                    last_batch,
                });
                break;
            }
            previous = Some((segment, link));
        }

        found.oldest_sequence = replay.oldest_needed;
        if oldest > found.oldest_sequence {
            let sequence = oldest - 1;
            let path = log_dir(data_dir).join(segment_name(sequence));
            return Err(Stop::new(0, Damage::MissingSegment { sequence })
                .into_corruption(&path)
                .into());
        }
        found.leftovers.extend(
            dropped
                .iter()
                .chain(files)
                .filter(|(sequence, _)| *sequence < found.oldest_sequence)
                .map(|(_, path)| path.clone()),
        );
        let finished = replay.finish().map_err(|what| {
            let path = files.first().map_or(data_dir, |(_, path)| path.as_path());
            Stop::new(0, what).into_corruption(path)
        })?;
        found.groups = finished.groups;
        found.recovered.groups = finished.recovered;
        Ok(found)
    }

    /// Says in the result that a write was cut short, if one was.
    fn torn_tail(&mut self, segment: &Segment, link: &Link) {
        // Where not even the first header can be read, nothing may have been
        // written at all.
        let begun = link.stop.offset > link.position || link.stop.what != Damage::RecordHeader;
        if link.sealed.is_none() && begun {
            self.recovered.torn_tail = Some(TornTail {
                file: segment.path.clone(),
                offset: len_u64(link.position),
                what: link.stop.what.clone(),
            });
        }
    }
}

/// How a segment ended, for the one behind it.
#[derive(Debug)]
struct Link {
    sealed: Option<u64>,
    stop: Stop,
    chain: u32,
    position: usize,
    last_batch: u64,
    /// The last batch but the seal.
    unsealed_batch: u64,
}

impl Link {
    /// Checks that `next`, which has batches, follows the segment.
    fn check(&self, segment: &Segment, next: &Segment) -> Result<(), OpenError> {
        if self.sealed != Some(next.header.sequence) {
            let what = match self.stop.what {
                Damage::RecordHeader => Damage::Unsealed,
                ref other => other.clone(),
            };
            let stop = Stop {
                what,
                ..self.stop.clone()
            };
            return Err(stop.into_corruption(&segment.path).into());
        }
        let header = &next.header;
        if header.previous_id != segment.header.id
            || header.previous_chain != self.chain
            || header.first_batch != self.last_batch + 1
        {
            return Err(Stop::new(0, Damage::SegmentLink)
                .into_corruption(&next.path)
                .into());
        }
        Ok(())
    }

    /// Judges the end of the segment when the one behind it is empty.
    fn judge(&self, segment: &Segment, durable_elsewhere: u64) -> Result<(), OpenError> {
        if self.sealed.is_some() {
            return Ok(());
        }
        let mut batches = segment.batches();
        while batches.next().is_ok() {}
        batches.judge_tail(self.stop.clone(), durable_elsewhere)?;
        Ok(())
    }
}

pub(crate) fn read_segment<F: Fs>(
    fs: &F,
    data_dir: &Path,
    path: &Path,
) -> Result<Segment, OpenError> {
    let bytes = fs
        .open_read_only(path)
        .and_then(|file| read_all(&file, SEGMENT_FILE_BYTES_MAX))
        .attempt(Operation::Read, path)
        .map_err(|failure| OpenError::from_failure(failure, data_dir))?;
    Segment::parse(path.to_owned(), bytes)
}

/// Writes the last segment again under a new id, and puts it in place of the
/// old one. What could be read may have been in the cache only, after a sync
/// that failed: now it is durable, and the torn part is gone.
fn rewrite<F: Fs>(
    fs: &F,
    dir: &Path,
    identity: Identity,
    found: &Found,
    spares: &mut usize,
) -> Result<Active<F::File>, Failure> {
    let id = fs.unique_id();
    let header = match &found.tail {
        None => SegmentHeader {
            id,
            sequence: 1,
            identity,
            previous_id: 0,
            previous_chain: 0,
            oldest_sequence: 1,
            first_batch: 1,
            durable_batch: 0,
        },
        Some(tail) => SegmentHeader {
            id,
            oldest_sequence: found.oldest_sequence,
            durable_batch: tail.last_batch,
            ..tail.segment.header.clone()
        },
    };
    let mut bytes = header.encode();
    let mut encoder = Encoder::new();
    encoder.begin(id, SEGMENT_HEADER_BYTES, SegmentHeader::chain(&bytes));
    let mut heading = Heading::Missing;
    if let Some(tail) = &found.tail {
        let mut batches = tail.segment.batches();
        while batches.next_number() <= tail.last_batch
            && let Ok(batch) = batches.next()
        {
            let start = encoder.position();
            for placed in &batch.records {
                encoder.copy(&placed.header, tail.segment.payload(placed));
            }
            encoder.trailer(batch.trailer.batch, batch.trailer.durable_batch, start);
            heading = Heading::Written;
        }
    }
    let (batches, chain) = encoder.encoded();
    bytes.extend_from_slice(batches);

    // On a full disk a spare is the only place.
    let (tmp, file) = if *spares > 0 {
        *spares -= 1;
        let tmp = spare_path(dir, *spares);
        let file = fs.open(&tmp).attempt(Operation::Open, &tmp)?;
        (tmp, file)
    } else {
        let tmp = dir.join(SEGMENT_TMP);
        let file = fs.create(&tmp).attempt(Operation::Create, &tmp)?;
        (tmp, file)
    };
    file.write_all_at(&bytes, 0)
        .attempt(Operation::Write, &tmp)?;
    file.sync_data().attempt(Operation::Sync, &tmp)?;
    let allocated = file.len_bytes().attempt(Operation::Read, &tmp)?;
    let path = dir.join(segment_name(header.sequence));
    fs.rename(&tmp, &path).attempt(Operation::Rename, &path)?;
    fs.sync_dir(dir).attempt(Operation::Sync, dir)?;
    Ok(Active {
        file,
        path,
        id,
        sequence: header.sequence,
        end: len_u64(bytes.len()),
        allocated,
        chain,
        heading,
    })
}

#[cfg(test)]
impl<F: Fs> Log<F> {
    /// The first and the last segment, for tests.
    pub(crate) fn segments(&self) -> (u64, u64) {
        (self.oldest_sequence, self.active.sequence)
    }

    /// Where the next batch goes, in bytes, for tests.
    pub(crate) fn end(&self) -> u64 {
        self.active.end
    }
}
