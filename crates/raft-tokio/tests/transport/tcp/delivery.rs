//! What is sent arrives: in order, bounded, and past peers that are dead or slow.

use bytes::Bytes;
use raft_core::{Body, Entries, Entry, EntryId, LogIndex, Message, Term};
use raft_tokio::transport::{Inbound, Packet, RequestKind, ResponseOutcome, Transport};
use raft_wire::frame::ConnectionPurpose;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::stranger::Stranger;
use super::{SHORT, bind, config, dead_address, knock, loopback, raft_frame, start};
use crate::support::{End, PATIENCE, heartbeat, node_id, number_of};

#[tokio::test]
async fn packets_arrive_in_order_both_ways() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    for number in 0..1000 {
        first.send(two, heartbeat(one, two, number));
        second.send(one, heartbeat(two, one, 5000 + number));
    }
    for number in 0..1000 {
        assert_eq!(number_of(&second.packet().await), number);
        assert_eq!(number_of(&first.packet().await), 5000 + number);
    }
}

#[tokio::test]
async fn every_kind_of_packet_arrives_as_it_was_sent() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    // Longer than one read, so that it arrives in pieces.
    let large = Bytes::from(vec![7; 3 << 20]);
    let entries = Entries::from_batch(vec![
        Entry::normal(Term::new(2), LogIndex::new(6), Bytes::from_static(b"a")),
        Entry::normal(Term::new(2), LogIndex::new(7), large.clone()),
    ])
    .unwrap();
    let packets = [
        Packet::Raft(Message {
            to: two,
            from: one,
            term: Term::new(2),
            body: Body::Append {
                prev: EntryId::new(Term::new(1), LogIndex::new(5)),
                entries,
                commit: LogIndex::new(4),
            },
        }),
        Packet::Request {
            from: one,
            id: 11,
            kind: RequestKind::Query,
            payload: large,
        },
        Packet::Response {
            from: one,
            id: 12,
            outcome: ResponseOutcome::Refused {
                code: 3,
                detail: Bytes::from_static(b"no"),
            },
        },
        Packet::Response {
            from: one,
            id: 13,
            outcome: ResponseOutcome::Unknown,
        },
    ];
    for packet in packets.clone() {
        first.send(two, packet);
    }
    for packet in packets {
        assert_eq!(second.packet().await, packet);
    }
}

#[tokio::test]
async fn a_peer_that_restarts_is_connected_again() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;

    let address = second.transport.local_addr();
    second.transport.shutdown().await;
    let gone = async {
        loop {
            first.send(two, heartbeat(one, two, 1));
            if let Some(Inbound::Unreachable(peer)) = first.next_within(SHORT / 10).await {
                assert_eq!(peer, two);
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("nobody noticed");

    let mut restarted = config(2);
    restarted.listen = address;
    restarted.incarnation = 2;
    let mut second = End::start(bind(restarted).await);
    knock(&mut first, &mut second, (one, two)).await;
}

#[tokio::test]
async fn a_dead_peer_is_reported_seldom_and_blocks_nobody() {
    let (one, two, three) = (node_id(1), node_id(2), node_id(3));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    first.transport.set_peer(three, Some(&dead_address().await));
    let started = Instant::now();
    for number in 0..100_000 {
        first.send(three, heartbeat(one, three, number));
    }
    first.unreachable(three).await;
    knock(&mut first, &mut second, (one, two)).await;
    let mut reports = 1;
    while let Some(inbound) = first.waiting() {
        reports += u64::from(matches!(inbound, Inbound::Unreachable(_)));
    }
    // One per second, and one for the change.
    assert!(
        reports <= started.elapsed().as_secs() + 3,
        "{reports} reports"
    );
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_blocks_nobody() {
    let (one, two) = (node_id(1), node_id(2));
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mut first = End::start(bind(config(1)).await);
    let address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    for number in 0..100_000 {
        first.send(two, heartbeat(one, two, number));
    }
    first.unreachable(two).await;
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let (one, two) = (node_id(1), node_id(2));
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mut small = config(1);
    small.queue_bytes_max = 1 << 20;
    let mut first = End::start(bind(small).await);
    let address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    let payload = Bytes::from(vec![0; 400 << 10]);
    // Three are above the limit, so the fourth is dropped.
    for id in 0..4 {
        assert!(first.waiting().is_none());
        first.send(
            two,
            Packet::Request {
                from: one,
                id,
                kind: RequestKind::Propose,
                payload: payload.clone(),
            },
        );
    }
    assert!(matches!(first.waiting(), Some(Inbound::Unreachable(_))));
}

#[tokio::test]
async fn a_packet_that_is_too_long_is_dropped_and_the_next_one_arrives() {
    let (one, two) = (node_id(1), node_id(2));
    let mut short_frames = config(1);
    short_frames.frame_bytes_max = 10_000;
    let [mut first, mut second] = start([short_frames, config(2)]).await;
    let long = Packet::Request {
        from: one,
        id: 1,
        kind: RequestKind::Propose,
        payload: Bytes::from(vec![0; 20_000]),
    };
    first.send(two, long);
    first.send(two, heartbeat(one, two, 5));
    assert_eq!(number_of(&second.packet().await), 5);
    first.unreachable(two).await;
}

#[tokio::test]
async fn a_busy_replica_slows_its_peer_down_and_loses_nothing() {
    let (one, two) = (node_id(1), node_id(2));
    let mut first = End::with_room(bind(config(1)).await, 1);
    let address = first.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    for number in 0..100 {
        peer.write(&raft_frame(heartbeat(two, one, number))).await;
    }
    for number in 0..100 {
        assert_eq!(number_of(&first.packet().await), number);
    }
}

#[tokio::test]
async fn a_peer_that_moves_is_found_at_its_new_address() {
    let (one, two) = (node_id(1), node_id(2));
    let mut first = End::start(bind(config(1)).await);
    first.transport.set_peer(two, Some(&dead_address().await));
    first.send(two, heartbeat(one, two, 1));
    first.unreachable(two).await;

    let mut second = End::start(bind(config(2)).await);
    let address = second.transport.local_addr().to_string();
    first.transport.set_peer(two, Some(&address));
    knock(&mut first, &mut second, (one, two)).await;

    first.transport.set_peer(two, None);
    while first.waiting().is_some() {}
    while second.waiting().is_some() {}
    first.send(two, heartbeat(one, two, 2));
    first.unreachable(two).await;
    assert!(second.waiting().is_none());
}
