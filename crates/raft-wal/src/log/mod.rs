//! # The log
//!
//! Segments on a disk, written by one owner, one batch after the other. It is
//! synchronous and has no thread, so a test can stop it between any two calls of
//! the disk.
//!
//! | file | room |
//! |---|---|
//! | `job.rs` | what is to be written |
//! | `reopen.rs` | from what was found to a segment that is written |
//! | `room.rs` | space that is taken before it is needed |
//! | `segments.rs` | from one segment to the next |
//!
//! - Owns: the folder, the active segment, where each group stands.
//! - Reads: [`Write`]s and compactions, in order.
//! - Emits: one write and at most one sync per batch, and a result per job.
//! - Source: `docs/WAL.md`.

mod job;
mod reopen;
mod room;
mod segments;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_core::{Entries, Entry, HardState, LogIndex};

use self::job::Growth;
use self::reopen::rewrite;
use self::room::{Room, SPARES};
use crate::error::{Attempt, Damage, Failure, OpenError, Operation, ReadError, WalError};
use crate::folder::{LOCK, SEGMENT_TMP, SPARE_TMP, log_dir, segments, spare_path};
use crate::format::{Encoder, MARK_BYTES_MAX, SEAL_BYTES, TRAILER_BYTES, len_u64};
use crate::fs::{File, Fs};
use crate::group::{Group, Intake, Place, Span};
use crate::identity::{self, Identity};
use crate::options::WalOptions;
use crate::recovery::Found;
use crate::replay::Recovered;
use crate::segment::Stop;
use crate::starts;
use crate::write::{Sync, Write};

pub(crate) use self::job::Job;

/// The largest write that is taken, in bytes of the log.
pub const WRITE_BYTES_MAX: u64 = 1 << 30;
/// The encoding buffer keeps no more than this between batches.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

/// A read goes through no more spans than this. It may return fewer entries than
/// were asked for in any case.
const SPANS_PER_READ_MAX: usize = 4096;

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
        let mut found = match (files.is_empty(), named) {
            (true, identity::Named::Yes) => {
                return Err(Stop::new(0, Damage::MissingLog)
                    .into_corruption(&dir)
                    .into());
            }
            (true, identity::Named::No) => Found::new(),
            (false, _) => {
                Found::read(&fs, data_dir, identity, &files, options.recovered_bytes_max)?
            }
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
        found.recovered.incarnation = starts::count(&fs, data_dir)?;
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
                    let start = self.active.end + len_u64(self.encoder.position());
                    self.encoder.entries(group_id, &entries);
                    let place = Place {
                        sequence: self.active.sequence,
                        start,
                        end: self.active.end + len_u64(self.encoder.position()),
                    };
                    group.append(place, first.index(), last.index().next());
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

    /// Where the entries of `group` from `low` up to, but not including, `high`
    /// are, or the first part of them. Only what was written is found: nobody
    /// asks while a batch is made.
    pub(crate) fn locate(
        &self,
        group: u64,
        low: LogIndex,
        high: LogIndex,
    ) -> Result<Vec<Span>, ReadError> {
        if let Some(poison) = &self.poison {
            return Err(WalError::Poisoned(poison.clone()).into());
        }
        let (first, next) = self
            .groups
            .get(&group)
            .map_or((LogIndex::new(1), LogIndex::new(1)), |group| {
                (group.first_index(), group.next)
            });
        if low < first {
            return Err(ReadError::Compacted { first });
        }
        if low >= high || high > next {
            return Err(ReadError::Unavailable { next });
        }
        Ok(self
            .groups
            .get(&group)
            .map(|group| group.spans(low, high, SPANS_PER_READ_MAX))
            .unwrap_or_default())
    }

    fn sync_dir(&self) -> Result<(), Failure> {
        self.fs
            .sync_dir(&self.dir)
            .attempt(Operation::Sync, &self.dir)
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
