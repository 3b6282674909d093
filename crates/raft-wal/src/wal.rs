//! # Group commit
//!
//! One thread owns the log. Whoever appends puts a job into a queue and goes
//! on; the thread takes everything that has queued up, writes it as one batch,
//! syncs once, and tells everybody. Between two batches it says where entries
//! are that somebody wants to read; another thread reads them.
//!
//! - Owns: the queue and the threads.
//! - Emits: one call of `done` per job, in the order of the jobs, always.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use raft_core::{Entries, EntryId, LogIndex, SnapshotMetadata};

use crate::error::{OpenError, Operation, ReadError, WalError};
use crate::folder::log_dir;
use crate::fs::{Fs, OsFs};
use crate::identity::Identity;
use crate::log::{Job, Log};
use crate::options::WalOptions;
use crate::read::{Located, ReadJob, read_all};
use crate::replay::Recovered;
use crate::write::Write;

type Done = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// A durable log for the Raft groups of one node.
///
/// Appending never waits for the disk. Dropping the log writes what is queued,
/// as [`close`](Self::close) does, and tells nobody if that fails.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Ends when the thread above has ended.
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when a job comes, and when the log closes.
    wake: Condvar,
    bytes_max: u64,
}

#[derive(Debug)]
struct Queue {
    jobs: VecDeque<Queued>,
    /// Reads whose entries are to be found.
    reads: Vec<ReadJob>,
    /// Of the jobs in the queue and of those being written.
    bytes: u64,
    stage: Stage,
    /// What the last write of all came to.
    closed: Option<WalError>,
}

/// Whether jobs are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Closing,
    /// The thread is gone.
    Closed,
}

struct Queued {
    job: Job,
    bytes: u64,
    done: Done,
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(f)
    }
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFill {
    /// What waits or is being written, in bytes.
    pub bytes: u64,
    /// What [`Wal::try_append`] fills it up to, in bytes.
    pub bytes_max: u64,
}

/// The write was not taken, because too much is waiting.
#[derive(Debug, thiserror::Error)]
#[error("too much is waiting to be written; try again when some of it is done")]
pub struct QueueFull(
    /// The write.
    pub Box<Write>,
);

impl Wal {
    /// Opens the log in the data folder `dir`, or makes both, and returns what
    /// was in it. Blocks on the disk.
    ///
    /// # Errors
    /// The folder is in use, or somebody else's, or damaged, or the disk fails.
    pub fn open(
        dir: impl AsRef<Path>,
        identity: Identity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(OsFs, dir, identity, options)
    }

