//! A call that is dropped, at any await.

use std::pin::{Pin, pin};

use bytes::Bytes;
use futures::poll;
use raft_tokio::core::{Body, SnapshotOutcome, Term};
use raft_tokio::{ConfChange, ConfChangeType, Node};

use crate::dropped::{Dropped, drop_at_await};
use crate::support::{Fixture, bytes, comes, forwarded, message, node_id, quiet};

/// More than wait in front of the loop.
const MANY: usize = 5000;

/// Something to be asked of a node, of which only whether it is done matters.
type Call = Pin<Box<dyn Future<Output = ()>>>;

fn call<T>(node: &Node, ask: impl AsyncFn(&Node) -> T + 'static) -> Call {
    let node = node.clone();
    Box::pin(async move {
        ask(&node).await;
    })
}

/// What goes through the channel of inputs, and would be seen if it were done.
fn inputs(node: &Node) -> Vec<(&'static str, Call)> {
    vec![
        ("campaign", call(node, Node::campaign)),
        ("forget_leader", call(node, Node::forget_leader)),
        (
            "step",
            call(node, async |node| {
                let mut heartbeat = message(
                    2,
                    Body::Heartbeat {
                        commit: raft_tokio::LogIndex::ZERO,
                        context: Bytes::new(),
                    },
                );
                heartbeat.term = Term::new(9);
                node.step(heartbeat).await
            }),
        ),
        (
            "read_index",
            call(node, async |node| node.read_index(bytes("read")).await),
        ),
        (
            "transfer_leadership",
            call(node, async |node| {
                node.transfer_leadership(node_id(1)).await
            }),
        ),
        (
            "report_unreachable",
            call(node, async |node| node.report_unreachable(node_id(2)).await),
        ),
        (
            "report_snapshot",
            call(node, async |node| {
                node.report_snapshot(node_id(2), SnapshotOutcome::Failed)
                    .await
            }),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_while_it_waits_for_room_is_not_done() {
    let mut fixture = Fixture::following().await;
    let node = fixture.node.clone();
    let before = comes(node.status()).await.unwrap();
    // The loop gets no turn before the end of this.
    let dropped = tokio::task::unconstrained(async {
        let mut filling = Vec::new();
        for _ in 0..MANY {
            let mut report = Box::pin(node.report_unreachable(node_id(7)));
            if poll!(report.as_mut()).is_pending() {
                filling.push(report);
            }
        }
        assert!(!filling.is_empty(), "there is still room");
        let mut dropped = Vec::new();
        for (name, call) in inputs(&node) {
            let outcome = drop_at_await(1, Dropped::Waiting, call).await;
            assert!(outcome.is_none(), "{name} found room");
            dropped.push(name);
        }
        dropped
    });
    assert_eq!(dropped.await.len(), 7);
    assert!(fixture.has_no_ready().await);
    assert_eq!(comes(node.status()).await.unwrap(), before);
    // There is room again, and these are done.
    for (_, call) in inputs(&node) {
        comes(call).await;
    }
    quiet().await;
    assert_ne!(comes(node.status()).await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_proposal_that_is_dropped_is_made_once_or_never_and_never_after_the_gate() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        let mut awaits = 0;
        loop {
            let mut fixture = Fixture::leading_two(|_| {}).await;
            let node = fixture.node.clone();
            let last = fixture.last_index().await.get();
            let mut is_done = true;
            let calls: [Call; 3] = [
                call(&node, async |node| node.propose(bytes("local")).await),
                call(&node, async |node| node.step(forwarded("passed on")).await),
                call(&node, async |node| {
                    let change = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(7));
                    node.propose_conf_change(&change).await
                }),
            ];
            for call in calls {
                let done = drop_at_await(awaits, when, call).await.is_some();
                is_done &= done;
                if awaits == 1 && when == Dropped::Waiting {
                    quiet().await;
                    let now = fixture.last_index().await.get();
                    assert_eq!(now, last, "the loop had no turn before it was dropped");
                }
            }
            fixture.carry_out_all().await;
            let made = fixture.last_index().await.get() - last;
            assert!(made <= 3, "{made}");
            if is_done {
                assert_eq!(made, 3);
                break;
            }
            assert!(comes(node.propose(bytes("after"))).await.is_ok());
            awaits += 1;
        }
        assert!(awaits >= 2, "{awaits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_or_a_change_that_is_dropped_leaves_the_node_as_its_documentation_says() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        for awaits in 0..3 {
            let mut fixture = Fixture::leading_two(|_| {}).await;
            let node = fixture.node.clone();
            let before = comes(node.status()).await.unwrap();
            let _ = drop_at_await(awaits, when, node.status()).await;
            assert_eq!(comes(node.status()).await.unwrap(), before);

            let learner = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(7));
            let change = node.apply_conf_change(learner.clone());
            let _ = drop_at_await(awaits, when, change).await;
            let conf_state = comes(node.status()).await.unwrap().conf_state;
            // Once the loop has it, it is made, and making it again changes nothing.
            assert_eq!(conf_state.contains(node_id(7)), awaits > 0);
            let again = comes(node.apply_conf_change(learner)).await.unwrap();
            assert!(again.contains(node_id(7)));

            // Nothing is outstanding, so nothing is advanced.
            fixture.carry_out_all().await;
            let mut advance = pin!(drop_at_await(1, Dropped::Waiting, node.advance()));
            assert!(poll!(advance.as_mut()).is_ready());
            comes(node.propose(bytes("after"))).await.unwrap();
            // A Ready that was asked for by a wait that was dropped is not lost.
            let mut appends = Vec::new();
            if let Some(ready) = drop_at_await(awaits, when, fixture.readys.next()).await {
                appends = fixture.carry_out(ready.expect("the node runs")).appends();
                comes(node.advance()).await.unwrap();
            }
            appends.extend(fixture.carry_out_all().await.appends());
            assert_eq!(appends, [[bytes("after")]]);
        }
    }
}
