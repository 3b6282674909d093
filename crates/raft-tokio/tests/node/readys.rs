//! `readyc` and `advancec`: when a Ready comes, and what advances it.

use std::pin::pin;

use futures::poll;
use raft_tokio::core::{AppendOutcome, Ready, StorageWrites};
use raft_tokio::{LogIndex, StopReason, Stopped};

use crate::support::{Fixture, bytes, comes, data_of, node_id, quiet, waits};

#[tokio::test(start_paused = true)]
async fn there_is_no_ready_while_nothing_has_happened() {
    let mut fixture = Fixture::start(1);
    assert!(fixture.has_no_ready().await);
}

#[tokio::test(start_paused = true)]
async fn no_second_ready_comes_before_the_first_is_advanced() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    comes(node.propose(bytes("a"))).await.unwrap();
    let first = fixture.next().await;
    comes(node.propose(bytes("b"))).await.unwrap();
    assert!(fixture.has_no_ready().await);
    // Everything else goes on meanwhile.
    assert_eq!(fixture.last_index().await, LogIndex::new(3));
    fixture.carry_out(first);
    assert!(fixture.has_no_ready().await);
    comes(node.advance()).await.unwrap();
    let second = fixture.next().await;
    assert_eq!(data_of(&second.entries()), [bytes("b")]);
    assert_eq!(data_of(&second.committed_entries()), [bytes("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_ready_is_made_when_it_is_taken() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    comes(node.propose(bytes("a"))).await.unwrap();
    // There is a Ready already, and nobody has taken it.
    comes(node.propose(bytes("b"))).await.unwrap();
    let ready = fixture.next().await;
    assert_eq!(data_of(&ready.entries()), [bytes("a"), bytes("b")]);
}

#[tokio::test(start_paused = true)]
async fn a_ready_that_was_asked_for_early_has_what_came_in_until_the_advance() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    comes(node.propose(bytes("a"))).await.unwrap();
    let first = fixture.next().await;
    fixture.carry_out(first);
    let mut second = pin!(fixture.readys.next());
    assert!(waits(second.as_mut()).await);
    comes(node.propose(bytes("b"))).await.unwrap();
    comes(node.propose(bytes("c"))).await.unwrap();
    assert!(waits(second.as_mut()).await);
    comes(node.advance()).await.unwrap();
    let second = comes(second).await.unwrap();
    assert_eq!(data_of(&second.entries()), [bytes("b"), bytes("c")]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cancelled_before_the_ready_loses_nothing() {
    let mut fixture = Fixture::leading_alone().await;
    assert!(poll!(pin!(fixture.readys.next())).is_pending());
    comes(fixture.node.propose(bytes("a"))).await.unwrap();
    assert_eq!(data_of(&fixture.next().await.entries()), [bytes("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cancelled_with_its_ready_on_the_way_loses_nothing() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    {
        let mut cancelled = pin!(fixture.readys.next());
        assert!(poll!(cancelled.as_mut()).is_pending());
        comes(node.propose(bytes("a"))).await.unwrap();
        // The loop hands the Ready out, and nobody looks.
        quiet().await;
    }
    comes(node.propose(bytes("b"))).await.unwrap();
    let ready = fixture.next().await;
    // Without `b`: it is the very Ready that was on its way.
    assert_eq!(data_of(&ready.entries()), [bytes("a")]);
    assert!(fixture.has_no_ready().await);
}

#[tokio::test(start_paused = true)]
async fn an_advance_waits_for_a_ready_to_be_outstanding() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    let mut advance = pin!(node.advance());
    assert!(waits(advance.as_mut()).await);
    comes(node.propose(bytes("a"))).await.unwrap();
    // That there is a Ready is not enough; it must have been taken.
    assert!(waits(advance.as_mut()).await);
    let ready = fixture.next().await;
    fixture.carry_out(ready);
    comes(advance).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_early_advance_that_was_cancelled_advances_no_later_ready() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    // More of them than the channel holds.
    for _ in 0..3 {
        assert!(waits(pin!(node.advance())).await);
    }
    comes(node.propose(bytes("a"))).await.unwrap();
    let ready = fixture.next().await;
    comes(node.propose(bytes("b"))).await.unwrap();
    assert!(fixture.has_no_ready().await);
    fixture.carry_out(ready);
    comes(node.advance()).await.unwrap();
    assert_eq!(data_of(&fixture.next().await.entries()), [bytes("b")]);
}

#[tokio::test(start_paused = true)]
async fn one_advance_is_for_one_ready() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    comes(node.propose(bytes("a"))).await.unwrap();
    let ready = fixture.next().await;
    fixture.carry_out(ready);
    comes(node.advance()).await.unwrap();
    let mut again = pin!(node.advance());
    assert!(waits(again.as_mut()).await);
}

/// A single voter with asynchronous writes.
fn start_async() -> Fixture {
    Fixture::start_with(1, |config| {
        config.storage_writes = StorageWrites::Asynchronous;
    })
}

/// Writes, and hands back the receipts that it brought.
async fn write(fixture: &Fixture, ready: &mut Ready) {
    let Some(mut append) = ready.append.take() else {
        return;
    };
    let responses = std::mem::take(&mut append.responses);
    fixture.storage.write(append).unwrap();
    for outcome in responses {
        match outcome {
            AppendOutcome::Receipt(receipt) => fixture.node.persisted(receipt).await.unwrap(),
            AppendOutcome::Send(message) => panic!("{message:?} from a single voter"),
        }
    }
}

async fn start_async_leader() -> Fixture {
    let mut fixture = start_async();
    fixture.node.campaign().await.unwrap();
    loop {
        let mut ready = fixture.next().await;
        write(&fixture, &mut ready).await;
        if let Some(apply) = ready.apply {
            let receipt = apply
                .receipt
                .expect("a receipt, as writes are asynchronous");
            fixture.node.applied(receipt).await.unwrap();
            break;
        }
    }
    assert!(fixture.has_no_ready().await);
    fixture
}

#[tokio::test(start_paused = true)]
async fn asynchronous_readys_keep_coming_while_receipts_are_outstanding() {
    let mut fixture = start_async_leader().await;
    let node = fixture.node.clone();
    let mut outstanding = Vec::new();
    for data in ["a", "b", "c"] {
        comes(node.propose(bytes(data))).await.unwrap();
        let ready = fixture.next().await;
        assert_eq!(data_of(&ready.entries()), [bytes(data)]);
        outstanding.push(ready);
    }
    assert!(fixture.has_no_ready().await);
    // Handed back late, and in order, they commit all of it.
    for ready in &mut outstanding {
        write(&fixture, ready).await;
    }
    let mut applied = Vec::new();
    while applied.len() < 3 {
        let ready = fixture.next().await;
        applied.extend(data_of(&ready.committed_entries()));
    }
    assert_eq!(applied, [bytes("a"), bytes("b"), bytes("c")]);
}

#[tokio::test(start_paused = true)]
async fn asynchronous_writes_never_arm_the_advance() {
    let mut fixture = start_async_leader().await;
    let node = fixture.node.clone();
    let advancer = node.clone();
    let mut advance = pin!(advancer.advance());
    assert!(waits(advance.as_mut()).await);
    comes(node.propose(bytes("a"))).await.unwrap();
    let mut ready = fixture.next().await;
    assert!(waits(advance.as_mut()).await);
    write(&fixture, &mut ready).await;
    let committed = fixture.next().await;
    assert_eq!(data_of(&committed.committed_entries()), [bytes("a")]);
    assert!(waits(advance.as_mut()).await);
    comes(node.stop()).await;
    let reason = StopReason::Shutdown;
    assert_eq!(comes(advance).await, Err(Stopped { reason }));
    assert_eq!(node.id(), node_id(1));
}
