//! What the handle promises: outcomes that tell the truth, calls that end, and
//! nothing left behind. In memory, with the runtime's clock paused.

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    ChangeMembershipError, ProposeError, Raft, ReadError, RoleKind, Term, Unfit, Waiting,
};
use support::{Address, Cluster, node_id};
use tokio::time::Instant;

/// Polls a future so often, letting everybody else work in between, and drops
/// it.
async fn poll_then_drop<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn applied_commands(raft: &Raft) -> Vec<String> {
    let all = raft.query("all").await.unwrap();
    String::from_utf8(all.to_vec())
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

async fn await_nothing_waits(raft: &Raft) {
    let nothing = raft.wait_for(|status| status.waiting == Waiting::default());
    tokio::time::timeout(Duration::from_secs(60), nothing)
        .await
        .expect("nothing waits within a minute")
        .unwrap();
}

// ── outcomes ─────────────────────────────────────────────────────────────────

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
    let began = Instant::now();
    let outcome = follower.propose("applied").await.unwrap_err();
    assert_eq!(outcome, ProposeError::OutcomeUnknown);
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    cluster.network().heal();
    assert_eq!(applied_commands(&leader).await, ["applied"]);
    await_nothing_waits(&follower).await;
}

// ── cancellation ─────────────────────────────────────────────────────────────

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

