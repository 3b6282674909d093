//! What a transport of one's own can do wrong to its replica.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{Body, ConfState, EntryId, Message, Round, Snapshot, SnapshotMetadata};
use raft_tokio::snapshot::{SnapshotExchange, SnapshotManifest};
use raft_tokio::transport::{Inbound, Inbox, Packet, RequestKind};
use raft_tokio::{LogIndex, NodeId, ProposeError, Raft, RaftConfig, StopReason, Term, Transport};
use support::{Journal, StallingLogStore, node_id};
use tokio::time::timeout;

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the replica gave its transport, and what it had it send.
#[derive(Clone, Default)]
struct Bare {
    ends: Arc<Mutex<Option<(Inbox, SnapshotExchange)>>>,
    sent: Arc<Mutex<Vec<Packet>>>,
}

impl Bare {
    fn ends(&self) -> (Inbox, SnapshotExchange) {
        self.ends.lock().unwrap().clone().expect("it was started")
    }

    async fn deliver(&self, from: u64, term: u64, body: Body) {
        let (inbox, _) = self.ends();
        let message = Message {
            to: node_id(1),
            from: node_id(from),
            term: Term::new(term),
            body,
        };
        assert!(inbox.deliver(Inbound::Packet(Packet::Raft(message))).await);
    }

    fn sent(&self) -> Vec<Body> {
        let sent = self.sent.lock().unwrap();
        let bodies = sent.iter().filter_map(|packet| match packet {
            Packet::Raft(message) => Some(message.body.clone()),
            _ => None,
        });
        bodies.collect()
    }
}

impl Transport for Bare {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        *self.ends.lock().unwrap() = Some((inbox, snapshots));
    }

    fn send(&mut self, _to: NodeId, packet: Packet) {
        self.sent.lock().unwrap().push(packet);
    }
}

/// The data is there, as it should be, and the message does not speak of it. Once
/// that is found, the write is on the disk already, and others behind it.
#[tokio::test(start_paused = true)]
async fn a_snapshot_without_its_manifest_ends_the_replica_and_is_never_acknowledged() {
    let (transport, disk) = (Bare::default(), StallingLogStore::default());
    let voters: Vec<NodeId> = (1..=3).map(node_id).collect();
    let config = RaftConfig {
        // It stays a follower as long as the test takes.
        election_ticks: 100_000,
        ..RaftConfig::new(node_id(1), voters.clone())
    };
    let started = Raft::start(config, Journal::default(), disk.clone(), transport.clone());
    let raft = started.await.unwrap();
    let data = Bytes::from_static(b"one\ntwo");
    let snapshot = SnapshotManifest::of_data(&data).snapshot(SnapshotMetadata {
        index: LogIndex::new(50),
        term: Term::new(5),
        conf_state: ConfState::of_voters(voters),
    });
    let (_, exchange) = transport.ends();
    let mut incoming = exchange.incoming(&snapshot).await.unwrap();
    incoming.append(data).await.unwrap();
    let _received = incoming.finish().await.unwrap();

    disk.stall();
    let spoken_of = Snapshot {
        data: Bytes::from_static(b"no manifest"),
        ..snapshot
    };
    transport
        .deliver(2, 5, Body::Snapshot(Box::new(spoken_of)))
        .await;
    let writes = raft.wait_for(|status| status.waiting.writes == 1);
    timeout(PATIENCE, writes).await.expect("in time").unwrap();
    // Behind it is a write that can be taken in: a vote.
    let request = Body::RequestVote {
        round: Round::Vote,
        last: EntryId::new(Term::new(5), LogIndex::new(60)),
        transfer: true,
    };
    transport.deliver(3, 6, request).await;
    let writes = raft.wait_for(|status| status.waiting.writes == 2);
    timeout(PATIENCE, writes).await.expect("in time").unwrap();
    disk.resume();
    let ended = raft.wait_for(|status| status.stopped.is_some());
    let status = timeout(PATIENCE, ended).await.expect("in time").unwrap();
    assert!(
        matches!(&status.stopped, Some(StopReason::Storage(why)) if why.contains("manifest")),
        "{:?}",
        status.stopped
    );
    let answers = transport.sent();
    let is_acknowledged = |body: &Body| matches!(body, Body::AppendResponse(_));
    assert!(!answers.iter().any(is_acknowledged), "{answers:?}");
    assert!(matches!(
        raft.propose("late").await,
        Err(ProposeError::Stopped(_))
    ));
}

/// Nobody takes packets out while this test holds its thread.
#[tokio::test(start_paused = true)]
async fn large_packets_wait_in_bytes_and_small_ones_pass() {
    let transport = Bare::default();
    let id = node_id(1);
    let config = RaftConfig {
        packets_bytes_max: 8 << 20,
        ..RaftConfig::new(id, vec![id])
    };
    let log = StallingLogStore::default();
    let raft = Raft::start(config, Journal::default(), log, transport.clone());
    let raft = raft.await.unwrap();
    let (inbox, _) = transport.ends();
    let request = |bytes: usize| {
        Inbound::Packet(Packet::Request {
            from: node_id(2),
            id: 7,
            kind: RequestKind::Query,
            payload: Bytes::from(vec![b'q'; bytes]),
        })
    };
    let large = 1 << 20;
    for _ in 0..8 {
        assert!(inbox.try_deliver(request(large)));
    }
    assert!(!inbox.try_deliver(request(large)));
    let mut waiting = Box::pin(inbox.deliver(request(large)));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    // Dropped while it waits, it counts for nothing.
    let mut dropped = Box::pin(inbox.deliver(request(large)));
    assert!(futures::poll!(dropped.as_mut()).is_pending());
    drop(dropped);
    assert!(inbox.try_deliver(request(100)));
    // The loop takes them, and answers each.
    let delivered = timeout(PATIENCE, waiting).await;
    assert!(delivered.expect("there is room again"));
    let answered = async {
        while transport.sent.lock().unwrap().len() < 10 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, answered).await.expect("all are answered");
    for _ in 0..8 {
        assert!(inbox.try_deliver(request(large)), "all room is back");
    }
    // Whoever waits when the replica ends hears of it.
    let mut waiting = Box::pin(inbox.deliver(request(large)));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let (_, delivered) = tokio::join!(raft.shutdown(), timeout(PATIENCE, waiting));
    let _ = delivered.expect("it ends");
    assert!(!inbox.deliver(request(large)).await);
}
