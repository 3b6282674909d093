//! How a node ends, and who hears of it.

use std::pin::{Pin, pin};

use futures::poll;
use raft_tokio::core::{Body, SnapshotOutcome};
use raft_tokio::{
    ApplyConfChangeError, ConfChange, ConfChangeType, Node, NodeProposeError, StopReason, Stopped,
};

use crate::support::{
    FAULT_TEXT, Fault, Fixture, bytes, comes, everybody_who_waits, forwarded, message, node_id,
    waits,
};

fn shutdown() -> Stopped {
    Stopped {
        reason: StopReason::Shutdown,
    }
}

fn panicked() -> Stopped {
    Stopped {
        reason: StopReason::Panicked(FAULT_TEXT.to_owned()),
    }
}

fn storage_failed() -> Stopped {
    Stopped {
        reason: StopReason::Storage(format!("the storage failed: {FAULT_TEXT}")),
    }
}

fn any_change() -> ConfChange {
    ConfChange::single(ConfChangeType::AddNode, node_id(7))
}

/// Asks for everything there is, of a node that has ended for `why`.
async fn everything_says(node: &Node, why: &Stopped) {
    let ended = || NodeProposeError::Stopped(why.clone());
    assert_eq!(comes(node.propose(bytes("late"))).await, Err(ended()));
    assert_eq!(
        comes(node.propose_conf_change(&any_change())).await,
        Err(ended())
    );
    assert_eq!(
        comes(node.apply_conf_change(any_change())).await,
        Err(ApplyConfChangeError::Stopped(why.clone()))
    );
    assert_eq!(comes(node.status()).await, Err(why.clone()));
    assert_eq!(comes(node.advance()).await, Err(why.clone()));
    assert_eq!(comes(node.step(forwarded("late"))).await, Err(why.clone()));
    let body = Body::TimeoutNow;
    assert_eq!(comes(node.step(message(2, body))).await, Err(why.clone()));
    assert_eq!(comes(node.campaign()).await, Err(why.clone()));
    assert_eq!(comes(node.forget_leader()).await, Err(why.clone()));
    assert_eq!(comes(node.read_index(bytes("r"))).await, Err(why.clone()));
    let peer = node_id(2);
    assert_eq!(
        comes(node.transfer_leadership(peer)).await,
        Err(why.clone())
    );
    assert_eq!(comes(node.report_unreachable(peer)).await, Err(why.clone()));
    let outcome = SnapshotOutcome::Failed;
    assert_eq!(
        comes(node.report_snapshot(peer, outcome)).await,
        Err(why.clone())
    );
    assert_eq!(comes(node.stop()).await, *why);
    node.tick();
}

#[tokio::test(start_paused = true)]
async fn stopping_releases_everyone_who_waits() {
    let fixture = Fixture::start(2);
    let node = fixture.node.clone();
    let mut waiting = everybody_who_waits(&node, fixture.readys);
    for (who, task) in &mut waiting {
        assert!(waits(Pin::new(task)).await, "{who} waits");
    }
    assert_eq!(comes(node.stop()).await, shutdown());
    for (who, task) in waiting {
        assert_eq!(comes(task).await.unwrap(), shutdown(), "{who}");
    }
    everything_says(&node, &shutdown()).await;
}

