//! `propc`: who may propose when, and what becomes of proposals that waited.

use std::pin::pin;

use futures::future::join_all;
use futures::poll;
use raft_tokio::core::{Body, ConfChangeRefusal, ProposeError, Proposed};
use raft_tokio::{ConfChange, ConfChangeType, LogIndex, NodeProposeError};

use crate::support::{Fixture, bytes, comes, forwarded, node_id, waits};

fn index_of(proposed: &Proposed) -> u64 {
    match proposed {
        Proposed::Appended { first, last, .. } => {
            assert_eq!(first, last, "each caller hears of its own entry");
            first.get()
        }
        Proposed::Forwarded { .. } => panic!("{proposed:?} instead of an index"),
    }
}

fn change(change_type: ConfChangeType, id: u64) -> ConfChange {
    ConfChange::single(change_type, node_id(id))
}

#[tokio::test(start_paused = true)]
async fn a_proposal_waits_for_the_first_leader() {
    let mut fixture = Fixture::start(1);
    let node = fixture.node.clone();
    let mut proposal = pin!(node.propose(bytes("early")));
    assert!(waits(proposal.as_mut()).await);
    fixture.node.campaign().await.unwrap();
    // The candidate must write its vote before it leads.
    assert!(waits(proposal.as_mut()).await);
    fixture.carry_out_all().await;
    let proposed = comes(proposal).await.unwrap();
    assert_eq!(index_of(&proposed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_proposal_waits_until_a_leader_is_heard_of_and_is_passed_on() {
    let mut fixture = Fixture::start(2);
    let node = fixture.node.clone();
    let mut proposal = pin!(node.propose(bytes("early")));
    assert!(waits(proposal.as_mut()).await);
    fixture.hear_leader().await;
    let to = node_id(2);
    assert_eq!(comes(proposal).await, Ok(Proposed::Forwarded { to }));
    let carried = fixture.carry_out_all().await;
    let passed_on = |body: &Body| matches!(body, Body::Propose { .. });
    assert!(carried.messages.iter().any(|m| passed_on(&m.body)));
}

#[tokio::test(start_paused = true)]
async fn proposals_wait_once_the_leader_is_forgotten() {
    let mut fixture = Fixture::following().await;
    let node = fixture.node.clone();
    assert!(comes(node.propose(bytes("before"))).await.is_ok());
    node.forget_leader().await.unwrap();
    let mut proposal = pin!(node.propose(bytes("after")));
    assert!(waits(proposal.as_mut()).await);
    fixture.hear_leader().await;
    assert!(comes(proposal).await.is_ok());
    fixture.carry_out_all().await;
}

/// Both are taken in the same turn, in either order: none of them may come back
/// as refused for want of a leader.
#[tokio::test(start_paused = true)]
async fn a_gate_that_closes_while_proposals_come_in_refuses_none() {
    for _ in 0..32 {
        let fixture = Fixture::following().await;
        let node = fixture.node.clone();
        let mut forget = pin!(node.forget_leader());
        let mut proposal = pin!(node.propose(bytes("just in time")));
        assert!(poll!(forget.as_mut()).is_ready());
        let mut passed_on = pin!(node.step(forwarded("just in time")));
        assert!(poll!(proposal.as_mut()).is_pending());
        assert!(poll!(passed_on.as_mut()).is_pending());
        assert!(waits(proposal.as_mut()).await);
        assert!(waits(passed_on.as_mut()).await);
        fixture.hear_leader().await;
        assert!(comes(proposal).await.is_ok());
        assert!(comes(passed_on).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_takes_none_until_it_is_added_again_under_the_same_leader() {
    let mut fixture = Fixture::following().await;
    let node = fixture.node.clone();
    comes(node.apply_conf_change(change(ConfChangeType::RemoveNode, 1)))
        .await
        .unwrap();
    let mut proposal = pin!(node.propose(bytes("removed")));
    assert!(waits(proposal.as_mut()).await);
    // Hearing of the leader does not open it either.
    fixture.hear_leader().await;
    assert!(waits(proposal.as_mut()).await);
    comes(node.apply_conf_change(change(ConfChangeType::AddNode, 1)))
        .await
        .unwrap();
    assert!(comes(proposal).await.is_ok());
    fixture.carry_out_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_removed_and_leads_on_takes_none_until_it_is_added_again() {
    let fixture = Fixture::leading_two(|config| config.step_down_on_removal = false).await;
    let node = fixture.node.clone();
    comes(node.apply_conf_change(change(ConfChangeType::RemoveNode, 1)))
        .await
        .unwrap();
    let mut proposal = pin!(node.propose(bytes("removed")));
    assert!(waits(proposal.as_mut()).await);
    let status = comes(node.status()).await.unwrap();
    assert_eq!(status.soft_state.leader, Some(node_id(1)));
    comes(node.apply_conf_change(change(ConfChangeType::AddNode, 1)))
        .await
        .unwrap();
    assert_eq!(index_of(&comes(proposal).await.unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_learner_proposes() {
    let fixture = Fixture::following().await;
    let node = fixture.node.clone();
    comes(node.apply_conf_change(change(ConfChangeType::AddLearnerNode, 1)))
        .await
        .unwrap();
    assert!(comes(node.propose(bytes("learner"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_proposal_whose_caller_gave_up_while_it_waited_is_not_made() {
    let mut fixture = Fixture::start(1);
    {
        let mut given_up = pin!(fixture.node.propose(bytes("given up")));
        let mut passed_on = pin!(fixture.node.step(forwarded("given up too")));
        assert!(waits(given_up.as_mut()).await);
        assert!(waits(passed_on.as_mut()).await);
    }
    let node = fixture.node.clone();
    let mut wanted = pin!(node.propose(bytes("wanted")));
    assert!(waits(wanted.as_mut()).await);
    fixture.node.campaign().await.unwrap();
    let carried = fixture.carry_out_all().await;
    comes(wanted).await.unwrap();
    assert_eq!(carried.applied, [bytes(""), bytes("wanted")]);
}

#[tokio::test(start_paused = true)]
async fn proposals_that_queued_up_at_the_leader_become_one_append() {
    let mut fixture = Fixture::leading_two(|_| {}).await;
    let wanted: Vec<_> = (0..50).map(bytes).collect();
    let node = fixture.node.clone();
    let all = join_all(wanted.iter().map(|data| node.propose(data.clone())));
    let proposed = comes(all).await;
    let indexes: Vec<u64> = proposed
        .iter()
        .map(|p| index_of(p.as_ref().unwrap()))
        .collect();
    assert_eq!(indexes, (2..52).collect::<Vec<u64>>());
    let carried = fixture.carry_out_all().await;
    assert_eq!(carried.appends(), [wanted]);
}

#[tokio::test(start_paused = true)]
async fn proposals_that_waited_for_a_leader_are_passed_on_in_one_message() {
    let mut fixture = Fixture::start(2);
    let node = fixture.node.clone();
    let mut all = pin!(join_all((0..50).map(|n| node.propose(bytes(n)))));
    assert!(waits(all.as_mut()).await);
    fixture.hear_leader().await;
    assert!(comes(all).await.iter().all(Result::is_ok));
    let carried = fixture.carry_out_all().await;
    let batches: Vec<usize> = carried
        .messages
        .iter()
        .filter_map(|message| match &message.body {
            Body::Propose { proposals } => Some(proposals.len()),
            _ => None,
        })
        .collect();
    assert_eq!(batches, [50]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_over_the_quota_lets_the_small_ones_through() {
    let mut fixture = Fixture::leading_two(|config| config.uncommitted_bytes_max = 100).await;
    let node = fixture.node.clone();
    // The first one goes in whatever its size.
    comes(node.propose(bytes("x".repeat(10)))).await.unwrap();
    let sizes = [60, 80, 30];
    let all = join_all(sizes.map(|size| node.propose(bytes("y".repeat(size)))));
    let outcomes = comes(all).await;
    let bytes_max = 100;
    let refused = NodeProposeError::Refused(ProposeError::QuotaExceeded { bytes_max });
    assert_eq!(index_of(outcomes[0].as_ref().unwrap()), 3);
    assert_eq!(outcomes[1], Err(refused));
    assert_eq!(index_of(outcomes[2].as_ref().unwrap()), 4);
    fixture.carry_out_all().await;
    // What is applied makes room.
    fixture.acknowledge(4).await;
    assert_eq!(fixture.carry_out_all().await.applied.len(), 3);
    assert!(comes(node.propose(bytes("y".repeat(80)))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refused_configuration_change_is_told_to_its_caller_only() {
    let fixture = Fixture::leading_two(|_| {}).await;
    let node = fixture.node.clone();
    let leave = ConfChange::leave_joint();
    let (before, refused, after) = comes(async {
        tokio::join!(
            node.propose(bytes("before")),
            node.propose_conf_change(&leave),
            node.propose(bytes("after")),
        )
    })
    .await;
    let refusal = |proposed: Result<Proposed, _>| match proposed.unwrap() {
        Proposed::Appended { refused, .. } => refused,
        Proposed::Forwarded { .. } => panic!("this node leads"),
    };
    assert_eq!(refusal(before), None);
    assert_eq!(refusal(refused), Some(ConfChangeRefusal::NotJoint));
    assert_eq!(refusal(after), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_not_a_wait() {
    let fixture = Fixture::leading_two(|_| {}).await;
    fixture.node.transfer_leadership(node_id(2)).await.unwrap();
    // Until the node has taken the request.
    let transfers = async {
        while comes(fixture.node.status())
            .await
            .unwrap()
            .transferee
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    };
    comes(transfers).await;
    let to = node_id(2);
    let refused = NodeProposeError::Refused(ProposeError::TransferInProgress { to });
    assert_eq!(
        comes(fixture.node.propose(bytes("now"))).await,
        Err(refused)
    );
    assert_eq!(fixture.last_index().await, LogIndex::new(1));
}

#[tokio::test(start_paused = true)]
async fn a_peers_proposal_waits_for_a_leader_like_a_local_one() {
    let mut fixture = Fixture::start(1);
    let node = fixture.node.clone();
    let mut passed_on = pin!(node.step(forwarded("from afar")));
    assert!(waits(passed_on.as_mut()).await);
    fixture.node.campaign().await.unwrap();
    let carried = fixture.carry_out_all().await;
    comes(passed_on).await.unwrap();
    assert_eq!(carried.applied, [bytes(""), bytes("from afar")]);
}

#[tokio::test(start_paused = true)]
async fn a_proposal_is_in_the_readys_entries_where_its_caller_was_told() {
    let mut fixture = Fixture::leading_alone().await;
    let node = fixture.node.clone();
    // Two that come in the same turn become one append.
    let both = async { tokio::join!(node.propose(bytes("a")), node.propose(bytes("b"))) };
    let (a, b) = comes(both).await;
    let ready = fixture.next().await;
    let found: Vec<_> = ready
        .entries()
        .iter()
        .map(|entry| (entry.index().get(), entry.data().clone()))
        .collect();
    let told = [
        (index_of(&a.unwrap()), bytes("a")),
        (index_of(&b.unwrap()), bytes("b")),
    ];
    assert_eq!(found, told);
}
