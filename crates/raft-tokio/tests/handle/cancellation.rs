//! A call that is dropped, at any await.

use std::time::Duration;

use raft_tokio::ProposeError;

use crate::support::{Cluster, node_id};
use crate::{applied_commands, await_nothing_waits, poll_then_drop};

#[tokio::test(start_paused = true)]
async fn dropping_a_call_anywhere_loses_nothing_and_doubles_nothing() {
    const POLLS: usize = 24;
    let cluster = Cluster::start_with(3, |config| config.requests_waiting_max = 4).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut finished = Vec::new();
    let mut untouched = Vec::new();
    for polls in 0..POLLS {
        for raft in [&leader, &follower] {
            let name = |kind: &str| format!("{kind}/{polls}/{}", raft.id());
            let mut note = |name: String, is_done: bool| {
                if is_done {
                    finished.push(name);
                } else if polls == 0 {
                    untouched.push(name);
                }
            };
            let call = poll_then_drop(polls, raft.propose(name("plain"))).await;
            note(name("plain"), call.is_some_and(|outcome| outcome.is_ok()));
            let timeout = Duration::from_secs(1);
            let call = raft.propose_timeout(name("deadline"), timeout);
            let call = poll_then_drop(polls, call).await;
            note(
                name("deadline"),
                call.is_some_and(|outcome| outcome.is_ok()),
            );
            let call = raft.propose_in_term(raft.status().term, name("term"));
            let call = poll_then_drop(polls, call).await;
            note(name("term"), call.is_some_and(|outcome| outcome.is_ok()));
            let call = raft.propose_batch(vec![name("batch").into()]);
            let call = poll_then_drop(polls, call).await;
            note(name("batch"), call.is_some_and(|all| all[0].is_ok()));
            // Neither a read nor a place in the queue leaves anything behind.
            poll_then_drop(polls, raft.reserve()).await;
            poll_then_drop(polls, raft.query("len")).await;
            poll_then_drop(polls, raft.query_lease("len")).await;
            poll_then_drop(polls, raft.query_stale("len", Duration::ZERO)).await;
            poll_then_drop(polls, raft.read()).await;
            poll_then_drop(polls, raft.read_lease()).await;
            poll_then_drop(polls, raft.wait_for(|_| false)).await;
            poll_then_drop(polls, raft.snapshot()).await;
            poll_then_drop(polls, raft.set_peer(node_id(9), None)).await;
            poll_then_drop(polls, raft.remove(node_id(9))).await;
            poll_then_drop(polls, raft.promote(node_id(9))).await;
            poll_then_drop(polls, raft.move_member(node_id(9), name("there"))).await;
            poll_then_drop(polls, raft.transfer_leadership(node_id(9))).await;
        }
    }
    for raft in [&leader, &follower] {
        await_nothing_waits(raft).await;
    }
    let applied = applied_commands(&leader).await;
    for name in &untouched {
        assert!(!applied.contains(name), "{name} was never asked for");
    }
    for name in &finished {
        let times = applied.iter().filter(|other| *other == name).count();
        assert_eq!(times, 1, "{name}");
    }
    let mut different = applied.clone();
    different.sort();
    different.dedup();
    assert_eq!(
        different.len(),
        applied.len(),
        "something was applied twice"
    );
    // Long enough that calls came to their end, or nothing was shown.
    assert!(finished.len() > POLLS, "{}", finished.len());
    assert!(applied.len() > finished.len());
    leader.propose("still works").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_while_it_waited_is_never_applied() {
    let cluster = Cluster::start_with(3, |config| config.requests_waiting_max = 2).await;
    let raft = cluster.raft(1);
    // Nobody leads: these wait in the queue, and then in front of it.
    for n in 0..10 {
        assert!(
            poll_then_drop(3, raft.propose(format!("dropped {n}")))
                .await
                .is_none()
        );
        let late = Duration::from_millis(1);
        let outcome = raft.propose_timeout(format!("late {n}"), late).await;
        assert_eq!(outcome, Err(ProposeError::NotLeader { leader: None }));
    }
    raft.propose("kept").await.unwrap();
    assert_eq!(applied_commands(&raft).await, ["kept"]);
}
