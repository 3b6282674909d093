//! Snapshots over connections that break, and from and to servers that do not
//! keep to the rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raft_core::SnapshotOutcome;
use raft_tokio::transport::{Packet, Transport};
use raft_wire::frame::{
    ConnectionPurpose, Frame, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::stranger::Stranger;
use super::{SHORT, announcement, bind, config, loopback, raft_frame};
use crate::support::{End, node_id, snapshot};

const MIB: u64 = 1 << 20;

/// Data that does not look the same at any two places.
fn data(bytes: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(bytes);
    (0..bytes).map(|_| random.u8(..)).collect()
}

fn header(data: &Bytes) -> Frame {
    Frame::SnapshotHeader(SnapshotHeader {
        group: 0,
        message: announcement(node_id(2), node_id(1)),
        total_bytes: u64::try_from(data.len()).unwrap(),
        addresses: Bytes::new(),
        crc32c: crc32c::crc32c(data),
    })
}

fn chunk(data: &Bytes, from: usize, to: usize) -> Frame {
    let data = data.slice(from..to);
    Frame::SnapshotChunk(SnapshotChunk {
        offset: u64::try_from(from).unwrap(),
        crc32c: crc32c::crc32c(&data),
        data,
    })
}

/// Passes connections on to a server, and cuts each off that has carried too
/// much, as often as it was told.
struct FrailWay {
    address: SocketAddr,
    carried_bytes: Arc<AtomicU64>,
    cuts_left: Arc<AtomicU64>,
}

impl FrailWay {
    async fn to(server: SocketAddr, bytes_max: u64, cuts: u64) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let way = Self {
            address: listener.local_addr().unwrap(),
            carried_bytes: Arc::default(),
            cuts_left: Arc::new(AtomicU64::new(cuts)),
        };
        let (carried, cuts_left) = (way.carried_bytes.clone(), way.cuts_left.clone());
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let to = TcpStream::connect(server).await.unwrap();
                let (carried, cuts_left) = (carried.clone(), cuts_left.clone());
                tokio::spawn(carry(from, to, carried, cuts_left, bytes_max));
            }
        });
        way
    }
}

async fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    carried: Arc<AtomicU64>,
    cuts_left: Arc<AtomicU64>,
    bytes_max: u64,
) {
    let (mut from_read, mut from_write) = from.split();
    let (mut to_read, mut to_write) = to.split();
    let forth = async {
        let mut bytes = vec![0; 16 << 10];
        let mut sum = 0;
        while let Ok(count @ 1..) = from_read.read(&mut bytes).await {
            if to_write.write_all(&bytes[..count]).await.is_err() {
                return;
            }
            let count = u64::try_from(count).unwrap();
            carried.fetch_add(count, Ordering::Relaxed);
            sum += count;
            let may_cut = |cuts: u64| cuts.checked_sub(1);
            if sum > bytes_max
                && cuts_left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_cut)
                    .is_ok()
            {
                return;
            }
        }
    };
    let back = tokio::io::copy(&mut to_read, &mut from_write);
    tokio::select! {
        () = forth => {}
        _ = back => {}
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let (one, two) = (node_id(1), node_id(2));
    let mut second = End::start(bind(config(2)).await);
    let mut first = End::start(bind(config(1)).await);
    // Cut off three times, each time 3 MiB further.
    let way = FrailWay::to(second.transport.local_addr(), 3 * MIB, 3).await;
    first
        .transport
        .set_peer(two, Some(&way.address.to_string()));
    let data = data(12 * MIB);
    first.send_snapshot(one, two, &data);
    assert_eq!(second.packet().await, snapshot(one, two, &data));
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
    assert!(second.snapshot_data() == data);
    assert_eq!(way.cuts_left.load(Ordering::Relaxed), 0);
    // What a cut loses is the chunk that it struck, and what was on its way.
    let carried = way.carried_bytes.load(Ordering::Relaxed);
    println!("{carried} bytes for {} bytes", data.len());
    assert!(carried < 15 * MIB, "{carried} bytes");
}

#[tokio::test]
async fn a_transfer_that_gets_nowhere_is_reported_failed_and_resumed_later() {
    let (one, two) = (node_id(1), node_id(2));
    let mut second = End::start(bind(config(2)).await);
    let mut first = End::start(bind(config(1)).await);
    // Less than a chunk passes, twice: the second attempt is no further.
    let way = FrailWay::to(second.transport.local_addr(), 100 << 10, 2).await;
    let address = way.address.to_string();
    first.transport.set_peer(two, Some(&address));
    let data = data(2 * MIB);
    first.send_snapshot(one, two, &data);
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
    // The leader tries again, and the way has become better.
    first.send_snapshot(one, two, &data);
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
    assert_eq!(second.packet().await, snapshot(one, two, &data));
}

