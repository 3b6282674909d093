use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use raft_core::SnapshotOutcome;
use raft_tokio::transport::{Inbound, MemoryNetwork, MemoryTransport, Transport};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::support::{End, PATIENCE, heartbeat, node_id, number_of, snapshot};

/// What has come, as the numbers of the heartbeats.
fn numbers(end: &mut End<MemoryTransport>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(inbound) = end.waiting() {
        if let Inbound::Packet(packet) = inbound {
            numbers.push(number_of(&packet));
        }
    }
    numbers
}

fn reports(end: &mut End<MemoryTransport>) -> Vec<String> {
    let mut reports = Vec::new();
    while let Some(inbound) = end.waiting() {
        reports.push(format!("{inbound:?}"));
    }
    reports
}

struct Pair {
    network: MemoryNetwork,
    one: End<MemoryTransport>,
    two: End<MemoryTransport>,
}

impl Pair {
    fn start() -> Self {
        let network = MemoryNetwork::new();
        Self {
            one: End::start(network.join(node_id(1))),
            two: End::start(network.join(node_id(2))),
            network,
        }
    }

    fn forth(&mut self, number: u64) {
        self.one
            .send(node_id(2), heartbeat(node_id(1), node_id(2), number));
    }

    fn back(&mut self, number: u64) {
        self.two
            .send(node_id(1), heartbeat(node_id(2), node_id(1), number));
    }
}

