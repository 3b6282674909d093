//! A log store of one's own: one file that is written anew for every write.
//! Slow, and as durable as the disk. What a real one has to keep of it: writes
//! are done in order, away from the caller, and `done` is called once they would
//! survive a power failure. The data of snapshots is kept by raft-tokio beside
//! it; this store knows which of them its log refers to, and says so.
//!
//! ```text
//! cargo run -p raft-tokio --example own_log_store -- /tmp/own-log
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_tokio::core::{Entries, Entry, EntryId, HardState, Snapshot};
use raft_tokio::log_store::{
    LogReadDone, LogReadError, LogReadRequest, LogStore, LogStoreError, LogWrite, StoredLog,
    WriteDone,
};
use raft_tokio::snapshot::{SnapshotFiles, SnapshotStorage};
use raft_tokio::{MemoryNetwork, NodeId, RaftConfig, SerdeMachine, TypedRaft};
use raft_wal::Identity;
use raft_wire::{
    decode_entry, decode_hard_state, decode_snapshot_metadata, encode_entry, encode_hard_state,
    encode_snapshot_metadata,
};
use serde::{Deserialize, Serialize};

/// What the file has.
#[derive(Default)]
struct Content {
    hard_state: HardState,
    snapshot: Option<Snapshot>,
    entries: Vec<Entry>,
}

impl Content {
    /// A run of records, each a length and that many bytes: the hard state, the
    /// snapshot's metadata and manifest (both empty without one), then the entries.
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut record = |write: &dyn Fn(&mut BytesMut)| {
            let mut bytes = BytesMut::new();
            write(&mut bytes);
            out.put_u64_le(bytes.len() as u64);
            out.put_slice(&bytes);
        };
        record(&|out| encode_hard_state(&self.hard_state, out));
        record(&|out| {
            if let Some(snapshot) = &self.snapshot {
                encode_snapshot_metadata(&snapshot.metadata, out);
            }
        });
        record(&|out| {
            if let Some(snapshot) = &self.snapshot {
                out.put_slice(&snapshot.data);
            }
        });
        for entry in &self.entries {
            record(&|out| encode_entry(entry, out));
        }
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> Result<Self, Box<dyn Error + Send + Sync>> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut record = || -> Result<Bytes, Box<dyn Error + Send + Sync>> {
            let len = usize::try_from(bytes.try_get_u64_le()?)?;
            if len > bytes.len() {
                return Err("the file ends in the middle of a record".into());
            }
            Ok(bytes.split_to(len))
        };
        let hard_state = decode_hard_state(&record()?)?;
        let (metadata, data) = (record()?, record()?);
        let snapshot = if metadata.is_empty() {
            None
        } else {
            Some(Snapshot {
                metadata: decode_snapshot_metadata(&metadata)?,
                data,
            })
        };
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let len = usize::try_from(bytes.try_get_u64_le()?)?;
            if len > bytes.len() {
                return Err("the file ends in the middle of an entry".into());
            }
            entries.push(decode_entry(bytes.split_to(len))?);
        }
        Ok(Self {
            hard_state,
            snapshot,
            entries,
        })
    }

    fn write(&mut self, write: LogWrite) {
        if let Some(snapshot) = write.snapshot {
            self.entries.clear();
            self.snapshot = Some(snapshot);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index() < first.index());
        }
        self.entries.extend(write.entries.iter().cloned());
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId) {
        self.entries
            .retain(|entry| entry.index() > compact_to.index);
        self.snapshot = Some(snapshot);
    }

    /// A part of what was asked for is enough. Indexes have no gaps.
    fn read(&self, request: LogReadRequest) -> Result<Entries, LogReadError> {
        let is_wanted = |entry: &&Entry| (request.low..request.high).contains(&entry.index());
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self.entries.iter().filter(is_wanted) {
            bytes += entry.encoded_len();
            if bytes > request.bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        match found.first() {
            Some(first) if first.index() == request.low => {
                Ok(Entries::from_batch(found).unwrap_or_default())
            }
            _ => Err(LogReadError::Compacted),
        }
    }

    fn stored(&self) -> StoredLog {
        let behind = |entry: &&Entry| {
            let covered = self.snapshot.as_ref();
            covered.is_none_or(|snapshot| entry.index() > snapshot.metadata.index)
        };
        let entries = self.entries.iter().filter(behind).cloned().collect();
        StoredLog {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: Entries::from_batch(entries).unwrap_or_default(),
            ..StoredLog::default()
        }
    }
}

