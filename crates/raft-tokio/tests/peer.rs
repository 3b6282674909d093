//! What one peer can do to a replica. The test plays the peer.

mod support;

use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{Body, EntryId, Message, Proposal, Round, VoteResponse};
use raft_tokio::snapshot::SnapshotExchange;
use raft_tokio::transport::{Inbound, Inbox, Packet, RequestKind, ResponseOutcome};
use raft_tokio::{
    LogIndex, LogStore, MemoryLogStore, MemoryNetwork, MemoryTransport, NodeId, ProposeError, Raft,
    RaftConfig, ReplicaStatus, Term, Transport, Unfit,
};
use support::{Journal, node_id};
use tokio::sync::mpsc;

/// The replica under test, and the peer that the test plays.
struct Fixture {
    raft: Raft,
    peer: MemoryTransport,
    inbox: mpsc::Receiver<Inbound>,
    beats: u64,
}

impl Fixture {
    const PEER: u64 = 2;

    /// A replica that takes the peer for the leader.
    async fn start() -> Self {
        let network = MemoryNetwork::new();
        let mut peer = network.join(node_id(Self::PEER));
        let (sender, inbox) = mpsc::channel(1024);
        let snapshots = SnapshotExchange::new(MemoryLogStore::default().snapshots());
        peer.start(Inbox::new(sender), snapshots);
        let voters: Vec<NodeId> = (1..=3).map(node_id).collect();
        let mut config = RaftConfig::new(node_id(1), voters);
        // It stays a follower as long as the test takes.
        config.election_ticks = 100_000;
        let transport = network.join(node_id(1));
        let store = MemoryLogStore::default();
        let raft = Raft::start(config, Journal::default(), store, transport)
            .await
            .expect("the replica starts");
        let mut fixture = Self {
            raft,
            peer,
            inbox,
            beats: 0,
        };
        fixture.beat();
        let leader = Some(node_id(Self::PEER));
        let follows = fixture.raft.wait_for(|status| status.leader == leader);
        tokio::time::timeout(Duration::from_secs(10), follows)
            .await
            .expect("it follows within ten seconds")
            .expect("it runs");
        fixture
    }

    fn say(&mut self, packet: Packet) {
        self.peer.send(node_id(1), packet);
        self.peer.flush();
    }

    /// Sends a heartbeat; returns the context that its answer will have.
    fn beat(&mut self) -> Bytes {
        self.beat_with(LogIndex::ZERO)
    }

    fn beat_with(&mut self, commit: LogIndex) -> Bytes {
        self.beats += 1;
        let context = Bytes::copy_from_slice(&self.beats.to_le_bytes());
        self.say(Packet::Raft(Message {
            to: node_id(1),
            from: node_id(Self::PEER),
            term: Term::new(5),
            body: Body::Heartbeat {
                commit,
                context: context.clone(),
            },
        }));
        context
    }

    /// What the replica sends until it answers another heartbeat.
    async fn hear_until_beat(&mut self) -> Vec<Packet> {
        let answered = self.beat();
        let mut heard = Vec::new();
        loop {
            let inbound = tokio::time::timeout(Duration::from_secs(10), self.inbox.recv())
                .await
                .expect("it answers within ten seconds")
                .expect("the network is there");
            let Inbound::Packet(packet) = inbound else {
                continue;
            };
            if let Packet::Raft(message) = &packet
                && let Body::HeartbeatResponse { context } = &message.body
            {
                if *context == answered {
                    return heard;
                }
                continue;
            }
            heard.push(packet);
        }
    }

    /// The next packet for which `wanted` finds something.
    async fn hear<T>(&mut self, wanted: impl Fn(Packet) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Inbound::Packet(packet) = self.inbox.recv().await.expect("it is there")
                    && let Some(found) = wanted(packet)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), search)
            .await
            .expect("it comes within ten seconds")
    }
}

// Two followers that take each other for the leader send etcd's proposals to and
// fro for ever. Here a request takes one hop, and so does its answer.

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_is_refused_and_the_caller_hears_of_it() {
    let mut fixture = Fixture::start().await;
    let raft = fixture.raft.clone();
    let caller = tokio::spawn(async move { raft.propose("round and round").await });
    let (asked, payload) = fixture
        .hear(|packet| match packet {
            Packet::Request { id, payload, .. } => Some((id, payload)),
            _ => None,
        })
        .await;

    // The peer does not lead either, and asks back.
    fixture.say(Packet::Request {
        from: node_id(Fixture::PEER),
        id: 77,
        kind: RequestKind::Propose,
        payload,
    });
    let outcome = fixture
        .hear(|packet| match packet {
            Packet::Response {
                id: 77, outcome, ..
            } => Some(outcome),
            Packet::Request { .. } => panic!("it is passed on once more"),
            _ => None,
        })
        .await;
    assert!(
        matches!(outcome, ResponseOutcome::Refused { .. }),
        "{outcome:?}"
    );
    let heard = fixture.hear_until_beat().await;
    assert!(
        !heard
            .iter()
            .any(|packet| matches!(packet, Packet::Request { .. })),
        "{heard:?}"
    );

    fixture.say(Packet::Response {
        from: node_id(Fixture::PEER),
        id: asked,
        outcome,
    });
    let leader = Some(node_id(Fixture::PEER));
    assert_eq!(
        caller.await.expect("no panic").unwrap_err(),
        ProposeError::NotLeader { leader }
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_core_of_a_peer_passes_on_goes_no_further() {
    let mut fixture = Fixture::start().await;
    for body in [
        Body::Propose {
            proposals: vec![Proposal::normal(Bytes::from_static(b"round"))],
        },
        Body::ReadIndex {
            context: Bytes::from_static(b"read"),
        },
        Body::TransferLeader,
    ] {
        let message = Message {
            to: node_id(1),
            from: node_id(3),
            term: if body.is_termless() {
                Term::ZERO
            } else {
                Term::new(5)
            },
            body,
        };
        fixture.say(Packet::Raft(message));
        let heard = fixture.hear_until_beat().await;
        assert_eq!(heard, []);
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_of_lost_entries_takes_the_vote_away_and_nothing_else() {
    for (commit, expected) in [(0, VoteResponse::Granted), (100, VoteResponse::Rejected)] {
        let mut fixture = Fixture::start().await;
        // A leader only says this of what the replica has acknowledged.
        fixture.beat_with(LogIndex::new(commit));
        fixture.say(Packet::Raft(Message {
            to: node_id(1),
            from: node_id(Fixture::PEER),
            term: Term::new(6),
            body: Body::RequestVote {
                round: Round::Vote,
                last: EntryId::new(Term::new(5), LogIndex::new(1000)),
                transfer: true,
            },
        }));
        let vote = fixture
            .hear(|packet| match packet {
                Packet::Raft(Message {
                    body: Body::VoteResponse { vote, .. },
                    ..
                }) => Some(vote),
                _ => None,
            })
            .await;
        assert_eq!(vote, expected);
        // A restart would not bring them back: it is live, and not ready.
        let is_quarantined = |status: &ReplicaStatus| {
            let reasons = status.health().reasons;
            let wanted = LogIndex::new(commit);
            reasons.iter().any(
                |reason| matches!(reason, Unfit::Quarantined { acknowledged, .. } if *acknowledged == wanted),
            )
        };
        // As of the next tick.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let status = fixture.raft.status();
        assert_eq!(is_quarantined(&status), expected == VoteResponse::Rejected);
        assert!(status.health().is_live(), "{status:?}");
        assert!(status.stopped.is_none());
    }
}
