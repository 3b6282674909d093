//! A cluster of replicas in one process.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig, SnapshotJob,
    StateMachine,
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

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::from(self.commands.len().to_string())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let commands = self.commands.clone();
        Box::new(move || Ok(Bytes::from(commands.join(&b'\n'))))
    }

    fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError> {
        self.commands = snapshot
            .split(|byte| *byte == b'\n')
            .filter(|command| !command.is_empty())
            .map(Bytes::copy_from_slice)
            .collect();
        Ok(())
    }
}

pub(crate) struct Cluster {
    network: MemoryNetwork,
    rafts: BTreeMap<u64, Raft>,
    stores: BTreeMap<u64, MemoryLogStore>,
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
        let transport = self.network.join(node_id(id));
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
