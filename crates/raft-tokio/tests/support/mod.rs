//! A cluster of replicas in one process.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod gate;
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{Body, EntryId, Snapshot};
use raft_tokio::log_store::{
    LogReadDone, LogReadError, LogReadRequest, LogStoreError, LogWrite, StoredLog, WriteDone,
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

/// A disk that can stop working for a while, or for ever. Each start of a server
/// has one of its own, with what the one before had stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct StallingLogStore {
    stored: MemoryLogStore,
    disk: Arc<Mutex<Disk>>,
    reads: Arc<Mutex<Reads>>,
}

#[derive(Debug, Default)]
enum Disk {
    #[default]
    Working,
    /// What was asked of it is still to be done.
    Stalled(Vec<(Operation, WriteDone)>),
    /// It does nothing any more, and says nothing.
    Gone,
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
        if matches!(*disk, Disk::Working) {
            *disk = Disk::Stalled(Vec::new());
        }
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
        if matches!(*disk, Disk::Gone) {
            return;
        }
        if let Disk::Stalled(waiting) = std::mem::take(&mut *disk) {
            for (operation, done) in waiting {
                self.perform(operation, done);
            }
        }
    }

    /// What is not done never will be.
    fn cut_power(&self) {
        *self.disk.lock().unwrap() = Disk::Gone;
    }

    /// The disk as the next start of the server finds it.
    fn reopen(&self) -> Self {
        Self {
            stored: self.stored.clone(),
            disk: Arc::default(),
            reads: Arc::default(),
        }
    }

    fn perform(&self, operation: Operation, done: WriteDone) {
        let mut stored = self.stored.clone();
        match operation {
            Operation::Append(write) => stored.append(write, done),
            Operation::Compact(snapshot, to) => stored.compact(snapshot, to, done),
        }
    }

    fn begin(&self, operation: Operation, done: WriteDone) {
        match &mut *self.disk.lock().unwrap() {
            Disk::Working => self.perform(operation, done),
            Disk::Stalled(waiting) => waiting.push((operation, done)),
            Disk::Gone => {}
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
}

pub(crate) struct Cluster {
    network: MemoryNetwork,
    rafts: BTreeMap<u64, Raft>,
    stores: BTreeMap<u64, StallingLogStore>,
    peers: BTreeMap<u64, Peers>,
    /// What makes each server's transport fall silent.
    silence: BTreeMap<u64, Arc<AtomicBool>>,
    snapshots_sent: BTreeMap<u64, SnapshotsSent>,
    voters: Vec<NodeId>,
    configure: Box<dyn Fn(&mut RaftConfig)>,
}

impl Cluster {
    pub(crate) async fn start(voters: u64) -> Self {
        Self::start_with(voters, |_| {}).await
    }

    pub(crate) async fn start_with(
        voters: u64,
        configure: impl Fn(&mut RaftConfig) + 'static,
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
        };
        for id in voters {
            cluster.spawn(id.get(), cluster.voters.clone()).await;
        }
        cluster
    }

    async fn spawn(&mut self, id: u64, voters: Vec<NodeId>) -> Raft {
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
        let raft = Raft::start(config, Journal::default(), store, transport)
            .await
            .expect("the replica starts");
        self.rafts.insert(id, raft.clone());
        raft
    }

    /// A server that is to be added.
    pub(crate) async fn join(&mut self, id: u64) -> Raft {
        self.spawn(id, Vec::new()).await
    }

    /// Stops a server and starts it with what it had stored.
    pub(crate) async fn restart(&mut self, id: u64) -> Raft {
        self.raft(id).shutdown().await;
        // Writes that it gave up waiting for may be done by now.
        self.stores[&id].resume();
        self.spawn(id, self.voters.clone()).await
    }

    /// Ends a server as a power failure does, and starts it anew: writes that
    /// were not done are lost, and nothing that it does from here on leaves it.
    pub(crate) async fn kill(&mut self, id: u64) -> Raft {
        self.stores[&id].cut_power();
        self.silence[&id].store(true, Ordering::SeqCst);
        let killed = self.raft(id);
        let new = self.spawn(id, self.voters.clone()).await;
        // Whoever called the old one hears of its end.
        tokio::spawn(async move { killed.shutdown().await });
        new
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
