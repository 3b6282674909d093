use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Body, ConfState, LogIndex, Message, NodeId, Snapshot, SnapshotMetadata, Term};
use tokio::sync::mpsc;

use super::*;
use crate::address_book::AddressBook;
use crate::snapshot::{MemorySnapshots, SnapshotJob, build};
use crate::transport::{Inbound, Inbox};

fn node_id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn metadata(index: u64) -> SnapshotMetadata {
    SnapshotMetadata {
        index: LogIndex::new(index),
        term: Term::new(2),
        conf_state: ConfState::of_voters([node_id(1), node_id(2)]),
    }
}

/// A replica's end of an exchange.
struct End {
    storage: MemorySnapshots,
    exchange: SnapshotExchange,
    inbox: Inbox,
    inbound: mpsc::Receiver<Inbound>,
}

impl End {
    fn new() -> Self {
        let storage = MemorySnapshots::new();
        let (sender, inbound) = mpsc::channel(8);
        Self {
            exchange: SnapshotExchange::new(Arc::new(storage.clone())),
            storage,
            inbox: Inbox::new(sender),
            inbound,
        }
    }

    fn build(&self, index: u64, data: &'static str) -> Snapshot {
        let (addresses, job) = (AddressBook::default(), SnapshotJob::bytes(data));
        build(&self.storage, metadata(index), &addresses, job).unwrap()
    }

    fn has(&self, snapshot: &Snapshot) -> bool {
        self.storage.open(snapshot.metadata.id()).is_ok()
    }

    fn settle(&self, snapshot: &Snapshot, fate: Fate) {
        let id = snapshot.metadata.id();
        self.exchange.custody.settle_now(id, fate).unwrap();
    }

    /// Takes a snapshot over, and its message.
    async fn take(&mut self, from: &Self, snapshot: &Snapshot) {
        let received = from.exchange.copy(snapshot, &self.exchange).await.unwrap();
        let message = Message {
            to: node_id(2),
            from: node_id(1),
            term: Term::new(2),
            body: Body::Snapshot(Box::new(snapshot.clone())),
        };
        assert!(received.deliver(&self.inbox, message).await);
        assert!(self.inbound.recv().await.is_some());
    }
}

#[tokio::test]
async fn a_snapshot_that_is_refused_is_removed_and_one_that_is_installed_stays() {
    let (one, mut two) = (End::new(), End::new());
    let first = one.build(5, "five");
    two.take(&one, &first).await;
    assert!(two.exchange.has_arrived(first.metadata.id()));
    two.settle(&first, Fate::Refused);
    assert!(!two.has(&first));
    assert!(!two.exchange.has_arrived(first.metadata.id()));

    two.take(&one, &first).await;
    two.settle(&first, Fate::Installed);
    assert!(two.has(&first));
    // It comes again, and is not needed; but the log refers to it by now.
    two.take(&one, &first).await;
    two.settle(&first, Fate::Refused);
    assert!(two.has(&first));
}

#[tokio::test]
async fn a_snapshot_that_two_messages_speak_of_stays_until_both_are_settled() {
    let (one, mut two) = (End::new(), End::new());
    let snapshot = one.build(5, "five");
    two.take(&one, &snapshot).await;
    two.take(&one, &snapshot).await;
    two.settle(&snapshot, Fate::Refused);
    assert!(two.has(&snapshot));
    two.settle(&snapshot, Fate::Installed);
    assert!(two.has(&snapshot));

    let snapshot = one.build(6, "six");
    two.take(&one, &snapshot).await;
    two.take(&one, &snapshot).await;
    two.settle(&snapshot, Fate::Refused);
    two.settle(&snapshot, Fate::Refused);
    assert!(!two.has(&snapshot));
}

#[tokio::test]
async fn the_own_snapshot_of_the_same_place_stays() {
    let (one, mut two) = (End::new(), End::new());
    let snapshot = one.build(5, "five");
    two.take(&one, &snapshot).await;
    // Its own is about to be stored there.
    two.exchange.protect(snapshot.metadata.id());
    two.build(5, "five");
    two.settle(&snapshot, Fate::Refused);
    assert!(two.has(&snapshot));
}

#[tokio::test]
async fn another_snapshot_waits_until_the_one_before_is_settled() {
    let (one, mut two) = (End::new(), End::new());
    let (five, six) = (one.build(5, "five"), one.build(6, "six"));
    two.take(&one, &five).await;
    let busy = one.exchange.copy(&six, &two.exchange).await;
    assert!(matches!(busy, Err(IncomingError::Busy)), "{busy:?}");
    two.settle(&five, Fate::Refused);
    two.take(&one, &six).await;
}

