//! A cluster of replicas in one process.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod dropped;
pub(crate) mod gate;
pub(crate) mod gated;
pub(crate) mod memory;
pub(crate) mod traces;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use raft_tokio::core::{Body, EntryId, Snapshot};
use raft_tokio::log_store::{
    Durability, LogReadDone, LogReadError, LogReadRequest, LogStoreError, LogWrite, StoredLog,
    WriteDone,
};
use raft_tokio::snapshot::{SnapshotExchange, SnapshotStorage};
use raft_tokio::transport::{Inbox, Packet};
use raft_tokio::{
    BoxError, LogIndex, LogStore, MemoryLogStore, MemoryNetwork, MemoryTransport, NodeId, Raft,
    RaftConfig, SnapshotJob, SnapshotReader, StateMachine, Transport,
};

pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

/// Remembers every command, and answers with how many there were.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    commands: Vec<Bytes>,
}

impl StateMachine for Journal {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        self.commands.push(command.clone());
        let text = String::from_utf8_lossy(command);
        Bytes::from(format!("{}:{text}", self.commands.len()))
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        if query == "all" {
            return Bytes::from(self.commands.join(&b'\n'));
        }
        Bytes::from(self.commands.len().to_string())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let commands = self.commands.clone();
        SnapshotJob::new(move |out| Ok(out.write_all(&commands.join(&b'\n'))?))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.commands = snapshot
            .read_whole()?
            .split(|byte| *byte == b'\n')
            .filter(|command| !command.is_empty())
            .map(Bytes::copy_from_slice)
            .collect();
        Ok(())
    }
}

/// A disk that can be slow, can stop working for a while or for ever, and loses
/// what it was not told to keep when the power fails. Each start of a server has
/// one of its own, with what the one before had stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct StallingLogStore {
    stored: MemoryLogStore,
    disk: Arc<Mutex<Disk>>,
    reads: Arc<Mutex<Reads>>,
}

#[derive(Debug, Default)]
struct Disk {
    state: DiskState,
    /// What is still to be done, in order.
    waiting: VecDeque<(Operation, WriteDone)>,
    /// What is done and would not survive a power failure.
    unsynced: Vec<LogWrite>,
    pace: Pace,
    /// How long a compaction takes. What was asked for after it waits.
    compaction: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiskState {
    #[default]
    Working,
    Stalled,
    /// It does nothing any more, and says nothing.
    Gone,
}

/// How fast a disk is.
#[derive(Debug, Default)]
enum Pace {
    #[default]
    AtOnce,
    /// Each write takes up to so long.
    Slow { max: Duration, random: Rng },
}

#[derive(Debug)]
enum Operation {
    Append(LogWrite),
    Compact(Snapshot, EntryId),
}

/// What becomes of reads.
#[derive(Debug, Default)]
enum Answers {
    #[default]
    AtOnce,
    Held(Vec<(LogReadRequest, LogReadDone)>),
    Failing(Failures),
    Damaged,
}

/// How many reads fail.
#[derive(Debug)]
enum Failures {
    All,
    Next(u32),
}

#[derive(Debug, Default)]
struct Reads {
    answers: Answers,
    asked: Vec<LogReadRequest>,
}

impl StallingLogStore {
    pub(crate) fn stall(&self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.state == DiskState::Working {
            disk.state = DiskState::Stalled;
        }
    }

    /// From now on each write takes a random time up to `max`.
    pub(crate) fn slow_down(&self, max: Duration, random: Rng) {
        self.disk.lock().unwrap().pace = Pace::Slow { max, random };
    }

    /// From now on each compaction takes so long, and what comes after it waits.
    pub(crate) fn compact_slowly(&self, compaction: Duration) {
        self.disk.lock().unwrap().compaction = compaction;
    }

    /// Whether a compaction is under way, or waits.
    pub(crate) fn is_compacting(&self) -> bool {
        let disk = self.disk.lock().unwrap();
        let mut waiting = disk.waiting.iter();
        waiting.any(|(operation, _)| matches!(operation, Operation::Compact(..)))
    }

    /// Reads get no answer from now on.
    pub(crate) fn hold_reads(&self) {
        self.reads.lock().unwrap().answers = Answers::Held(Vec::new());
    }

