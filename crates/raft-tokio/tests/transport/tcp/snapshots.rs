//! A snapshot goes over a connection of its own: whole, or reported failed.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Body, SnapshotOutcome};
use raft_tokio::transport::{Packet, Transport};
use raft_wire::frame::{
    ConnectionPurpose, Frame, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::stranger::Stranger;
use super::{SHORT, announcement, bind, config, dead_address, knock, loopback, start};
use crate::support::{End, heartbeat, node_id, snapshot};

#[tokio::test]
async fn a_large_snapshot_arrives_and_other_packets_pass_it() {
    let (one, two) = (node_id(1), node_id(2));
    let mut throttled = config(1);
    throttled.snapshot_bytes_per_second_max = NonZeroU64::new(40 << 20);
    let [mut first, mut second] = start([throttled, config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;

    let data: Bytes = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
    assert_eq!(data.len(), 20 << 20);
    let started = Instant::now();
    first.send_snapshot(one, two, &data);
    let mut passed = 0;
    let arrived = loop {
        first.send(two, heartbeat(one, two, 0));
        match second.packet().await {
            Packet::Raft(message) if matches!(message.body, Body::Snapshot(_)) => break message,
            _ => passed += 1,
        }
    };
    assert!(Packet::Raft(arrived) == snapshot(one, two, &data));
    assert!(second.snapshot_data() == data);
    assert!(passed > 10, "only {passed} packets passed the snapshot");
    // It had to take half a second; the last chunk does not wait.
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
}

#[tokio::test]
async fn an_empty_snapshot_and_one_after_another_arrive() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    for data in [Bytes::new(), Bytes::from_static(b"state")] {
        first.send_snapshot(one, two, &data);
        assert_eq!(second.packet().await, snapshot(one, two, &data));
        assert_eq!(second.snapshot_data(), data);
        assert_eq!(
            first.snapshot_outcome().await,
            (two, SnapshotOutcome::Arrived)
        );
        second.refuse_snapshot().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_arrive_is_reported_failed_in_time() {
    let (one, two, three, four) = (node_id(1), node_id(2), node_id(3), node_id(4));
    let mut impatient = config(1);
    impatient.handshake_timeout = SHORT;
    let mut first = End::start(bind(impatient).await);
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mute_address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&dead_address().await));
    first.transport.set_peer(three, Some(&mute_address));
    // The fourth has no address at all.
    let started = Instant::now();
    for peer in [two, three, four] {
        first.send_snapshot(one, peer, &Bytes::from_static(b"state"));
        assert_eq!(
            first.snapshot_outcome().await,
            (peer, SnapshotOutcome::Failed)
        );
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_snapshot_whose_receiver_stops_reading_is_reported_failed() {
    let (one, two) = (node_id(1), node_id(2));
    let mut impatient = config(1);
    impatient.snapshot_timeout = SHORT;
    let mut first = End::start(bind(impatient).await);
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    // Welcomes everybody, accepts every snapshot, and then reads no more.
    let lazy = tokio::spawn(async move {
        let mut welcomed = Vec::new();
        loop {
            let (mut guest, purpose) = Stranger::welcome(&listener).await;
            if purpose == ConnectionPurpose::Snapshot {
                let accepted = SnapshotReply::Accepted { offset: 0 };
                guest.write(&Frame::SnapshotReply(accepted)).await;
            }
            welcomed.push(guest);
        }
    });
    let data = Bytes::from(vec![1; 32 << 20]);
    first.send_snapshot(one, two, &data);
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
    lazy.abort();
}

#[tokio::test]
async fn a_snapshot_that_is_too_large_for_its_receiver_is_reported_failed() {
    let (one, two) = (node_id(1), node_id(2));
    let mut small = config(2);
    small.snapshot_bytes_max = 1 << 20;
    let [mut first, mut second] = start([config(1), small]).await;
    first.send_snapshot(one, two, &Bytes::from(vec![1; 8 << 20]));
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
    assert!(second.waiting().is_none());
}

/// Sends a snapshot of one chunk as node 2; what is said to it in the end.
async fn offer(address: SocketAddr, header: SnapshotHeader, chunk: SnapshotChunk) -> SnapshotReply {
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&Frame::SnapshotHeader(header)).await;
    peer.write(&Frame::SnapshotChunk(chunk)).await;
    peer.expect_accepted(0).await;
    match peer.read().await {
        Some(Frame::SnapshotReply(reply)) => reply,
        other => panic!("{other:?} is no reply to a snapshot"),
    }
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_its_checksums_is_refused() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let data = Bytes::from_static(b"state");
    let header = SnapshotHeader {
        group: 0,
        message: announcement(node_id(2), node_id(1)),
        total_bytes: 5,
        addresses: Bytes::new(),
        crc32c: crc32c::crc32c(&data),
    };
    let chunk = SnapshotChunk {
        offset: 0,
        crc32c: crc32c::crc32c(&data),
        data,
    };
    let corrupt = [
        // Of the whole.
        (
            SnapshotHeader {
                crc32c: 1,
                ..header.clone()
            },
            chunk.clone(),
        ),
        // Of the chunk.
        (
            header.clone(),
            SnapshotChunk {
                crc32c: 1,
                ..chunk.clone()
            },
        ),
        // A gap.
        (
            header.clone(),
            SnapshotChunk {
                offset: 3,
                ..chunk.clone()
            },
        ),
        // More than was announced.
        (
            SnapshotHeader {
                total_bytes: 4,
                addresses: Bytes::new(),
                ..header.clone()
            },
            chunk.clone(),
        ),
    ];
    for (header, chunk) in corrupt {
        let refused = SnapshotReply::Refused(SnapshotRefusal::Corrupt { offset: 0 });
        assert_eq!(offer(address, header, chunk).await, refused);
    }
    assert!(server.waiting().is_none());

    let received = offer(address, header, chunk).await;
    assert_eq!(received, SnapshotReply::Received);
    let whole = snapshot(node_id(2), node_id(1), b"state");
    assert_eq!(server.packet().await, whole);
    assert_eq!(server.snapshot_data(), "state");
}