// ── stalls ───────────────────────────────────────────────────────────────────

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_stalls_hands_over_and_does_not_campaign() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    old.propose("before").await.unwrap();
    assert!(old.health().is_ready(), "{:?}", old.health());
    cluster.disk(old.id()).stall();
    let during = old.try_propose("during").unwrap();
    let began = Instant::now();
    let new = cluster.leader_other_than(old.id()).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    new.propose("after").await.unwrap();
    let status = old.wait_for(|status| status.disk_stalled).await.unwrap();
    assert!(status.disk_lag >= Duration::from_secs(1), "{status:?}");
    assert!(status.health().is_live());
    assert!(!status.health().is_ready());
    assert!(
        matches!(status.health().reasons[0], Unfit::DiskStalled { .. }),
        "{:?}",
        status.health()
    );
    // Not even when it hears of nobody.
    cluster.network().isolate(old.id());
    let term = old.status().term;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(old.status().role, RoleKind::Follower);
        assert_eq!(old.status().term, term);
    }
    // Its callers have heard by now.
    assert!(during.await.is_err_and(|error| error.is_indeterminate()));
    cluster.network().heal();
    cluster.disk(old.id()).resume();
    old.wait_for(|status| !status.disk_stalled && status.applied >= new.status().applied)
        .await
        .unwrap();
    assert_eq!(applied_commands(&old).await, ["before", "during", "after"]);
    let back = old.wait_for(|status| status.health().is_ready()).await;
    assert!(back.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_disk_stalls_holds_nobody_up() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.disk(follower.id()).stall();
    for n in 0..50 {
        leader.propose(format!("{n}")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(leader.status().is_leader());
    assert!(follower.status().disk_stalled);
    cluster.disk(follower.id()).resume();
    assert_eq!(applied_commands(&follower).await.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn intake_stops_when_too_much_is_unapplied_and_heartbeats_go_on() {
    let cluster = Cluster::start_with(3, |config| config.unapplied_entries_max = 20).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let term = leader.status().term;
    let mut others = cluster.all();
    others.retain(|raft| raft.id() != leader.id());
    // Nothing can be committed, hence nothing be applied, and the leader hears
    // of everybody.
    for other in &others {
        cluster.disk(other.id()).stall();
    }
    let mut replies = Vec::new();
    for n in 0..20 {
        replies.push(leader.try_propose(format!("{n}")).unwrap());
    }
    leader.wait_for(|status| status.overloaded).await.unwrap();
    assert!(!leader.health().is_ready());
    assert!(leader.health().is_live());
    let refused = leader.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    // A request that was passed on is refused at once.
    let refused = follower.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    assert_eq!(
        (leader.status().role, leader.status().term),
        (RoleKind::Leader, term)
    );
    for other in &others {
        cluster.disk(other.id()).resume();
    }
    leader.wait_for(|status| !status.overloaded).await.unwrap();
    leader.propose("room again").await.unwrap();
    let applied = applied_commands(&leader).await;
    assert!(!applied.contains(&"too much".to_owned()));
    for reply in replies {
        assert!(reply.await.is_err_and(|error| error.is_indeterminate()));
    }
}

// ── the end ──────────────────────────────────────────────────────────────────

#[tokio::test(start_paused = true)]
async fn shutting_down_hands_over_and_finishes_what_was_taken() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let disks: Vec<_> = cluster
        .all()
        .iter()
        .map(|raft| cluster.disk(raft.id()).clone())
        .collect();
    for disk in &disks {
        disk.stall();
    }
    let mut replies = Vec::new();
    for n in 0..100 {
        replies.push(leader.try_propose(format!("{n}")).unwrap());
    }
    // They are in the log, and not committed before the disks are done.
    leader
        .wait_for(|status| status.waiting.proposals > 0)
        .await
        .unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for disk in disks {
            disk.resume();
        }
    });
    let began = Instant::now();
    leader.shutdown().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "no hand-over: {took:?}");
    for reply in replies {
        reply.await.unwrap();
    }
    let new = cluster.leader_other_than(leader.id()).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(applied_commands(&new).await.len(), 100);
    let refused = leader.propose("late").await.unwrap_err();
    assert!(refused.is_retryable() && !refused.is_indeterminate());
    // Again is the same.
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_after_a_shutdown_or_when_the_last_handle_is_gone() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await.propose("x").await.unwrap();
    assert!(tasks() > before);
    for id in 1..=2 {
        cluster.raft(id).shutdown().await;
    }
    cluster.drop_handles(3);
    let end = Instant::now() + Duration::from_secs(10);
    while tasks() > before {
        assert!(Instant::now() < end, "{} tasks are left", tasks() - before);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ── members ──────────────────────────────────────────────────────────────────

#[tokio::test(start_paused = true)]
async fn a_server_comes_listens_votes_and_goes() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("one").await.unwrap();
    let four = node_id(4);
    let joined = cluster.join(4).await;
    let address = "four:7000".to_owned();
    let members = leader
        .add_learner(four, Some(address.clone()))
        .await
        .unwrap();
    assert_eq!(members.learners, [four]);
    let again = leader.add_learner(four, None).await;
    assert_eq!(
        again,
        Err(ChangeMembershipError::AlreadyMember { id: four })
    );
    let members = leader.promote(four).await.unwrap();
    assert_eq!(members.voters.len(), 4);
    let again = leader.promote(four).await;
    assert_eq!(again, Err(ChangeMembershipError::AlreadyVoter { id: four }));
    assert_eq!(applied_commands(&joined).await, ["one"]);
    // Everybody knows the address.
    for id in 1..=3 {
        assert_eq!(cluster.address(id, four), Address::At(address.clone()));
    }
    let members = leader.remove(four).await.unwrap();
    assert_eq!(members.voters.len(), 3);
    let again = leader.remove(four).await;
    assert_eq!(again, Err(ChangeMembershipError::NotMember { id: four }));
    // It knows, and says so.
    let status = joined.wait_for(raft_tokio::ReplicaStatus::is_removed).await;
    assert!(!status.unwrap().health().is_ready());
    assert_eq!(joined.propose("x").await, Err(ProposeError::NotMember));
    assert_eq!(joined.query("len").await, Err(ReadError::NotMember));
    tokio::time::sleep(Duration::from_secs(2)).await;
    for id in 1..=3 {
        assert_eq!(cluster.address(id, four), Address::Forgotten);
    }
    leader.propose("two").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_gets_no_vote() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let nobody = node_id(4);
    leader.add_learner(nobody, None).await.unwrap();
    let refused = leader.promote(nobody).await.unwrap_err();
    assert!(
        matches!(refused, ChangeMembershipError::NotCaughtUp { id, .. } if id == nobody),
        "{refused}"
    );
    assert_eq!(leader.status().conf_state.learners, [nobody]);
    let stranger = leader.promote(node_id(9)).await.unwrap_err();
    assert_eq!(
        stranger,
        ChangeMembershipError::NotMember { id: node_id(9) }
    );
    let follower = cluster.follower().await;
    let refused = follower.promote(nobody).await.unwrap_err();
    let leader = Some(leader.id());
    assert_eq!(refused, ChangeMembershipError::NotLeader { leader });
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_the_place_of_another_in_one_step() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let old = cluster.follower().await.id();
    cluster.join(4).await;
    leader.add_learner(node_id(4), None).await.unwrap();
    let members = leader.replace(old, node_id(4)).await.unwrap();
    assert!(!members.is_joint());
    assert!(members.voters.contains(&node_id(4)));
    assert!(!members.voters.contains(&old));
    assert_eq!(members.voters.len(), 3);
    leader.propose("x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_whole_cluster_moves_to_other_servers() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("kept").await.unwrap();
    let new = [4, 5, 6].map(node_id);
    for id in new {
        cluster.join(id.get()).await;
    }
    let members = leader.set_members(&new, &[]).await.unwrap();
    assert_eq!(members.voters, new);
    assert!(members.learners.is_empty() && !members.is_joint());
    // The leader removed itself, so it leads no more.
    let now = cluster.leader_other_than(leader.id()).await;
    assert!(new.contains(&now.id()));
    assert_eq!(applied_commands(&now).await, ["kept"]);
    let same = now.set_members(&new, &[]).await.unwrap();
    assert_eq!(same.voters, new);
    let both = now.set_members(&new, &new[..1]).await.unwrap_err();
    assert_eq!(both, ChangeMembershipError::VoterAndLearner { id: new[0] });
}

#[tokio::test(start_paused = true)]
async fn a_transfer_by_a_leader_that_is_cut_off_ends() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.network().isolate(leader.id());
    let transfer = leader.transfer_leadership(follower.id());
    let outcome = tokio::time::timeout(Duration::from_secs(10), transfer).await;
    assert!(outcome.expect("it ends").is_err());
}

// ── reads ────────────────────────────────────────────────────────────────────

#[tokio::test(start_paused = true)]
async fn a_lease_answers_without_a_quorum_and_ends_before_anybody_else_leads() {
    let cluster = Cluster::start_with(3, |config| {
        config.lease_reads = true;
        // Clocks whose speed differs, within the bound.
        config.tick = Duration::from_millis(if config.id.get() == 1 { 104 } else { 96 });
    })
    .await;
    let old = cluster.raft(1);
    old.campaign().await.unwrap();
    old.wait_for(raft_tokio::ReplicaStatus::is_leader)
        .await
        .unwrap();
    let applied = old.propose("one").await.unwrap();
    assert_eq!(old.query_lease("len").await.unwrap(), "1");
    cluster.network().isolate(old.id());
    // The lease still holds.
    let began = Instant::now();
    assert_eq!(old.query_lease("len").await.unwrap(), "1");
    assert_eq!(old.read_lease().await.unwrap(), applied.index);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let reader = tokio::spawn({
        let old = old.clone();
        async move {
            let mut last = Instant::now();
            // Every few milliseconds a read that does not wait for a quorum.
            for _ in 0..600 {
                let read = old.query_lease("len");
                if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(1), read).await {
                    assert_eq!(length, "1");
                    last = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            last
        }
    });
    let new = cluster.leader_other_than(old.id()).await;
    let elected = Instant::now();
    new.propose("two").await.unwrap();
    let last = reader.await.unwrap();
    assert!(last < elected, "the lease overlapped with another leader");
    assert!(
        last > began + Duration::from_millis(500),
        "the lease was not used"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transfer_ends_the_lease_at_once() {
    let cluster = Cluster::start_with(3, |config| config.lease_reads = true).await;
    let old = cluster.leader().await;
    old.propose("one").await.unwrap();
    old.query_lease("len").await.unwrap();
    let to = cluster.follower().await;
    // The order to campaign is under way for as long as it is held.
    cluster.network().hold(old.id(), to.id());
    let transfer = tokio::spawn({
        let (old, to) = (old.clone(), to.id());
        async move { old.transfer_leadership(to).await }
    });
    old.wait_for(|status| status.transferee.is_some())
        .await
        .unwrap();
    cluster.network().isolate(old.id());
    let read = tokio::time::timeout(Duration::from_millis(50), old.query_lease("len"));
    assert!(
        read.await.is_err(),
        "a read was answered by a lease that may be void"
    );
    cluster.network().heal();
    cluster.network().release();
    let _ = transfer.await.unwrap();
    let leader = cluster.leader().await;
    assert_eq!(leader.query("len").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_is_as_fresh_as_asked_for_even_without_a_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    leader.propose("one").await.unwrap();
    let second = Duration::from_secs(1);
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "1");
    cluster.network().isolate(follower.id());
    leader.propose("two").await.unwrap();
    tokio::time::sleep(second / 2).await;
    // Old, but not too old.
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "1");
    tokio::time::sleep(3 * second).await;
    assert_eq!(follower.status().leader, None);
    assert_eq!(follower.query_stale("len", 10 * second).await.unwrap(), "1");
    // Too old: asks, and nobody answers.
    let began = Instant::now();
    let outcome = follower.query_stale("len", second).await;
    assert_eq!(outcome, Err(ReadError::Timeout));
    assert!(began.elapsed() < 6 * second);
    cluster.network().heal();
    cluster.leader().await;
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn reads_end_and_never_go_back_across_leader_changes_and_delays() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start_with(3, |config| config.lease_reads = config.id.get() < 9).await;
    let mut written = 0_usize;
    for _ in 0..25 {
        let leader = cluster.leader().await;
        if leader.propose(format!("{written}")).await.is_ok() {
            written += 1;
        }
        let (from, to) = (random.u64(1..=3), random.u64(1..=3));
        cluster.network().hold(node_id(from), node_id(to));
        if random.bool() {
            cluster.network().isolate(leader.id());
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..2500))).await;
        cluster.network().release();
        let reads: Vec<_> = cluster
            .all()
            .into_iter()
            .map(|raft| {
                let by_lease = random.bool();
                tokio::spawn(async move {
                    if by_lease {
                        raft.query_lease("len").await
                    } else {
                        raft.query("len").await
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
        cluster.network().heal();
        for read in reads {
            let read = tokio::time::timeout(Duration::from_secs(10), read);
            let outcome = read.await.expect("every read ends").unwrap();
            if let Ok(length) = outcome {
                let length: usize = std::str::from_utf8(&length).unwrap().parse().unwrap();
                assert!(length >= written, "{length} of {written}");
            }
        }
        // What was unknown then is known now.
        let leader = cluster.leader().await;
        if let Ok(length) = leader.query("len").await {
            written = std::str::from_utf8(&length).unwrap().parse().unwrap();
        }
    }
    assert!(written > 5);
}