    /// Reads that were held are answered, and later ones at once.
    pub(crate) fn release_reads(&mut self) {
        let held = std::mem::take(&mut self.reads.lock().unwrap().answers);
        if let Answers::Held(held) = held {
            for (request, done) in held {
                self.stored.read(request, done);
            }
        }
    }

    /// Reads fail from now on, those that are held as well.
    pub(crate) fn fail_reads(&self) {
        // What is held is dropped without an answer.
        self.reads.lock().unwrap().answers = Answers::Failing(Failures::All);
    }

    /// So many reads fail from now on.
    pub(crate) fn fail_next_reads(&self, count: u32) {
        self.reads.lock().unwrap().answers = Answers::Failing(Failures::Next(count));
    }

    /// Reads find damage from now on.
    pub(crate) fn damage(&self) {
        self.reads.lock().unwrap().answers = Answers::Damaged;
    }

    /// Every read that was asked for.
    pub(crate) fn asked_reads(&self) -> Vec<LogReadRequest> {
        self.reads.lock().unwrap().asked.clone()
    }

    pub(crate) fn resume(&self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.state == DiskState::Stalled {
            disk.state = DiskState::Working;
            while self.perform_oldest(&mut disk) {}
        }
    }

    /// Does what is still to be done, and nothing after that.
    fn retire(&self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.state != DiskState::Gone {
            while self.perform_oldest(&mut disk) {}
            self.sync(&mut disk);
            disk.state = DiskState::Gone;
        }
    }

    /// Nothing is done any more. Of what was to be done the first `survivors` got
    /// to the disk, though nobody heard of it; whatever else was not told to be
    /// kept is lost.
    fn cut_power(&self, survivors: usize) {
        let mut disk = self.disk.lock().unwrap();
        disk.state = DiskState::Gone;
        for _ in 0..survivors {
            if let Some((operation, _)) = disk.waiting.pop_front() {
                let unheard = WriteDone::new(|_| {});
                self.perform(&mut disk, operation, unheard);
            }
        }
        disk.waiting.clear();
        disk.unsynced.clear();
    }

    /// The disk as the next start of the server finds it.
    fn reopen(&self) -> Self {
        Self {
            stored: self.stored.clone(),
            disk: Arc::default(),
            reads: Arc::default(),
        }
    }

    /// Does what was asked for first. Whether there was anything.
    fn perform_oldest(&self, disk: &mut Disk) -> bool {
        let Some((operation, done)) = disk.waiting.pop_front() else {
            return false;
        };
        self.perform(disk, operation, done);
        true
    }

    fn perform(&self, disk: &mut Disk, operation: Operation, done: WriteDone) {
        match operation {
            Operation::Append(write)
                if write.durability == Durability::Ordered && write.entries.is_empty() =>
            {
                disk.unsynced.push(write);
                done.complete(Ok(()));
            }
            Operation::Append(write) => {
                self.sync(disk);
                self.stored.clone().append(write, done);
            }
            Operation::Compact(snapshot, to) => {
                self.sync(disk);
                self.stored.clone().compact(snapshot, to, done);
            }
        }
    }

    fn sync(&self, disk: &mut Disk) {
        for write in disk.unsynced.drain(..) {
            self.stored.clone().append(write, WriteDone::new(|_| {}));
        }
    }

    fn begin(&self, operation: Operation, done: WriteDone) {
        let mut disk = self.disk.lock().unwrap();
        if disk.state == DiskState::Gone {
            return;
        }
        let is_compaction = matches!(operation, Operation::Compact(..));
        disk.waiting.push_back((operation, done));
        if is_compaction && disk.state == DiskState::Working && !disk.compaction.is_zero() {
            disk.state = DiskState::Stalled;
            let (store, compaction) = (self.clone(), disk.compaction);
            tokio::spawn(async move {
                tokio::time::sleep(compaction).await;
                store.resume();
            });
            return;
        }
        match (disk.state, &mut disk.pace) {
            (DiskState::Working, Pace::AtOnce) => while self.perform_oldest(&mut disk) {},
            (DiskState::Working, Pace::Slow { max, random }) => {
                let pause = max.mul_f64(random.f64());
                let store = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let mut disk = store.disk.lock().unwrap();
                    if disk.state == DiskState::Working {
                        store.perform_oldest(&mut disk);
                    }
                });
            }
            // For later.
            (DiskState::Stalled | DiskState::Gone, _) => {}
        }
    }
}

