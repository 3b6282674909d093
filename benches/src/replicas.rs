//! # Replicas in this process
//!
//! Clusters behind [`Raft`] handles on a memory network, and clients that each
//! await the applied result before they propose the next command.
//!
//! - Owns: the state machine, which counts.

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, LogStore, MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig,
    ReplicaStatus, SnapshotJob, SnapshotReader, StateMachine,
};

/// What every command carries. Cloning it allocates nothing.
const COMMAND: Bytes = Bytes::from_static(&[7; 16]);

/// Counts commands, and answers with nothing.
#[derive(Debug, Default)]
pub struct Counter(u64);

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

/// Starts `members` replicas with logs in memory. The first leads.
///
/// # Panics
/// If they do not start.
pub async fn start_in_memory(members: u64) -> Vec<Raft> {
    start_with(members, |_| MemoryLogStore::new()).await
}

/// Starts `members` replicas, each with a log of its own. The first leads.
///
/// # Panics
/// If they do not start.
pub async fn start_with<L: LogStore>(members: u64, log: impl Fn(NodeId) -> L) -> Vec<Raft> {
    let network = MemoryNetwork::new();
    let voters: Vec<NodeId> = (1..=members).filter_map(NodeId::new).collect();
    let mut rafts = Vec::new();
    for id in &voters {
        let config = RaftConfig::new(*id, voters.clone());
        let raft = Raft::start(config, Counter::default(), log(*id), network.join(*id))
            .await
            .expect("the replica starts");
        rafts.push(raft);
    }
    rafts[0].campaign().await.expect("it campaigns");
    rafts[0]
        .wait_for(ReplicaStatus::is_leader)
        .await
        .expect("it leads");
    rafts
}

/// Has `clients` tasks propose `commands_each` commands each, one at a time.
///
/// # Panics
/// If a command is not committed.
pub async fn run_clients(leader: &Raft, clients: u64, commands_each: u64) {
    let client = |leader: Raft| async move {
        for _ in 0..commands_each {
            leader.propose(COMMAND).await.expect("it is committed");
        }
    };
    run_tasks(clients, || client(leader.clone())).await;
}

/// Has `clients` tasks ask `queries_each` questions each, one at a time; each
/// answer is linearizable.
///
/// # Panics
/// If there is no answer.
pub async fn run_readers(leader: &Raft, clients: u64, queries_each: u64) {
    let reader = |leader: Raft| async move {
        for _ in 0..queries_each {
            leader.query(Bytes::new()).await.expect("it is answered");
        }
    };
    run_tasks(clients, || reader(leader.clone())).await;
}

async fn run_tasks<F>(count: u64, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(task())).collect();
    for task in tasks {
        task.await.expect("a client gets its answers");
    }
}
