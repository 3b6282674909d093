//! `recvc`, `controlc`, `tickc`: what comes in from outside.

use bytes::Bytes;
use raft_tokio::core::{AppendResponse, Body, ConfChangeError, RoleKind, Term};
use raft_tokio::{ApplyConfChangeError, ConfChange, ConfChangeType, LogIndex};

use crate::support::{Fixture, append_after, bytes, comes, node_id};
use crate::traces::Traces;

/// Ticks that the channel holds, as in etcd.
const TICKS_WAITING_MAX: usize = 128;

#[tokio::test(start_paused = true)]
async fn ticks_beyond_what_waits_are_dropped_with_a_warning() {
    let traces = Traces::listen();
    let mut fixture = Fixture::leading_two(|_| {}).await;
    traces.take();
    // The loop gets no turn in between, so all of them wait.
    for _ in 0..TICKS_WAITING_MAX {
        fixture.node.tick();
    }
    assert_eq!(traces.take(), "");
    for _ in 0..5 {
        fixture.node.tick();
    }
    let said = traces.take();
    let warnings = said.lines().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.count(), 5, "{said}");
    assert!(said.contains("a tick was dropped"), "{said}");
    // The leader sends a heartbeat with every tick that reached it.
    let carried = fixture.carry_out_all().await;
    assert_eq!(carried.heartbeats(), TICKS_WAITING_MAX);
    fixture.node.tick();
    assert_eq!(fixture.carry_out_all().await.heartbeats(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tick_on_a_stopped_node_does_nothing() {
    let traces = Traces::listen();
    let fixture = Fixture::start(1);
    comes(fixture.node.stop()).await;
    traces.take();
    for _ in 0..=TICKS_WAITING_MAX {
        fixture.node.tick();
    }
    assert_eq!(traces.take(), "");
}

#[tokio::test(start_paused = true)]
async fn ticks_lead_to_an_election() {
    let mut fixture = Fixture::start(1);
    for _ in 0..20 {
        fixture.node.tick();
    }
    fixture.carry_out_all().await;
    let status = comes(fixture.node.status()).await.unwrap();
    assert_eq!(status.soft_state.role, RoleKind::Leader);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_stranger_is_dropped_without_a_word() {
    let traces = Traces::listen();
    let mut fixture = Fixture::leading_two(|_| {}).await;
    comes(fixture.node.propose(bytes("a"))).await.unwrap();
    fixture.carry_out_all().await;
    let before = comes(fixture.node.status()).await.unwrap();
    traces.take();
    let matched = LogIndex::new(2);
    let acknowledge = Body::AppendResponse(AppendResponse::Accepted { matched });
    fixture.hear(9, acknowledge.clone()).await;
    fixture
        .hear(
            9,
            Body::HeartbeatResponse {
                context: Bytes::new(),
            },
        )
        .await;
    assert!(fixture.has_no_ready().await);
    assert_eq!(comes(fixture.node.status()).await.unwrap(), before);
    assert_eq!(traces.take(), "");
    // The same words of a member count.
    fixture.hear(2, acknowledge).await;
    let carried = fixture.carry_out_all().await;
    assert_eq!(carried.applied, [bytes("a")]);
}

#[tokio::test(start_paused = true)]
async fn what_no_correct_peer_sends_changes_nothing_and_leaves_a_trace() {
    let traces = Traces::listen();
    let mut fixture = Fixture::following().await;
    let before = comes(fixture.node.status()).await.unwrap();
    let mut for_another = append_after(raft_tokio::EntryId::new(Term::ZERO, LogIndex::ZERO));
    for_another.to = node_id(2);
    traces.take();
    fixture.node.step(for_another).await.unwrap();
    assert!(fixture.has_no_ready().await);
    assert_eq!(comes(fixture.node.status()).await.unwrap(), before);
    let said = traces.take();
    assert!(said.contains("a message was not taken"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_impossible_configuration_change_is_an_error_and_changes_nothing() {
    let fixture = Fixture::leading_two(|_| {}).await;
    let before = comes(fixture.node.status()).await.unwrap();
    let leave = ConfChange::leave_joint();
    assert_eq!(
        comes(fixture.node.apply_conf_change(leave)).await,
        Err(ApplyConfChangeError::Invalid(ConfChangeError::NotJoint))
    );
    let alone = Fixture::leading_alone().await;
    let remove = ConfChange::single(ConfChangeType::RemoveNode, node_id(1));
    assert_eq!(
        comes(alone.node.apply_conf_change(remove)).await,
        Err(ApplyConfChangeError::Invalid(ConfChangeError::NoVotersLeft))
    );
    assert_eq!(comes(fixture.node.status()).await.unwrap(), before);
    // And a possible one is made.
    let add = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(3));
    let conf_state = comes(fixture.node.apply_conf_change(add)).await.unwrap();
    assert_eq!(conf_state.learners, [node_id(3)]);
    let after = comes(fixture.node.status()).await.unwrap();
    assert_eq!(after.conf_state, conf_state);
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_what_the_node_is_doing() {
    let mut fixture = Fixture::leading_two(|_| {}).await;
    comes(fixture.node.propose(bytes("a"))).await.unwrap();
    fixture.carry_out_all().await;
    let status = comes(fixture.node.status()).await.unwrap();
    assert_eq!(status.id, node_id(1));
    assert_eq!(status.soft_state.role, RoleKind::Leader);
    assert_eq!(status.soft_state.leader, Some(node_id(1)));
    assert_eq!(status.hard_state.term, Term::new(1));
    assert_eq!(status.hard_state.commit, LogIndex::new(1));
    assert_eq!(status.applied, LogIndex::new(1));
    assert_eq!(status.last_index, LogIndex::new(2));
    let known: Vec<u64> = status.progress.iter().map(|(id, _)| id.get()).collect();
    assert_eq!(known, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_read_is_confirmed_with_a_ready() {
    let mut fixture = Fixture::leading_alone().await;
    fixture.node.read_index(bytes("read")).await.unwrap();
    let ready = fixture.next().await;
    assert_eq!(ready.read_states.len(), 1);
    assert_eq!(ready.read_states[0].context, bytes("read"));
    assert_eq!(ready.read_states[0].index, LogIndex::new(1));
}