impl LogStore for StallingLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        self.stored.load()
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        self.begin(Operation::Append(write), done);
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        let mut reads = self.reads.lock().unwrap();
        reads.asked.push(request);
        match &mut reads.answers {
            Answers::AtOnce | Answers::Failing(Failures::Next(0)) => {
                self.stored.read(request, done);
            }
            Answers::Held(held) => held.push((request, done)),
            Answers::Failing(failures) => {
                if let Failures::Next(count) = failures {
                    *count -= 1;
                }
                let error = std::io::Error::other("the disk cannot be read");
                done.complete(Err(LogReadError::Failed(Arc::new(error))));
            }
            Answers::Damaged => {
                let error = std::io::Error::other("a checksum is wrong");
                done.complete(Err(LogReadError::Damaged(Arc::new(error))));
            }
        }
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStorage> {
        self.stored.snapshots()
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        self.begin(Operation::Compact(snapshot, compact_to), done);
    }
}

/// Who is reached where, as a replica told its transport.
pub(crate) type Peers = Arc<Mutex<BTreeMap<NodeId, Option<String>>>>;

/// What a replica told its transport about a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    NeverTold,
    Forgotten,
    At(String),
}

/// To whom a server has sent snapshots, in order.
type SnapshotsSent = Arc<Mutex<Vec<NodeId>>>;

/// Remembers what it was told about peers and to whom it sent snapshots, and can
/// fall silent for ever.
#[derive(Debug)]
struct RecordingTransport {
    inner: MemoryTransport,
    peers: Peers,
    is_silent: Arc<AtomicBool>,
    snapshots_sent: SnapshotsSent,
}

impl Transport for RecordingTransport {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        self.inner.start(inbox, snapshots);
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        if self.is_silent.load(Ordering::SeqCst) {
            return;
        }
        if matches!(&packet, Packet::Raft(message) if matches!(message.body, Body::Snapshot(_))) {
            self.snapshots_sent.lock().unwrap().push(to);
        }
        self.inner.send(to, packet);
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn set_peer(&mut self, id: NodeId, address: Option<&str>) {
        let address = address.map(ToOwned::to_owned);
        self.peers.lock().unwrap().insert(id, address);
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.inner.stopped()
    }
}

/// Replicas of one state machine, by default a [`Journal`].
pub(crate) struct Cluster<M = Journal> {
    network: MemoryNetwork,
    rafts: BTreeMap<u64, Raft>,
    stores: BTreeMap<u64, StallingLogStore>,
    peers: BTreeMap<u64, Peers>,
    /// What makes each server's transport fall silent.
    silence: BTreeMap<u64, Arc<AtomicBool>>,
    snapshots_sent: BTreeMap<u64, SnapshotsSent>,
    voters: Vec<NodeId>,
    configure: Box<dyn Fn(&mut RaftConfig)>,
    machine: Box<dyn Fn() -> M>,
}

impl Cluster {
    pub(crate) async fn start(voters: u64) -> Self {
        Self::start_with(voters, |_| {}).await
    }

    pub(crate) async fn start_with(
        voters: u64,
        configure: impl Fn(&mut RaftConfig) + 'static,
    ) -> Self {
        Self::start_of(voters, configure, Journal::default).await
    }
}

impl<M: StateMachine> Cluster<M> {
    pub(crate) async fn start_of(
        voters: u64,
        configure: impl Fn(&mut RaftConfig) + 'static,
        machine: impl Fn() -> M + 'static,
    ) -> Self {
        let voters: Vec<NodeId> = (1..=voters).map(node_id).collect();
        let mut cluster = Self {
            network: MemoryNetwork::new(),
            rafts: BTreeMap::new(),
            stores: BTreeMap::new(),
            peers: BTreeMap::new(),
            silence: BTreeMap::new(),
            snapshots_sent: BTreeMap::new(),
            voters: voters.clone(),
            configure: Box::new(configure),
            machine: Box::new(machine),
        };
        for id in voters {
            cluster.spawn(id.get()).await;
        }
        cluster
    }