#[tokio::test]
async fn packets_arrive_in_order_both_ways() {
    let mut pair = Pair::start();
    for number in 0..100 {
        pair.forth(number);
        pair.back(1000 + number);
    }
    assert_eq!(numbers(&mut pair.two), (0..100).collect::<Vec<_>>());
    assert_eq!(numbers(&mut pair.one), (1000..1100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_absent_peer_is_reported_once_until_it_comes_and_goes_again() {
    let mut pair = Pair::start();
    let three = node_id(3);
    for _ in 0..10 {
        pair.one.send(three, heartbeat(node_id(1), three, 0));
    }
    assert_eq!(reports(&mut pair.one), ["Unreachable(NodeId(3))"]);

    let mut came = End::start(pair.network.join(three));
    pair.one.send(three, heartbeat(node_id(1), three, 1));
    assert_eq!(numbers(&mut came), [1]);
    came.transport.stop();
    pair.one.send(three, heartbeat(node_id(1), three, 2));
    assert_eq!(reports(&mut pair.one), ["Unreachable(NodeId(3))"]);
    assert_eq!(numbers(&mut came), []);
}

#[tokio::test]
async fn a_full_inbox_drops_and_reports_the_peer() {
    let network = MemoryNetwork::new();
    let (one, two) = (node_id(1), node_id(2));
    let mut sender = End::start(network.join(one));
    let mut receiver = End::with_room(network.join(two), 2);
    for number in 0..5 {
        sender.send(two, heartbeat(one, two, number));
    }
    assert_eq!(reports(&mut sender), ["Unreachable(NodeId(2))"]);
    assert_eq!(numbers(&mut receiver), [0, 1]);
    sender.send(two, heartbeat(one, two, 5));
    assert_eq!(numbers(&mut receiver), [5]);
    assert_eq!(reports(&mut sender), [""; 0]);
}

#[tokio::test]
async fn a_report_waits_for_room_in_the_senders_own_inbox() {
    let network = MemoryNetwork::new();
    let (one, two) = (node_id(1), node_id(2));
    let mut busy = End::with_room(network.join(one), 1);
    let mut other = End::start(network.join(two));
    other.send(one, heartbeat(two, one, 9));
    busy.send_snapshot(one, two, &Bytes::from_static(b"state"));
    assert!(matches!(other.next().await, Inbound::Packet(_)));
    assert_eq!(numbers(&mut busy), [9]);
    assert_eq!(
        busy.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
}

#[tokio::test]
async fn a_cut_loses_one_way_and_heals() {
    let mut pair = Pair::start();
    pair.network.cut(node_id(1), node_id(2));
    pair.forth(1);
    pair.back(2);
    assert_eq!(numbers(&mut pair.two), []);
    assert_eq!(numbers(&mut pair.one), [2]);
    pair.network.heal();
    pair.forth(3);
    assert_eq!(numbers(&mut pair.two), [3]);
    // A network that loses says nothing about it.
    assert_eq!(reports(&mut pair.one), [""; 0]);
}

#[tokio::test]
async fn an_isolated_node_neither_hears_nor_is_heard() {
    let mut pair = Pair::start();
    pair.network.isolate(node_id(2));
    pair.forth(1);
    pair.back(2);
    assert_eq!(numbers(&mut pair.two), []);
    assert_eq!(numbers(&mut pair.one), []);
}

#[tokio::test]
async fn a_seed_loses_the_same_packets_again() {
    let seed = 0x5eed;
    let run = || {
        let mut pair = Pair::start();
        pair.network.drop_rate(seed, 300);
        for number in 0..1000 {
            pair.forth(number);
        }
        numbers(&mut pair.two)
    };
    let arrived = run();
    assert!(
        (600..800).contains(&arrived.len()),
        "{} of 1000 arrived with seed {seed:#x}",
        arrived.len()
    );
    assert_eq!(arrived, run());
}

#[tokio::test]
async fn held_packets_arrive_in_order_when_they_are_released() {
    let mut pair = Pair::start();
    pair.network.hold(node_id(1), node_id(2));
    pair.forth(1);
    let state = Bytes::from_static(b"state");
    pair.one.send_snapshot(node_id(1), node_id(2), &state);
    pair.forth(2);
    pair.back(3);
    assert_eq!(pair.network.held_count(), 3);
    assert!(pair.two.waiting().is_none());
    assert_eq!(numbers(&mut pair.one), [3]);

    pair.network.release();
    pair.forth(4);
    assert_eq!(numbers(&mut pair.two), [1, 2, 4]);
    // It has been on its way since then.
    let arrived = pair.two.packet().await;
    assert_eq!(arrived, snapshot(node_id(1), node_id(2), &state));
    assert_eq!(
        pair.one.snapshot_outcome().await,
        (node_id(2), SnapshotOutcome::Arrived)
    );
}

#[tokio::test]
async fn a_snapshot_arrives_or_fails_and_both_are_reported() {
    let mut pair = Pair::start();
    let (one, two, three) = (node_id(1), node_id(2), node_id(3));
    let state = Bytes::from_static(b"state");
    pair.one.send_snapshot(one, two, &state);
    assert_eq!(
        pair.one.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
    assert_eq!(pair.two.packet().await, snapshot(one, two, &state));
    assert_eq!(pair.two.snapshot_data(), state);

    pair.one.send_snapshot(one, three, &state);
    assert_eq!(
        pair.one.snapshot_outcome().await,
        (three, SnapshotOutcome::Failed)
    );

    pair.network.cut(one, two);
    pair.one.send_snapshot(one, two, &state);
    assert_eq!(
        pair.one.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
}

#[tokio::test]
async fn a_restarted_node_takes_the_place_of_its_old_self() {
    let mut pair = Pair::start();
    pair.forth(1);
    let mut again = End::start(pair.network.join(node_id(2)));
    pair.forth(2);
    // The old one goes late, and takes nothing with it.
    pair.two.transport.stop();
    pair.forth(3);
    assert_eq!(numbers(&mut pair.two), [1]);
    assert_eq!(numbers(&mut again), [2, 3]);
}

/// How many tasks there are besides the test.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Sends a snapshot that does not get through while the test runs.
async fn send_slow_snapshot(pair: &mut Pair) {
    pair.network.delay_snapshots(Duration::from_secs(3600));
    let state = Bytes::from_static(b"state");
    pair.one.send_snapshot(node_id(1), node_id(2), &state);
    assert_eq!(tasks(), 1);
    // It is on its way.
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 1);
}

#[tokio::test]
async fn a_sender_that_has_stopped_leaves_no_copy_running() {
    let mut pair = Pair::start();
    send_slow_snapshot(&mut pair).await;
    pair.one.transport.stop();
    let stopped = pair.one.transport.stopped();
    timeout(PATIENCE, stopped).await.expect("it stops");
    assert_eq!(tasks(), 0);
    assert!(pair.two.waiting().is_none());
}

#[tokio::test]
async fn a_receiver_that_has_stopped_leaves_no_copy_running_and_the_sender_hears_of_it() {
    let mut pair = Pair::start();
    send_slow_snapshot(&mut pair).await;
    let mut stopped = pair.two.transport.stopped();
    // Whoever has not been told to stop has not stopped.
    assert!(!is_done(&mut stopped).await);
    pair.two.transport.stop();
    timeout(PATIENCE, stopped).await.expect("it stops");
    assert_eq!(
        pair.one.snapshot_outcome().await,
        (node_id(2), SnapshotOutcome::Failed)
    );
    assert_eq!(tasks(), 0);
    pair.one.transport.stop();
    pair.one.transport.stopped().await;
}

/// Whether it is done after everybody had a turn.
async fn is_done(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::select! {
        biased;
        () = future => true,
        () = tokio::task::yield_now() => false,
    }
}