    /// [`open`](Self::open), on a file system of your own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on<F: Fs>(
        fs: F,
        dir: impl AsRef<Path>,
        identity: Identity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        let dir = dir.as_ref();
        let options = options.sanitized();
        let (log, recovered) = Log::open(fs.clone(), dir, identity, options)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                reads: Vec::new(),
                bytes: 0,
                stage: Stage::Open,
                closed: None,
            }),
            wake: Condvar::new(),
            bytes_max: options.queue_bytes_max,
        });
        let (located, work) = channel();
        let writer = Writer {
            shared: shared.clone(),
            options,
            located,
        };
        let not_started = |source| OpenError::Io {
            operation: Operation::StartThread,
            path: dir.to_owned(),
            source,
        };
        let segments = log_dir(dir);
        let again = shared.clone();
        let reader = thread::Builder::new()
            .name("raft-wal-read".to_owned())
            .spawn(move || read_all(&fs, &segments, &work, |job| again.push_read(job)))
            .map_err(not_started)?;
        let thread = thread::Builder::new()
            .name("raft-wal".to_owned())
            .spawn(move || writer.run(log))
            .map_err(not_started)?;
        let wal = Self {
            shared,
            thread: Some(thread),
            reader: Some(reader),
        };
        Ok((wal, recovered))
    }

    /// Queues a write. `done` is called once, on the log's thread, in the order
    /// of the writes; it must not block. With [`Sync::Required`] success means
    /// durable, otherwise that the operating system has it. Takes the write
    /// however full the queue is: a vote has to go out. Never blocks.
    ///
    /// [`Sync::Required`]: crate::Sync::Required
    pub fn append(&self, write: Write, done: impl FnOnce(Result<(), WalError>) + Send + 'static) {
        self.queue_job(Job::Write(write), Box::new(done));
    }

    /// [`append`](Self::append), unless the queue is full.
    ///
    /// # Errors
    /// Gives the write back if it would fill the queue above
    /// [`queue_bytes_max`](WalOptions::queue_bytes_max). Then `done` is not
    /// called. An empty queue takes any write.
    pub fn try_append(
        &self,
        write: Write,
        done: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let bytes = write.log_bytes();
        let queue = self.shared.lock();
        let full = queue.bytes.saturating_add(bytes) > self.shared.bytes_max;
        if queue.bytes > 0 && full {
            return Err(QueueFull(Box::new(write)));
        }
        self.push(queue, Job::Write(write), Box::new(done));
        Ok(())
    }

    /// Queues the news that `group` needs no entry up to and with `up_to` any
    /// more, because `snapshot` has them, and is durable. Segments that no
    /// group needs go as soon as that is durable, which `done` tells.
    pub fn compact(
        &self,
        group: u64,
        up_to: EntryId,
        snapshot: SnapshotMetadata,
        done: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) {
        let job = Job::Compact {
            group,
            up_to,
            snapshot,
        };
        self.queue_job(job, Box::new(done));
    }

    /// Reads entries of `group` back: those of `range` that fit into `bytes_max`
    /// of [`encoded_len`](raft_core::Entry::encoded_len), or fewer, but one at
    /// least. `done` is called once, on the log's own threads, with entries that
    /// begin at the start of the range; it must not block. Writes go on
    /// meanwhile. Only what `append` has reported as done is found for certain.
    ///
    /// An overwritten entry is never returned. Entries whose file was dropped
    /// while they were read are [`ReadError::Compacted`].
    pub fn read(
        &self,
        group: u64,
        range: Range<LogIndex>,
        bytes_max: u64,
        done: impl FnOnce(Result<Entries, ReadError>) + Send + 'static,
    ) {
        self.shared.push_read(ReadJob {
            group,
            range,
            bytes_max,
            done: Box::new(done),
            tried: None,
        });
    }

    /// How full the queue is.
    pub fn queue(&self) -> QueueFill {
        QueueFill {
            bytes: self.shared.lock().bytes,
            bytes_max: self.shared.bytes_max,
        }
    }

    /// Writes everything that is queued, makes it durable, and closes the log.
    /// Blocks until then.
    ///
    /// # Errors
    /// The disk failed, now or earlier.
    pub fn close(mut self) -> Result<(), WalError> {
        self.shut();
        match self.shared.lock().closed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn shut(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let mut queue = self.shared.lock();
        if queue.stage == Stage::Open {
            queue.stage = Stage::Closing;
        }
        drop(queue);
        self.shared.wake.notify_one();
        // `done` may own the last handle; then this is one of the log's own
        // threads, which end by themselves.
        let current = thread::current().id();
        let threads = [Some(thread), self.reader.take()];
        if threads.iter().flatten().all(|t| t.thread().id() != current) {
            for thread in threads.into_iter().flatten() {
                // A panic of a thread has reached every waiter as `Closed`.
                let _ = thread.join();
            }
        }
    }

    fn queue_job(&self, job: Job, done: Done) {
        self.push(self.shared.lock(), job, done);
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, job: Job, done: Done) {
        if queue.stage != Stage::Open {
            drop(queue);
            done(Err(WalError::Closed));
            return;
        }
        let bytes = job.bytes();
        queue.bytes = queue.bytes.saturating_add(bytes);
        let first = queue.jobs.is_empty();
        queue.jobs.push_back(Queued { job, bytes, done });
        drop(queue);
        if first {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic happens under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_read(&self, job: ReadJob) {
        let mut queue = self.lock();
        if queue.stage != Stage::Open {
            drop(queue);
            (job.done)(Err(WalError::Closed.into()));
            return;
        }
        queue.reads.push(job);
        drop(queue);
        self.wake.notify_one();
    }
}

/// What the thread has to do next.
enum Next {
    Locate(Vec<ReadJob>),
    Write(Vec<Queued>),
    Idle,
    Close,
}

struct Writer {
    shared: Arc<Shared>,
    options: WalOptions,
    /// To the thread that reads.
    located: Sender<Located>,
}

impl Writer {
    fn run<F: Fs>(self, mut log: Log<F>) {
        let _farewell = Farewell(&self.shared);
        let mut marked = Marked::Yes;
        loop {
            match self.next(marked) {
                Next::Locate(reads) => self.locate(&log, reads),
                Next::Write(batch) => {
                    self.write(&mut log, batch);
                    log.maintain();
                    marked = Marked::No;
                }
                Next::Idle => {
                    log.mark_durable();
                    marked = Marked::Yes;
                }
                Next::Close => {
                    let closed = log.close();
                    // The folder is free when the caller of `close` goes on.
                    drop(log);
                    self.shared.lock().closed = closed.err();
                    return;
                }
            }
        }
    }

    fn next(&self, marked: Marked) -> Next {
        let mut queue = self.shared.lock();
        loop {
            if !queue.reads.is_empty() {
                return Next::Locate(std::mem::take(&mut queue.reads));
            }
            if !queue.jobs.is_empty() {
                return Next::Write(self.take_batch(&mut queue));
            }
            if queue.stage != Stage::Open {
                return Next::Close;
            }
            queue = match marked {
                Marked::Yes => self
                    .shared
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Marked::No => {
                    let (queue, timeout) = self
                        .shared
                        .wake
                        .wait_timeout(queue, self.options.durable_mark_after)
                        .unwrap_or_else(PoisonError::into_inner);
                    let is_quiet = queue.jobs.is_empty() && queue.reads.is_empty();
                    if timeout.timed_out() && is_quiet && queue.stage == Stage::Open {
                        return Next::Idle;
                    }
                    queue
                }
            };
        }
    }

    fn locate<F: Fs>(&self, log: &Log<F>, reads: Vec<ReadJob>) {
        for read in reads {
            let found = log.locate(read.group, read.range.start, read.range.end);
            if let Some(located) = read.located(found)
                && let Err(unsent) = self.located.send(located)
            {
                // The other thread has panicked.
                unsent.0.refuse(WalError::Closed);
            }
        }
    }

    /// Takes what fits into a batch, one job at least.
    fn take_batch(&self, queue: &mut Queue) -> Vec<Queued> {
        let mut bytes = 0_u64;
        let mut count = 0;
        for queued in &queue.jobs {
            bytes = bytes.saturating_add(queued.bytes);
            if count > 0 && bytes > self.options.batch_bytes_max {
                break;
            }
            count += 1;
        }
        queue.jobs.drain(..count).collect()
    }

    fn write<F: Fs>(&self, log: &mut Log<F>, batch: Vec<Queued>) {
        let bytes = batch
            .iter()
            .fold(0_u64, |sum, queued| sum.saturating_add(queued.bytes));
        let (jobs, dones): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|queued| (queued.job, queued.done))
            .unzip();
        let mut pending = Pending(dones.into());
        let results = log.commit(&jobs);
        let mut queue = self.shared.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        drop(queue);
        for result in results {
            if let Some(done) = pending.0.pop_front() {
                done(result);
            }
        }
    }
}

/// Whether everything written is recorded as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marked {
    Yes,
    No,
}

/// Jobs that are being written. If the thread panics, they are told too.
struct Pending(VecDeque<Done>);

impl Drop for Pending {
    fn drop(&mut self) {
        for done in self.0.drain(..) {
            done(Err(WalError::Closed));
        }
    }
}

/// Ends the queue when the thread ends, also by a panic in a `done`: nobody
/// waits for ever.
struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.stage = Stage::Closed;
        if thread::panicking() {
            queue.closed = Some(WalError::Closed);
        }
        let jobs = std::mem::take(&mut queue.jobs);
        let reads = std::mem::take(&mut queue.reads);
        queue.bytes = 0;
        drop(queue);
        for queued in jobs {
            (queued.done)(Err(WalError::Closed));
        }
        for read in reads {
            (read.done)(Err(WalError::Closed.into()));
        }
    }
}
