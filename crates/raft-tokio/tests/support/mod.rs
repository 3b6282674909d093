//! A cluster of replicas in one process.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{EntryId, Snapshot};
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

/// A disk that can stop answering.
#[derive(Clone, Debug, Default)]
pub(crate) struct StallingLogStore {
    inner: MemoryLogStore,
    held: Arc<Mutex<Option<Vec<WriteDone>>>>,
    reads: Arc<Mutex<Reads>>,
}

/// What becomes of reads.
#[derive(Debug, Default)]
enum Answers {
    #[default]
    AtOnce,
    Held(Vec<(LogReadRequest, LogReadDone)>),
    Failing,
}

#[derive(Debug, Default)]
struct Reads {
    answers: Answers,
    asked: Vec<LogReadRequest>,
}

impl StallingLogStore {
    pub(crate) fn stall(&self) {
        self.held.lock().unwrap().get_or_insert_default();
    }

    pub(crate) fn resume(&self) {
        let held = self.held.lock().unwrap().take();
        for done in held.into_iter().flatten() {
            done.complete(Ok(()));
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
                self.inner.read(request, done);
            }
        }
    }

    /// Reads fail from now on, those that are held as well.
    pub(crate) fn fail_reads(&self) {
        // What is held is dropped without an answer.
        self.reads.lock().unwrap().answers = Answers::Failing;
    }

    /// Every read that was asked for.
    pub(crate) fn asked_reads(&self) -> Vec<LogReadRequest> {
        self.reads.lock().unwrap().asked.clone()
    }

    fn hold(&self, done: WriteDone) -> WriteDone {
        let held = self.held.clone();
        WriteDone::new(move |result| {
            let mut held = held.lock().unwrap();
            match &mut *held {
                Some(waiting) => waiting.push(done),
                None => done.complete(result),
            }
        })
    }
}

impl LogStore for StallingLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        self.inner.load()
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        let done = self.hold(done);
        self.inner.append(write, done);
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        let mut reads = self.reads.lock().unwrap();
        reads.asked.push(request);
        match &mut reads.answers {
            Answers::AtOnce => self.inner.read(request, done),
            Answers::Held(held) => held.push((request, done)),
            Answers::Failing => {
                let error = std::io::Error::other("the disk cannot be read");
                done.complete(Err(LogReadError::Failed(Arc::new(error))));
            }
        }
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStorage> {
        self.inner.snapshots()
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        let done = self.hold(done);
        self.inner.compact(snapshot, compact_to, done);
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

/// Remembers what it was told about peers.
#[derive(Debug)]
struct RecordingTransport {
    inner: MemoryTransport,
    peers: Peers,
}

impl Transport for RecordingTransport {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        self.inner.start(inbox, snapshots);
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
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
        let store = self.stores.entry(id).or_default().clone();
        let transport = RecordingTransport {
            inner: self.network.join(node_id(id)),
            peers: self.peers.entry(id).or_default().clone(),
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
        self.spawn(id, self.voters.clone()).await
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