enum Work {
    Write(LogWrite, WriteDone),
    Read(LogReadRequest, LogReadDone),
    Compact(Snapshot, EntryId, WriteDone),
}

struct FileLogStore {
    snapshots: SnapshotFiles,
    /// `None` once the thread has it.
    content: Option<Content>,
    path: PathBuf,
    /// `None` before the first load and once closed.
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl FileLogStore {
    fn open(path: &Path, owner: Identity) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let content = Content::decode(bytes.into())?;
        let folder = path.with_extension("data");
        let snapshots = SnapshotFiles::open(&folder, owner)?;
        let installed = content.snapshot.as_ref();
        snapshots.remove_unrecorded(installed.map(|snapshot| snapshot.metadata.id()))?;
        Ok(Self {
            snapshots,
            content: Some(content),
            path: path.to_owned(),
            queue: None,
            thread: None,
        })
    }

    fn send(&self, work: Work) {
        if let Some(queue) = &self.queue {
            // The thread ends only when the queue does.
            let _ = queue.send(work);
        }
    }
}

/// Writes a new file and puts it in the place of the old one, so that there is
/// always a whole one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new_path = path.with_extension("new");
    let mut file = File::create(&new_path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new_path, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn work_off(queue: &Receiver<Work>, mut content: Content, path: &Path, snapshots: &SnapshotFiles) {
    let mut failure = None;
    for work in queue {
        let done = match work {
            Work::Write(write, done) => {
                content.write(write);
                done
            }
            Work::Read(request, done) => {
                done.complete(content.read(request));
                continue;
            }
            Work::Compact(snapshot, compact_to, done) => {
                content.compact(snapshot, compact_to);
                done
            }
        };
        // After a failure nobody knows what is on the disk: no write again.
        if failure.is_none() {
            let written = replace(path, &content.encode());
            failure = written.err().map(|error| LogStoreError(Arc::new(error)));
        }
        if let (None, Some(snapshot)) = (&failure, &content.snapshot) {
            // Too many are no harm; the next time it is tried again.
            let _ = snapshots.prune(snapshot.metadata.id());
        }
        done.complete(failure.clone().map_or(Ok(()), Err));
    }
}

impl LogStore for FileLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        let content = self.content.take().unwrap_or_default();
        let stored = content.stored();
        let (queue, work) = channel();
        let path = self.path.clone();
        let snapshots = self.snapshots.clone();
        let thread = std::thread::Builder::new()
            .name("own-log".to_owned())
            .spawn(move || work_off(&work, content, &path, &snapshots))
            .map_err(|error| LogStoreError(Arc::new(error)))?;
        self.queue = Some(queue);
        self.thread = Some(thread);
        Ok(stored)
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        self.send(Work::Write(write, done));
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        self.send(Work::Read(request, done));
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStorage> {
        Arc::new(self.snapshots.clone())
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        self.send(Work::Compact(snapshot, compact_to, done));
    }

    fn close(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, the replica has missed its answers already.
            let _ = thread.join();
        }
    }
}

/// How often this program was run.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Runs(u64);

impl SerdeMachine for Runs {
    type Command = ();
    type Reply = u64;

    fn apply(&mut self, (): ()) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: own_log_store <file>")?;
    let id = NodeId::new(1).ok_or("ids begin at 1")?;
    let owner = Identity {
        cluster_id: 1,
        node_id: id,
    };
    let log = FileLogStore::open(Path::new(&path), owner)?;
    let config = RaftConfig {
        // So small that a few runs compact the log.
        snapshot_entries: 4,
        snapshot_keep_entries: 1,
        ..RaftConfig::new(id, vec![id])
    };
    let transport = MemoryNetwork::new().join(id);
    let raft = TypedRaft::start(config, Runs::default(), log, transport).await?;
    raft.raft().campaign().await?;
    println!("run {}", raft.propose(&()).await?);
    raft.raft().shutdown().await;
    Ok(())
}