#[tokio::test]
async fn a_receiver_says_after_a_restart_what_it_has() {
    let data = data(MIB);
    let server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&header(&data)).await;
    peer.expect_accepted(0).await;
    peer.write(&chunk(&data, 0, 300_000)).await;
    peer.write(&chunk(&data, 300_000, 400_000)).await;
    // Half a chunk, and then nothing.
    peer.write_half(&chunk(&data, 400_000, 500_000)).await;
    let storage = server.storage_with_part(400_000).await;
    server.transport.shutdown().await;
    drop(peer);

    let mut server = End::start_with(bind(config(1)).await, storage);
    let address = server.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&header(&data)).await;
    peer.expect_accepted(400_000).await;
    peer.write(&chunk(&data, 400_000, data.len())).await;
    let received = Frame::SnapshotReply(SnapshotReply::Received);
    assert_eq!(peer.read().await, Some(received.clone()));
    assert_eq!(
        server.packet().await,
        snapshot(node_id(2), node_id(1), &data)
    );
    assert!(server.snapshot_data() == data);

    // Whoever sends it once more is told that it is there.
    peer.write(&header(&data)).await;
    peer.expect_accepted(MIB).await;
    assert_eq!(peer.read().await, Some(received));
}

#[tokio::test]
async fn a_sender_that_stops_in_the_middle_loses_its_place_in_time() {
    let data = data(MIB);
    let mut impatient = config(1);
    impatient.snapshot_timeout = SHORT;
    let mut server = End::start(bind(impatient).await);
    let address = server.transport.local_addr();
    let mut stalled = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    stalled.write(&header(&data)).await;
    stalled.expect_accepted(0).await;
    stalled.write(&chunk(&data, 0, 1000)).await;
    stalled.expect_closed().await;

    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&header(&data)).await;
    peer.expect_accepted(1000).await;
    peer.write(&chunk(&data, 1000, data.len())).await;
    assert_eq!(
        peer.read().await,
        Some(Frame::SnapshotReply(SnapshotReply::Received))
    );
    server.packet().await;
}

#[tokio::test]
async fn until_one_snapshot_is_settled_no_other_one_is_taken_in() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let data = data(1000);
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&header(&data)).await;
    peer.expect_accepted(0).await;
    peer.write(&chunk(&data, 0, 1000)).await;
    assert_eq!(
        peer.read().await,
        Some(Frame::SnapshotReply(SnapshotReply::Received))
    );
    server.packet().await;

    let mut other = header(&data);
    if let Frame::SnapshotHeader(header) = &mut other
        && let raft_core::Body::Snapshot(snapshot) = &mut header.message.body
    {
        snapshot.metadata.index = snapshot.metadata.index.next();
    }
    peer.write(&other).await;
    assert_eq!(
        peer.read().await,
        Some(Frame::SnapshotReply(SnapshotReply::Refused(
            SnapshotRefusal::Busy
        )))
    );
    server.refuse_snapshot().await;
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&other).await;
    peer.expect_accepted(0).await;
}

#[tokio::test]
async fn a_snapshot_without_its_data_is_dropped() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    let alone = snapshot(node_id(2), node_id(1), b"state");
    peer.write(&raft_frame(alone)).await;
    let heartbeat = crate::support::heartbeat(node_id(2), node_id(1), 5);
    peer.write(&raft_frame(heartbeat.clone())).await;
    let Packet::Raft(_) = &heartbeat else {
        unreachable!()
    };
    assert_eq!(server.packet().await, heartbeat);
}

#[tokio::test]
async fn snapshots_to_many_servers_take_turns() {
    let one = node_id(1);
    let mut sender = config(1);
    sender.snapshots_sent_at_once_max = 1;
    let mut first = End::start(bind(sender).await);
    let mut listeners = Vec::new();
    for number in [2, 3] {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listeners.push((number, address, listener));
    }
    let data = data(1000);
    for (number, address, _) in &listeners {
        first.transport.set_peer(node_id(*number), Some(address));
    }
    let mut guests = Vec::new();
    for (number, _, listener) in &listeners {
        // The connection for messages comes first.
        guests.push(Stranger::welcome(listener).await);
        first.send_snapshot(one, node_id(*number), &data);
    }
    let (_, _, listener) = &listeners[0];
    let (mut guest, _) = Stranger::welcome(listener).await;
    assert!(matches!(guest.read().await, Some(Frame::SnapshotHeader(_))));
    let (_, _, other) = &listeners[1];
    let early = tokio::time::timeout(SHORT, other.accept()).await;
    assert!(early.is_err(), "the second one waits");
    guest
        .write(&Frame::SnapshotReply(SnapshotReply::Received))
        .await;
    assert_eq!(
        first.snapshot_outcome().await,
        (node_id(2), SnapshotOutcome::Arrived)
    );
    let (mut guest, _) = Stranger::welcome(other).await;
    assert!(matches!(guest.read().await, Some(Frame::SnapshotHeader(_))));
}