    async fn spawn(&mut self, id: u64) -> Raft {
        // Who is added later founds nothing.
        let voters = if self.voters.contains(&node_id(id)) {
            self.voters.clone()
        } else {
            Vec::new()
        };
        let mut config = RaftConfig::new(node_id(id), voters);
        // The same elections in every run.
        config.seed = id;
        (self.configure)(&mut config);
        let store = self.stores.get(&id).map(StallingLogStore::reopen);
        let store = store.unwrap_or_default();
        self.stores.insert(id, store.clone());
        let is_silent = Arc::new(AtomicBool::new(false));
        self.silence.insert(id, is_silent.clone());
        let transport = RecordingTransport {
            inner: self.network.join(node_id(id)),
            peers: self.peers.entry(id).or_default().clone(),
            is_silent,
            snapshots_sent: self.snapshots_sent.entry(id).or_default().clone(),
        };
        let raft = Raft::start(config, (self.machine)(), store, transport)
            .await
            .expect("the replica starts");
        self.rafts.insert(id, raft.clone());
        raft
    }

    /// A server that is to be added.
    pub(crate) async fn join(&mut self, id: u64) -> Raft {
        self.spawn(id).await
    }

    /// Stops a server and starts it with what it had stored.
    pub(crate) async fn restart(&mut self, id: u64) -> Raft {
        self.raft(id).shutdown().await;
        // Writes that it gave up waiting for may be done by now.
        self.stores[&id].retire();
        self.spawn(id).await
    }

    /// Ends a server as a power failure does, and starts it anew: writes that
    /// were not done are lost but for the first `survivors`, and nothing that it
    /// does from here on leaves it.
    pub(crate) async fn kill(&mut self, id: u64, survivors: usize) -> Raft {
        self.stores[&id].cut_power(survivors);
        self.silence[&id].store(true, Ordering::SeqCst);
        let killed = self.raft(id);
        let new = self.spawn(id).await;
        // Whoever called the old one hears of its end.
        tokio::spawn(async move { killed.shutdown().await });
        new
    }

    /// Ends a server for good, with its disk.
    pub(crate) fn discard(&mut self, id: u64) {
        self.peers.remove(&id);
        self.silence.remove(&id);
        let store = self.stores.remove(&id);
        let raft = self.rafts.remove(&id);
        if let (Some(raft), Some(store)) = (raft, store) {
            store.resume();
            tokio::spawn(async move { raft.shutdown().await });
        }
    }

    /// Forgets every handle to a server.
    pub(crate) fn drop_handles(&mut self, id: u64) {
        self.rafts.remove(&id);
    }

    pub(crate) fn disk(&self, id: NodeId) -> &StallingLogStore {
        &self.stores[&id.get()]
    }

    /// What `id` was told about where `peer` is reached.
    pub(crate) fn address(&self, id: u64, peer: NodeId) -> Address {
        match self.peers[&id].lock().unwrap().get(&peer) {
            None => Address::NeverTold,
            Some(None) => Address::Forgotten,
            Some(Some(address)) => Address::At(address.clone()),
        }
    }

    /// To whom `id` has sent snapshots, in order.
    pub(crate) fn snapshots_sent(&self, id: NodeId) -> Vec<NodeId> {
        self.snapshots_sent[&id.get()].lock().unwrap().clone()
    }

    pub(crate) fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    pub(crate) fn raft(&self, id: u64) -> Raft {
        self.rafts[&id].clone()
    }

    pub(crate) fn all(&self) -> Vec<Raft> {
        self.rafts.values().cloned().collect()
    }

    async fn find(&self, wanted: impl Fn(&Raft) -> bool) -> Raft {
        let search = async {
            loop {
                if let Some(raft) = self.rafts.values().find(|raft| wanted(raft)) {
                    return raft.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), search)
            .await
            .expect("such a server within a minute")
    }

    pub(crate) async fn leader(&self) -> Raft {
        self.find(|raft| raft.status().is_leader()).await
    }

    pub(crate) async fn leader_other_than(&self, id: NodeId) -> Raft {
        self.find(|raft| raft.id() != id && raft.status().is_leader())
            .await
    }

    /// A server that follows a leader.
    pub(crate) async fn follower(&self) -> Raft {
        self.find(|raft| {
            let status = raft.status();
            !status.is_leader() && status.leader.is_some()
        })
        .await
    }
}