#[tokio::test]
async fn a_snapshot_that_is_never_announced_is_removed() {
    let (one, two) = (End::new(), End::new());
    let snapshot = one.build(5, "five");
    let received = one.exchange.copy(&snapshot, &two.exchange).await.unwrap();
    assert!(two.has(&snapshot));
    drop(received);
    while two.has(&snapshot) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_has_arrived_is_gone_on_with() {
    let (one, two) = (End::new(), End::new());
    let snapshot = one.build(5, "state");
    let mut part = two.exchange.incoming(&snapshot).await.unwrap();
    part.append(Bytes::from_static(b"sta")).await.unwrap();
    drop(part);
    let mut part = two.exchange.incoming(&snapshot).await.unwrap();
    assert_eq!(part.offset(), 3);
    part.append(Bytes::from_static(b"te")).await.unwrap();
    assert!(part.append(Bytes::from_static(b"!")).await.is_err());
    drop(part);
    let part = two.exchange.incoming(&snapshot).await.unwrap();
    assert_eq!(part.offset(), 5);
    part.finish().await.unwrap();
}

#[tokio::test]
async fn what_arrived_wrong_is_begun_anew() {
    let (one, two) = (End::new(), End::new());
    let snapshot = one.build(5, "state");
    let mut part = two.exchange.incoming(&snapshot).await.unwrap();
    part.append(Bytes::from_static(b"stale")).await.unwrap();
    let refused = part.finish().await;
    assert!(matches!(refused, Err(SnapshotStorageError::Damaged(_))));
    let part = two.exchange.incoming(&snapshot).await.unwrap();
    assert_eq!(part.offset(), 0);
}

#[tokio::test]
async fn a_snapshot_that_is_not_the_one_announced_is_not_sent() {
    let one = End::new();
    let snapshot = one.build(5, "state");
    one.build(5, "other");
    let missing = one.exchange.outgoing(&snapshot).await;
    assert!(matches!(missing, Err(SnapshotStorageError::Missing)));
}

/// Drops a call at its first, second, ... await. Whether it was done before.
async fn is_done_before_await(awaits: usize, call: impl Future) -> bool {
    let mut call = std::pin::pin!(call);
    for _ in 0..awaits {
        // If there is one thread for the disk, what the call wants of it waits behind
        // this, so each such await is seen to wait.
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let occupied = tokio::task::spawn_blocking(move || gate.recv().is_err());
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
        });
        let is_done = polled.await;
        drop(open);
        assert!(occupied.await.unwrap());
        if is_done {
            return true;
        }
        // Until what it waits for is there, or as good as.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    false
}

#[test]
fn a_copy_that_is_dropped_anywhere_is_gone_on_with_and_leaves_nothing() {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap()
        .block_on(drop_a_copy_at_every_await());
}

async fn drop_a_copy_at_every_await() {
    let mut awaits = 0;
    loop {
        let (one, mut two) = (End::new(), End::new());
        let snapshot = one.build(5, "state");
        let copy = async {
            let received = one.exchange.copy(&snapshot, &two.exchange).await;
            drop(received.expect("nothing is in its way"));
        };
        let is_done = is_done_before_await(awaits, copy).await;
        // What was stored is removed, since no message speaks of it.
        let gone = async {
            while two.has(&snapshot) || two.exchange.has_arrived(snapshot.metadata.id()) {
                tokio::task::yield_now().await;
            }
        };
        let patience = std::time::Duration::from_secs(30);
        tokio::time::timeout(patience, gone)
            .await
            .expect("it is removed");
        two.take(&one, &snapshot).await;
        two.settle(&snapshot, Fate::Installed);
        assert!(two.has(&snapshot));
        if is_done {
            break;
        }
        awaits += 1;
    }
    assert!(
        awaits >= 4,
        "it opens, begins, reads, stores and ends: {awaits}"
    );
}

#[tokio::test]
async fn a_message_that_is_dropped_while_the_inbox_is_full_takes_its_snapshot_along() {
    let (one, mut two) = (End::new(), End::new());
    let snapshot = one.build(5, "state");
    while two.inbox.try_deliver(Inbound::Unreachable(node_id(1))) {}
    let received = one.exchange.copy(&snapshot, &two.exchange).await.unwrap();
    let message = Message {
        to: node_id(2),
        from: node_id(1),
        term: Term::new(2),
        body: Body::Snapshot(Box::new(snapshot.clone())),
    };
    assert!(!is_done_before_await(1, received.deliver(&two.inbox, message)).await);
    while two.has(&snapshot) {
        tokio::task::yield_now().await;
    }
    while !two.inbound.is_empty() {
        let inbound = two.inbound.recv().await;
        assert!(matches!(inbound, Some(Inbound::Unreachable(_))));
    }
}