/// With a request under way when the loop is told to stop, either comes first.
#[tokio::test(start_paused = true)]
async fn stopping_answers_requests_that_are_under_way() {
    for _ in 0..32 {
        let fixture = Fixture::leading_alone().await;
        let node = &fixture.node;
        let mut status = pin!(node.status());
        let mut change = pin!(node.apply_conf_change(any_change()));
        let mut proposal = pin!(node.propose(bytes("a")));
        assert!(poll!(status.as_mut()).is_pending());
        assert!(poll!(change.as_mut()).is_pending());
        assert!(poll!(proposal.as_mut()).is_pending());
        assert_eq!(comes(node.stop()).await, shutdown());
        if let Err(why) = comes(status).await {
            assert_eq!(why, shutdown());
        }
        if let Err(why) = comes(change).await {
            assert_eq!(why, ApplyConfChangeError::Stopped(shutdown()));
        }
        if let Err(why) = comes(proposal).await {
            assert_eq!(why, NodeProposeError::Stopped(shutdown()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_releases_who_waits_for_room() {
    let fixture = Fixture::start(2);
    let node = fixture.node.clone();
    // Many more than the channel holds while it is gated.
    let proposals = (0..5000).map(|n| node.propose(bytes(n)));
    let mut all = pin!(futures::future::join_all(proposals));
    assert!(waits(all.as_mut()).await);
    comes(node.stop()).await;
    let outcomes = comes(all).await;
    let ended = NodeProposeError::Stopped(shutdown());
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Err(ended.clone()))
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_while_a_ready_is_outstanding_ends_the_readys() {
    let mut fixture = Fixture::start(1);
    fixture.node.campaign().await.unwrap();
    let outstanding = fixture.next().await;
    assert!(outstanding.hard_state().is_some());
    comes(fixture.node.stop()).await;
    assert!(comes(fixture.readys.next()).await.is_none());
    assert!(comes(fixture.readys.next()).await.is_none());
    assert_eq!(comes(fixture.node.advance()).await, Err(shutdown()));
}

#[tokio::test(start_paused = true)]
async fn stopping_is_idempotent() {
    let fixture = Fixture::start(1);
    let other = fixture.node.clone();
    let both = async { tokio::join!(fixture.node.stop(), other.stop()) };
    assert_eq!(comes(both).await, (shutdown(), shutdown()));
    assert_eq!(comes(fixture.node.stop()).await, shutdown());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_cancelled_ends_the_node_all_the_same() {
    let mut fixture = Fixture::start(1);
    assert!(poll!(pin!(fixture.node.stop())).is_pending());
    assert!(comes(fixture.readys.next()).await.is_none());
    everything_says(&fixture.node, &shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let (fixture, storage) = Fixture::start_faulty(1);
    let Fixture {
        node, mut readys, ..
    } = fixture;
    let other = node.clone();
    drop(node);
    assert!(waits(pin!(readys.next())).await, "one handle is left");
    assert!(comes(other.status()).await.is_ok());
    drop(other);
    assert!(comes(readys.next()).await.is_none());
    assert_eq!(storage.owners(), 1, "the task gave its storage back");
}

/// The node breaks with `fault` while everybody waits, and all hear `why`.
async fn everybody_hears(fault: Fault, why: Stopped) {
    let (fixture, storage) = Fixture::start_faulty(2);
    let node = fixture.node.clone();
    let mut waiting = everybody_who_waits(&node, fixture.readys);
    for (who, task) in &mut waiting {
        assert!(waits(Pin::new(task)).await, "{who} waits");
    }
    storage.breaks(fault);
    // A candidate reads where its log ends.
    node.campaign().await.unwrap();
    for (who, task) in waiting {
        assert_eq!(comes(task).await.unwrap(), why, "{who}");
    }
    everything_says(&node, &why).await;
    assert_eq!(storage.owners(), 1, "the task gave its storage back");
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_everyone_who_waits() {
    everybody_hears(Fault::Panic, panicked()).await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_fails_ends_the_node_for_everyone_who_waits() {
    everybody_hears(Fault::Fail, storage_failed()).await;
}

/// A proposal makes the leader read its log, for what it sends to node 2.
async fn the_proposer_hears(fault: Fault, why: Stopped) {
    let (fixture, storage) = Fixture::leading_two_faulty().await;
    storage.breaks(fault);
    assert_eq!(
        comes(fixture.node.propose(bytes("a"))).await,
        Err(NodeProposeError::Stopped(why.clone()))
    );
    everything_says(&fixture.node, &why).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_proposer_who_set_it_off() {
    the_proposer_hears(Fault::Panic, panicked()).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_storage_reaches_the_proposer_who_met_it() {
    the_proposer_hears(Fault::Fail, storage_failed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_who_set_it_off_by_a_configuration_change() {
    let (fixture, storage) = Fixture::leading_two_faulty().await;
    storage.breaks(Fault::Panic);
    // Whoever is new is sent the log at once.
    let why = ApplyConfChangeError::Stopped(panicked());
    let applied = comes(fixture.node.apply_conf_change(any_change())).await;
    assert_eq!(applied, Err(why));
    everything_says(&fixture.node, &panicked()).await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_change_is_in_effect_though_the_storage_fails_after_it() {
    let (mut fixture, storage) = Fixture::leading_two_faulty().await;
    storage.breaks(Fault::Fail);
    let applied = comes(fixture.node.apply_conf_change(any_change())).await;
    assert!(applied.unwrap().contains(node_id(7)));
    assert!(comes(fixture.readys.next()).await.is_none());
    everything_says(&fixture.node, &storage_failed()).await;
}

/// A request that waits behind the one that breaks the node hears of it too.
#[tokio::test(start_paused = true)]
async fn a_panic_reaches_requests_that_were_queued_behind_it() {
    let (fixture, storage) = Fixture::leading_two_faulty().await;
    storage.breaks(Fault::Panic);
    let node = &fixture.node;
    let mut change = pin!(node.apply_conf_change(any_change()));
    let mut status = pin!(node.status());
    // In this order, in the same channel, and the loop has had no turn yet.
    assert!(poll!(change.as_mut()).is_pending());
    assert!(poll!(status.as_mut()).is_pending());
    assert_eq!(comes(status).await, Err(panicked()));
    let why = ApplyConfChangeError::Stopped(panicked());
    assert_eq!(comes(change).await, Err(why));
}
