//! What stands still, and what goes on meanwhile: state machines that do not
//! return, and a runtime that did not run.

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, MemoryNetwork, ProposeError, Raft, RaftConfig, SnapshotJob,
    SnapshotReader, StateMachine,
};
use support::{Cluster, node_id};

/// Whether commands are let through.
#[derive(Clone, Debug, Default)]
struct Gate {
    is_shut: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn shut(&self) {
        *self.is_shut.0.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_shut.0.lock().unwrap() = false;
        self.is_shut.1.notify_all();
    }

    fn pass(&self) {
        let (is_shut, changed) = &*self.is_shut;
        let guard = is_shut.lock().unwrap();
        drop(changed.wait_while(guard, |is_shut| *is_shut).unwrap());
    }
}

/// Opens the gate when a test ends in any way, or the runtime would wait for it.
struct OpenAtLast(Gate);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Counts commands, and blocks its thread at the gate.
#[derive(Debug)]
struct Gated {
    gate: Gate,
    count: u64,
}

impl StateMachine for Gated {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        self.gate.pass();
        self.count += 1;
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::bytes(self.count.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.count = u64::from_le_bytes(snapshot.read_whole()?.as_ref().try_into()?);
        Ok(())
    }
}

const UNAPPLIED_MAX: u64 = 50;

/// Three servers, the first of which leads, each with its gate.
async fn gated_cluster() -> Vec<(Raft, Gate)> {
    let network = MemoryNetwork::new();
    let voters: Vec<_> = (1..=3).map(node_id).collect();
    let mut servers = Vec::new();
    for id in &voters {
        let gate = Gate::default();
        let machine = Gated {
            gate: gate.clone(),
            count: 0,
        };
        let mut config = RaftConfig::new(*id, voters.clone());
        config.unapplied_entries_max = UNAPPLIED_MAX;
        config.proposal_timeout = Duration::from_secs(2);
        let store = MemoryLogStore::new();
        let raft = Raft::start(config, machine, store, network.join(*id))
            .await
            .expect("it starts");
        servers.push((raft, gate));
    }
    let leader = &servers[0].0;
    leader.campaign().await.unwrap();
    leader
        .wait_for(raft_tokio::ReplicaStatus::is_leader)
        .await
        .unwrap();
    servers
}

// On threads and a clock of its own: what is shown is that a thread which is
// blocked for several election timeouts blocks nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_machine_that_stalls_stops_intake_and_not_the_leader() {
    let servers = gated_cluster().await;
    let (leader, gate) = &servers[0];
    leader.propose("before").await.unwrap();
    let term = leader.status().term;
    let _open = OpenAtLast(gate.clone());
    gate.shut();
    let mut replies = Vec::new();
    for n in 0..UNAPPLIED_MAX {
        replies.push(leader.try_propose(format!("{n}")).unwrap());
    }
    leader.wait_for(|status| status.overloaded).await.unwrap();
    // They are committed all the same, and the others apply them.
    let committed = leader.status().last_index;
    for (follower, _) in &servers[1..] {
        let applied = follower.wait_for(|status| status.applied >= committed);
        applied.await.unwrap();
    }
    // Refused only once it has waited longer than an election would take: the
    // leader still leads then.
    let refused = leader.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    for (server, _) in &servers {
        let status = server.status();
        assert_eq!((status.term, status.leader), (term, Some(leader.id())));
    }
    gate.open();
    for reply in replies {
        reply.await.unwrap();
    }
    leader.wait_for(|status| !status.overloaded).await.unwrap();
    let last = leader.propose("after").await.unwrap();
    assert_eq!(last.reply.as_ref(), (UNAPPLIED_MAX + 2).to_le_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_whose_state_machine_stalls_holds_nobody_up_and_catches_up() {
    let servers = gated_cluster().await;
    let leader = &servers[0].0;
    let (follower, gate) = &servers[2];
    let _open = OpenAtLast(gate.clone());
    gate.shut();
    let mut last = LogIndex::ZERO;
    for _ in 0..4 * UNAPPLIED_MAX {
        last = leader.propose("x").await.unwrap().index;
    }
    assert!(follower.status().applied < last);
    gate.open();
    follower
        .wait_for(|status| status.applied >= last)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn ticks_that_were_missed_are_not_made_up() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("one").await.unwrap();
    let term = leader.status().term;
    // The process stood still for sixty election timeouts. Made up in a burst,
    // the ticks would be an election on every server.
    tokio::time::advance(Duration::from_secs(60)).await;
    leader.propose("two").await.unwrap();
    for raft in cluster.all() {
        let status = raft.wait_for(|status| status.commit >= leader.status().applied);
        let status = status.await.unwrap();
        assert_eq!((status.term, status.leader), (term, Some(leader.id())));
    }
}
