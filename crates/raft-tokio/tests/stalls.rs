//! What stands still, and what goes on meanwhile: state machines that do not
//! return, and a runtime that did not run.

mod support;

use std::time::Duration;

use raft_tokio::{LogIndex, MemoryLogStore, MemoryNetwork, ProposeError, Raft, RaftConfig};
use support::gate::{Gate, OpenAtLast};
use support::gated::Gated;
use support::{Cluster, node_id};

const UNAPPLIED_MAX: u64 = 50;

/// Three servers, the first of which leads, each with its gate.
async fn gated_cluster() -> Vec<(Raft, Gate)> {
    let network = MemoryNetwork::new();
    let voters: Vec<_> = (1..=3).map(node_id).collect();
    let mut servers = Vec::new();
    for id in &voters {
        let gate = Gate::default();
        let machine = Gated::behind(&gate);
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
    // Its callers have waited too long by now, and their commands are applied.
    for reply in replies {
        assert!(reply.await.is_err_and(|error| error.is_indeterminate()));
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
