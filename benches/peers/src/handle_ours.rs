//! # raft-tokio under the handle load
//!
//! `MemoryNetwork`, `MemoryLogStore`, and a state machine that counts.

use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig, SnapshotJob,
    SnapshotReader, StateMachine,
};

use crate::handle_load::{Client, Layout, PAYLOAD, Runtimes};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::bytes(self.0.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.0 = u64::from_le_bytes(snapshot.read_whole()?.as_ref().try_into()?);
        Ok(())
    }
}

impl Client for Raft {
    async fn command(&self) {
        self.propose(PAYLOAD).await.expect("it is committed");
    }
}

async fn start(members: u64) -> Vec<Raft> {
    let network = MemoryNetwork::new();
    let voters: Vec<NodeId> = (1..=members).filter_map(NodeId::new).collect();
    let mut rafts = Vec::new();
    for id in &voters {
        let raft = Raft::start(
            RaftConfig::new(*id, voters.clone()),
            Counter::default(),
            MemoryLogStore::new(),
            network.join(*id),
        )
        .await
        .expect("the replica starts");
        rafts.push(raft);
    }
    rafts[0].campaign().await.expect("it campaigns");
    rafts[0]
        .wait_for(raft_tokio::ReplicaStatus::is_leader)
        .await
        .expect("it leads");
    rafts
}

pub fn measure(layout: Layout, members: u64, clients: usize, time: Duration) -> f64 {
    let runtimes = Runtimes::new(layout);
    let rafts = runtimes
        .servers
        .block_on(runtimes.servers.spawn(start(members)))
        .expect("a cluster");
    let rate = runtimes.drive(clients, time, &rafts[0]);
    runtimes.servers.block_on(async {
        for raft in rafts {
            raft.shutdown().await;
        }
    });
    rate
}
