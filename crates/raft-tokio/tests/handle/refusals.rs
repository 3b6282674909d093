//! Every way in which a call can be refused is one in which some call is, and the
//! refusal says what is the case.

use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::ConfChangeRefusal;
use raft_tokio::{
    BoxError, ChangeMembershipError, ConfChange, ConfChangeSingle, ConfChangeTransition,
    ConfChangeType, LogIndex, MemoryLogStore, MemoryNetwork, ProposeError, Raft, RaftConfig,
    ReadError, SnapshotJob, SnapshotReader, StartError, StateMachine, TransferError,
};
use tokio::time::timeout;

use crate::support::{Cluster, node_id};
use crate::{applied_commands, await_nothing_waits};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_proposal_whose_place_another_leader_took_was_superseded() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    cluster.network().isolate(old.id());
    let lost = old.try_propose("lost").unwrap();
    let new = cluster.leader_other_than(old.id()).await;
    new.propose("kept").await.unwrap();
    cluster.network().heal();
    let outcome = timeout(PATIENCE, lost).await.expect("it ends");
    let refused = outcome.unwrap_err();
    assert_eq!(refused, ProposeError::Superseded);
    assert!(refused.is_retryable() && !refused.is_indeterminate());
    assert_eq!(applied_commands(&old).await, ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn while_leadership_is_handed_over_proposals_are_refused_and_the_last_order_counts() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3)
        .map(node_id)
        .filter(|id| *id != leader.id())
        .collect();
    // It does not hear of it, and the leader hears of a majority.
    cluster.network().hold(leader.id(), others[0]);
    let failed = leader.transfer_leadership(others[0]);
    let failed = timeout(PATIENCE, failed).await.expect("it ends");
    assert_eq!(failed, Err(TransferError::Failed { to: others[0] }));
    let first = tokio::spawn({
        let (leader, to) = (leader.clone(), others[0]);
        async move { leader.transfer_leadership(to).await }
    });
    leader
        .wait_for(|status| status.transferee == Some(others[0]))
        .await
        .unwrap();
    let refused = leader.propose("x").await.unwrap_err();
    assert_eq!(refused, ProposeError::TransferInProgress { to: others[0] });
    assert!(refused.is_retryable() && !refused.is_indeterminate());
    let second = leader.transfer_leadership(others[1]);
    let second = timeout(PATIENCE, second).await.expect("it ends");
    assert_eq!(second, Ok(()));
    assert_eq!(first.await.unwrap(), Err(TransferError::Superseded));
    cluster.network().release();
    cluster.network().heal();

    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let known = Some(leader.id());
    let refused = follower.transfer_leadership(leader.id()).await;
    assert_eq!(refused, Err(TransferError::NotLeader { leader: known }));
    leader.shutdown().await;
    let refused = leader.transfer_leadership(follower.id()).await;
    assert!(matches!(refused, Err(TransferError::Stopped(_))));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_passes_nothing_on_says_who_leads() {
    let cluster = Cluster::start_with(3, |config| config.forwarding = false).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let refused = follower.propose("x").await.unwrap_err();
    let known = Some(leader.id());
    assert_eq!(refused, ProposeError::NotLeader { leader: known });
    assert!(refused.is_retryable());
    // Reads are the protocol's own, and work.
    assert_eq!(follower.query("len").await.unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn reads_beyond_the_limit_are_refused_and_those_of_a_stopped_replica_say_so() {
    let cluster = Cluster::start_with(3, |config| config.reads_waiting_max = 2).await;
    let leader = cluster.leader().await;
    cluster.network().isolate(leader.id());
    let reads = (0..5).map(|_| leader.query("len"));
    let outcomes = timeout(PATIENCE, futures::future::join_all(reads)).await;
    let outcomes = outcomes.expect("all end");
    let full = outcomes.iter().filter(|o| **o == Err(ReadError::QueueFull));
    assert_eq!(full.count(), 3);
    let late = outcomes.iter().filter(|o| **o == Err(ReadError::Timeout));
    assert_eq!(late.count(), 2);
    let stale = |age| leader.query_stale("len", Duration::from_secs(age));
    let (first, second, third) = tokio::join!(stale(0), stale(0), stale(0));
    assert_eq!(first, Err(ReadError::Timeout));
    assert_eq!(second, Err(ReadError::Timeout));
    assert_eq!(third, Err(ReadError::QueueFull));
    cluster.network().heal();
    await_nothing_waits(&leader).await;
    leader.shutdown().await;
    for refused in [
        leader.query("len").await.unwrap_err(),
        leader.query_lease("len").await.unwrap_err(),
        stale(1).await.unwrap_err(),
        leader.read().await.unwrap_err(),
        leader.read_lease().await.unwrap_err(),
    ] {
        assert!(matches!(refused, ReadError::Stopped(_)), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_cannot_be_made_now_or_ever_say_which() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (four, five) = (node_id(4), node_id(5));
    let bad = leader.add_learner(four, Some("x".repeat(513))).await;
    assert_eq!(bad, Err(ChangeMembershipError::BadAddress { id: four }));
    let bad = leader.move_member(node_id(1), String::new()).await;
    let one = node_id(1);
    assert_eq!(bad, Err(ChangeMembershipError::BadAddress { id: one }));
    // One at a time.
    let (first, second) = tokio::join!(
        leader.add_learner(four, None),
        leader.add_learner(five, None)
    );
    assert!(first.unwrap().learners.contains(&four));
    let pending = second.unwrap_err();
    assert!(
        matches!(
            pending,
            ChangeMembershipError::Refused(ConfChangeRefusal::Pending { .. })
        ),
        "{pending}"
    );
    // Nothing but leaving while two majorities are needed.
    let explicit = ConfChange {
        transition: ConfChangeTransition::JointExplicit,
        changes: vec![ConfChangeSingle::new(ConfChangeType::AddLearnerNode, five)],
        ..ConfChange::default()
    };
    let joint = leader.change_membership(explicit).await.unwrap();
    assert!(joint.is_joint());
    let refused = leader.remove(four).await;
    let must_leave = ChangeMembershipError::Refused(ConfChangeRefusal::MustLeaveJoint);
    assert_eq!(refused, Err(must_leave));
    let left = leader.change_membership(ConfChange::leave_joint()).await;
    assert!(!left.unwrap().is_joint());
    let refused = leader.change_membership(ConfChange::leave_joint()).await;
    let not_joint = ChangeMembershipError::Refused(ConfChangeRefusal::NotJoint);
    assert_eq!(refused, Err(not_joint));
    // As many addresses as fit.
    let mut full = None;
    for number in 10..200 {
        let id = node_id(number);
        match leader.add_learner(id, Some("x".repeat(512))).await {
            Ok(_) => {}
            Err(error) => {
                full = Some((id, error));
                break;
            }
        }
    }
    let (id, error) = full.expect("64 KiB are full");
    assert_eq!(error, ChangeMembershipError::TooManyAddresses { id });
    // Who is cut off does not know, and who has stopped refuses.
    cluster.network().isolate(leader.id());
    let unknown = timeout(PATIENCE, leader.remove(four))
        .await
        .expect("it ends");
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown, ProposeError::OutcomeUnknown.into());
    leader.shutdown().await;
    let stopped = leader.remove(four).await.unwrap_err();
    assert!(matches!(
        stopped,
        ChangeMembershipError::Propose(ProposeError::Stopped(_))
    ));
}

/// What goes wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Snapshot,
    Restore,
    LongReply,
}

#[derive(Debug)]
struct Faulty(Fault);

/// More than is passed on.
const LONG_BYTES: usize = 57 << 20;

impl StateMachine for Faulty {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        match self.0 {
            Fault::LongReply => Bytes::from(vec![b'r'; LONG_BYTES]),
            _ => Bytes::new(),
        }
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&mut self) -> SnapshotJob {
        match self.0 {
            Fault::Snapshot => SnapshotJob::new(|_| Err("there is no room".into())),
            _ => SnapshotJob::bytes("state"),
        }
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        snapshot.read_whole()?;
        match self.0 {
            Fault::Restore => Err("it is of another version".into()),
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_passed_on_says_that_the_command_was_applied() {
    let cluster = Cluster::start_of(3, |_| {}, || Faulty(Fault::LongReply)).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let outcome = follower.propose("x").await.unwrap_err();
    let ProposeError::ReplyTooLong { index, bytes } = outcome else {
        panic!("{outcome}");
    };
    assert_eq!(bytes, LONG_BYTES as u64);
    // To who has no reply it is as good as unknown.
    assert!(!outcome.is_retryable() && outcome.is_indeterminate());
    let here = leader.propose("y").await.unwrap();
    assert!(here.index > index);
    assert_eq!(here.reply.len(), LONG_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_says_what_the_state_machine_could_not_do() {
    let network = MemoryNetwork::new();
    let log = MemoryLogStore::new();
    let start = |fault| {
        let id = node_id(1);
        let config = RaftConfig::new(id, vec![id]);
        Raft::start(config, Faulty(fault), log.clone(), network.join(id))
    };
    let refused = start(Fault::Snapshot).await.unwrap_err();
    assert!(matches!(refused, StartError::FirstSnapshot(_)), "{refused}");
    // It left nothing that the next one minds.
    start(Fault::None).await.unwrap().shutdown().await;
    let refused = start(Fault::Restore).await.unwrap_err();
    assert!(matches!(refused, StartError::Restore(_)), "{refused}");
    start(Fault::None).await.unwrap().shutdown().await;
}
