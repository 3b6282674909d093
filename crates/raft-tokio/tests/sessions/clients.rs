//! Clients that try again: exactly once, whatever happens to leaders and
//! replies.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesOrdered, StreamExt};
use raft_tokio::{
    LogIndex, MemoryLogStore, MemoryNetwork, ProposeError, Raft, RaftConfig, ReplicaStatus,
    SessionClient, SessionError, SessionLimits, SessionPipeline,
};
use tokio::time::Instant;

use crate::Glass;
use crate::support::{Journal, node_id};

const PATIENCE: Duration = Duration::from_secs(60);

struct Group {
    network: MemoryNetwork,
    replicas: Vec<Replica>,
    limits: SessionLimits,
}

struct Replica {
    raft: Raft,
    glass: Glass,
    store: MemoryLogStore,
}

impl Group {
    async fn start(limits: SessionLimits) -> Self {
        let mut group = Self {
            network: MemoryNetwork::new(),
            replicas: Vec::new(),
            limits,
        };
        for id in 1..=3 {
            let replica = group.spawn(id, MemoryLogStore::new()).await;
            group.replicas.push(replica);
        }
        group
    }

    async fn spawn(&self, id: u64, store: MemoryLogStore) -> Replica {
        let config = RaftConfig {
            snapshot_entries: 10,
            snapshot_keep_entries: 2,
            seed: id,
            ..RaftConfig::new(node_id(id), (1..=3).map(node_id).collect())
        };
        let glass = Glass::new(self.limits);
        let transport = self.network.join(node_id(id));
        let raft = Raft::start(config, glass.clone(), store.clone(), transport)
            .await
            .unwrap();
        Replica { raft, glass, store }
    }

    /// Stops every replica, and starts it with what it had stored.
    async fn restart(&mut self) {
        for replica in &self.replicas {
            replica.raft.shutdown().await;
        }
        for at in 0..self.replicas.len() {
            let id = self.replicas[at].raft.id().get();
            let store = self.replicas[at].store.clone();
            self.replicas[at] = self.spawn(id, store).await;
        }
    }

    async fn leader(&self) -> Raft {
        let status = self.replicas[0]
            .raft
            .wait_for(|status| status.leader.is_some())
            .await
            .unwrap();
        let leader = status.leader.unwrap();
        let replica = self
            .replicas
            .iter()
            .find(|replica| replica.raft.id() == leader);
        replica.unwrap().raft.clone()
    }

    async fn follower(&self) -> Raft {
        let leader = self.leader().await;
        let mut replicas = self.replicas.iter().map(|replica| &replica.raft);
        replicas
            .find(|raft| raft.id() != leader.id())
            .unwrap()
            .clone()
    }

