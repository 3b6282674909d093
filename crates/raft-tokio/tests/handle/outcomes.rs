//! Every call ends, and says what it knows.

use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{ProposeError, Term};
use tokio::time::Instant;

use crate::support::Cluster;
use crate::{applied_commands, await_nothing_waits};

#[tokio::test(start_paused = true)]
async fn a_permit_takes_the_command_or_gives_it_back() {
    let cluster = Cluster::start_with(3, |config| config.command_bytes_max = 10).await;
    let leader = cluster.leader().await;
    let reply = leader.reserve().await.unwrap().propose("one").unwrap();
    assert_eq!(reply.await.unwrap().reply, "1:one");
    let refused = leader.reserve().await.unwrap().propose("").unwrap_err();
    assert_eq!(refused.error, ProposeError::Empty);
    let long = Bytes::from_static(b"twelve bytes");
    let refused = leader.reserve().await.unwrap().propose(long.clone());
    let refused = refused.unwrap_err();
    assert_eq!(refused.command, long);
    assert_eq!(
        refused.error,
        ProposeError::TooLarge {
            bytes: 12,
            bytes_max: 10
        }
    );
    assert_eq!(applied_commands(&leader).await, ["one"]);
    leader.shutdown().await;
    assert!(leader.reserve().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_the_command_back() {
    let cluster = Cluster::start_with(3, |config| config.requests_waiting_max = 2).await;
    let raft = cluster.raft(1);
    // Nobody leads yet, so requests wait.
    let waiting = [
        raft.try_propose("a").unwrap(),
        raft.try_propose("b").unwrap(),
    ];
    let refused = raft.try_propose("c").unwrap_err();
    assert_eq!(refused.command, "c");
    assert_eq!(refused.error, ProposeError::QueueFull);
    for reply in waiting {
        reply.await.unwrap();
    }
    assert_eq!(applied_commands(&raft).await, ["a", "b"]);
    raft.shutdown().await;
    let refused = raft.try_propose("d").unwrap_err();
    assert!(matches!(refused.error, ProposeError::Stopped(_)));
}

#[tokio::test(start_paused = true)]
async fn large_commands_wait_for_room_in_bytes() {
    let cluster = Cluster::start_with(3, |config| {
        config.requests_waiting_max = 8;
        config.requests_bytes_max = 16 * 1024;
    })
    .await;
    let raft = cluster.raft(1);
    let large = Bytes::from(vec![b'x'; 10 * 1024]);
    let first = raft.try_propose(large.clone()).unwrap();
    let refused = raft.try_propose(large.clone()).unwrap_err();
    assert_eq!(refused.error, ProposeError::QueueFull);
    let small = raft.try_propose("small").unwrap();
    // Waits until the first is taken, and goes.
    raft.propose(large).await.unwrap();
    first.await.unwrap();
    small.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_append_and_every_command_has_its_own_outcome() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let commands = ["a", "", "b", "c"].map(Bytes::from).to_vec();
    let outcomes = leader.propose_batch(commands).await;
    assert_eq!(outcomes[1], Err(ProposeError::Empty));
    let indexes: Vec<u64> = [0, 2, 3]
        .map(|at: usize| outcomes[at].as_ref().unwrap().index.get())
        .to_vec();
    assert_eq!(indexes[1], indexes[0] + 1);
    assert_eq!(indexes[2], indexes[0] + 2);
    assert_eq!(applied_commands(&leader).await, ["a", "b", "c"]);
    assert!(leader.propose_batch(Vec::new()).await.is_empty());
    // A follower passes each on.
    let follower = cluster.follower().await;
    let commands = ["d", "e"].map(Bytes::from).to_vec();
    for outcome in follower.propose_batch(commands).await {
        outcome.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_tied_to_a_term_is_applied_in_that_term_or_never() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.status().term;
    let applied = leader.propose_in_term(term, "now").await.unwrap();
    assert_eq!(applied.term, term);
    let wanted = Term::new(term.get() - 1);
    let refused = ProposeError::OtherTerm { wanted, term };
    assert_eq!(leader.propose_in_term(wanted, "then").await, Err(refused));
    let follower = cluster.follower().await;
    let refused = ProposeError::OtherTerm { wanted: term, term };
    assert_eq!(follower.propose_in_term(term, "there").await, Err(refused));
    assert_eq!(applied_commands(&leader).await, ["now"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_says_whether_the_command_was_proposed() {
    let cluster = Cluster::start(3).await;
    let short = Duration::from_millis(150);
    let raft = cluster.raft(1);
    // Nobody leads yet.
    let outcome = raft.propose_timeout("never", short).await.unwrap_err();
    assert_eq!(outcome, ProposeError::NotLeader { leader: None });
    let leader = cluster.leader().await;
    leader.propose_timeout("in time", short).await.unwrap();
    cluster.network().isolate(leader.id());
    let began = Instant::now();
    let outcome = leader.propose_timeout("perhaps", short).await.unwrap_err();
    assert_eq!(outcome, ProposeError::OutcomeUnknown);
    assert_eq!(began.elapsed(), short);
    let other = cluster.leader_other_than(leader.id()).await;
    assert_eq!(applied_commands(&other).await, ["in time"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_passed_on_and_is_cut_off_is_unknown_in_bounded_time() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    // The leader gets it, and its answer is lost.
    cluster.network().cut(leader.id(), follower.id());
    let proposed = follower.propose("applied");
    let outcome = tokio::time::timeout(Duration::from_secs(6), proposed).await;
    let outcome = outcome.expect("it is told in bounded time").unwrap_err();
    assert_eq!(outcome, ProposeError::OutcomeUnknown);
    cluster.network().heal();
    assert_eq!(applied_commands(&leader).await, ["applied"]);
    await_nothing_waits(&follower).await;
}