    /// Waits until every replica has applied what one has now.
    async fn agree(&self) {
        let mut highest = LogIndex::ZERO;
        for replica in &self.replicas {
            highest = highest.max(replica.raft.read().await.unwrap());
        }
        for replica in &self.replicas {
            replica
                .raft
                .wait_for(|status| status.applied >= highest)
                .await
                .unwrap();
        }
        let first = self.replicas[0].glass.state();
        for replica in &self.replicas {
            assert_eq!(replica.glass.state(), first);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_lost_is_given_again_and_the_command_is_applied_once() {
    let group = Group::start(SessionLimits::default()).await;
    let leader = group.leader().await;
    let follower = group.follower().await;
    let mut client = SessionClient::open(follower.clone(), PATIENCE)
        .await
        .unwrap();
    let before = leader.read().await.unwrap();
    // The command gets through; its reply does not.
    group.network.cut(leader.id(), follower.id());
    let proposal = tokio::spawn(async move { client.propose("x").await });
    leader
        .wait_for(|status| status.applied > before)
        .await
        .unwrap();
    assert_eq!(leader.query("len").await.unwrap(), "1");
    tokio::time::sleep(Duration::from_secs(8)).await;
    group.network.heal();
    let applied = proposal.await.unwrap().unwrap();
    assert_eq!(applied.reply, "1:x");
    // It stands in the log twice.
    assert!(applied.index > before.next());
    assert_eq!(follower.query("len").await.unwrap(), "1");
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn commands_go_on_exactly_once_while_leaders_come_and_go() {
    let group = Group::start(SessionLimits::default()).await;
    group.leader().await;
    let mut clients = Vec::new();
    for replica in &group.replicas {
        let raft = replica.raft.clone();
        clients.push(tokio::spawn(async move {
            let mut client = SessionClient::open(raft, PATIENCE).await.unwrap();
            for n in 0..200 {
                client.propose(format!("{n}")).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        group.network.isolate(group.leader().await.id());
        tokio::time::sleep(Duration::from_secs(4)).await;
        group.network.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(group.leader().await.query("len").await.unwrap(), "600");
    group.agree().await;
}

fn command(client: usize, number: u32) -> BytesMut {
    BytesMut::from(format!("{client}/{number}").as_str())
}

/// What a pipeline that numbers its commands has in the state machine: its own
/// commands, in order.
fn commands_of(all: &Bytes, client: usize) -> Vec<u32> {
    let prefix = format!("{client}/");
    let all = std::str::from_utf8(all).unwrap();
    let own = all.lines().filter_map(|line| line.strip_prefix(&prefix));
    own.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn pipelines_keep_their_order_exactly_once_while_leaders_come_and_go() {
    let group = Group::start(SessionLimits::default()).await;
    group.leader().await;
    let mut clients = Vec::new();
    for (client, replica) in group.replicas.iter().enumerate() {
        let pipeline = SessionPipeline::new(replica.raft.clone(), PATIENCE);
        clients.push(tokio::spawn(async move {
            let mut under_way = FuturesOrdered::new();
            for number in 0..400 {
                under_way.push_back(pipeline.propose(command(client, number)));
                while under_way.len() >= 16 {
                    under_way.next().await.unwrap().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            while let Some(outcome) = under_way.next().await {
                outcome.unwrap();
            }
        }));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        group.network.isolate(group.leader().await.id());
        tokio::time::sleep(Duration::from_secs(4)).await;
        group.network.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    let all = group.leader().await.query("all").await.unwrap();
    for client in 0..3 {
        assert_eq!(commands_of(&all, client), (0..400).collect::<Vec<_>>());
    }
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_given_up_holds_up_nobody_and_does_not_come_later() {
    let group = Group::start(SessionLimits::default()).await;
    let leader = group.leader().await;
    let pipeline = SessionPipeline::new(leader.clone(), Duration::from_secs(20));
    pipeline.propose("a".into()).await.unwrap();
    group.network.isolate(leader.id());
    // Dropped while it is under way, and never polled.
    let dropped = tokio::time::timeout(Duration::from_secs(1), pipeline.propose("b".into())).await;
    assert!(dropped.is_err());
    drop(pipeline.propose("c".into()));
    let given_up = pipeline.propose("d".into()).await.unwrap_err();
    assert!(given_up.is_indeterminate(), "{given_up:?}");
    group.network.heal();
    let applied = pipeline.propose("e".into()).await.unwrap();
    let before = leader.query("all").await.unwrap();
    assert!(before.ends_with(b"e"), "{before:?}");
    assert!(applied.reply.ends_with(b":e"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(leader.query("all").await.unwrap(), before);
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_opens_another_session_when_its_own_has_expired() {
    let group = Group::start(SessionLimits {
        sessions_max: 2,
        ..SessionLimits::default()
    })
    .await;
    let raft = group.leader().await;
    let pipelines = [(); 3].map(|()| SessionPipeline::new(raft.clone(), PATIENCE));
    for round in 0..5_u32 {
        for (client, pipeline) in pipelines.iter().enumerate() {
            let (first, second) = tokio::join!(
                pipeline.propose(command(client, 2 * round)),
                pipeline.propose(command(client, 2 * round + 1)),
            );
            first.unwrap();
            second.unwrap();
        }
    }
    let all = raft.query("all").await.unwrap();
    for client in 0..3 {
        assert_eq!(commands_of(&all, client), (0..10).collect::<Vec<_>>());
    }
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_reply_survives_a_snapshot_and_a_restart() {
    let mut group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    client.propose("x").await.unwrap();
    let mut others = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    for _ in 0..30 {
        others.propose("y").await.unwrap();
    }
    raft.wait_for(|status| status.first_index.get() > 10)
        .await
        .unwrap();
    group.agree().await;
    group.restart().await;
    let raft = group.leader().await;
    client.set_raft(raft.clone());
    assert_eq!(client.retry("x").await.unwrap().reply, "1:x");
    assert_eq!(raft.query("len").await.unwrap(), "31");
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn every_replica_forgets_the_same_sessions() {
    let group = Group::start(SessionLimits {
        sessions_max: 3,
        idle_entries_max: 20,
        reply_bytes_max: 1000,
    })
    .await;
    let raft = group.leader().await;
    let mut first = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    first.propose("x").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
        client.propose("y").await.unwrap();
        clients.push(client);
        group.agree().await;
    }
    assert_eq!(first.propose("z").await, Err(SessionError::Expired));
    assert_eq!(first.retry("z").await, Err(SessionError::ExpiredMeanwhile));
    clients.pop().unwrap().close().await.unwrap();
    group.agree().await;
    assert_eq!(group.replicas[0].glass.with(|machine| machine.len()), 2);
    assert_eq!(raft.query("len").await.unwrap(), "6");
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_session_are_noticed() {
    let group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    client.propose("a").await.unwrap();
    client.propose("b").await.unwrap();
    let mut copy = SessionClient::resume(raft, client.session(), 0, PATIENCE);
    let outcome = copy.propose("c").await;
    assert_eq!(outcome, Err(SessionError::TooOld { applied: 2 }));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_the_client_gives_up_and_says_that_it_does_not_know() {
    let group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), Duration::from_secs(20))
        .await
        .unwrap();
    group.network.isolate(raft.id());
    let outcome = client.propose("x").await.unwrap_err();
    assert!(outcome.is_indeterminate(), "{outcome:?}");
    group.network.heal();
    // Going on fences what was given up.
    assert!(client.propose("y").await.unwrap().reply.ends_with(b":y"));
    raft.shutdown().await;
    // A replica that has stopped took nothing; it is no use to ask it again.
    let outcome = client.propose("z").await.unwrap_err();
    assert!(!outcome.is_indeterminate(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_removed_server_hears_of_it_in_a_tick() {
    let group = Group::start(SessionLimits::default()).await;
    let removed = group.follower().await;
    let mut client = SessionClient::open(removed.clone(), PATIENCE)
        .await
        .unwrap();
    group.leader().await.remove(removed.id()).await.unwrap();
    removed.wait_for(ReplicaStatus::is_removed).await.unwrap();
    let begin = Instant::now();
    let refused = client.propose("late").await.map(|applied| applied.reply);
    assert_eq!(refused, Err(ProposeError::NotMember.into()));
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_sessions_is_noticed() {
    let network = MemoryNetwork::new();
    let id = node_id(1);
    let config = RaftConfig::new(id, vec![id]);
    let raft = Raft::start(
        config,
        Journal::default(),
        MemoryLogStore::new(),
        network.join(id),
    )
    .await
    .unwrap();
    let outcome = SessionClient::open(raft.clone(), PATIENCE).await;
    assert_eq!(outcome.map(|_| ()), Err(SessionError::NoSessions));
    let pipeline = SessionPipeline::new(raft, PATIENCE);
    let outcome = pipeline.propose("a".into()).await;
    assert_eq!(outcome, Err(SessionError::NoSessions));
}
