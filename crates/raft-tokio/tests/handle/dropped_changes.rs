//! Changes of the members and of the leader whose caller is gone, at any await:
//! each is made wholly or not at all, and nothing stays under way.

use std::pin::Pin;
use std::time::Duration;

use raft_tokio::{
    ChangeMembershipError, ConfChange, ConfChangeType, ConfState, NodeId, Raft, ReplicaStatus,
};
use tokio::time::{sleep, timeout};

use crate::support::{Cluster, node_id};
use crate::{Dropped, await_nothing_waits, drop_at_await};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Change {
    /// Server 5 listens.
    Add,
    /// Server 5 listens, and everything is left to the caller.
    AddByHand,
    /// Server 4 is reached elsewhere.
    Move,
    /// Server 4, which listens, votes.
    Promote,
    /// Server 4 leaves.
    Remove,
    /// Server 4 votes in the place of a voter.
    Replace,
    /// Server 4 votes, server 5 too, and a voter leaves.
    Set,
}

use Change::{Add, AddByHand, Move, Promote, Remove, Replace, Set};

/// Three voters, of which one leads and one is to leave, a learner that has caught
/// up, and a server that is to come.
struct Scene {
    cluster: Cluster,
    leader: Raft,
    leaving: NodeId,
}

impl Scene {
    async fn new() -> Self {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let leaving = cluster.follower().await.id();
        cluster.join(4).await;
        cluster.join(5).await;
        leader.add_learner(node_id(4), None).await.unwrap();
        leader.propose("before").await.unwrap();
        let caught_up = |status: &ReplicaStatus| {
            let four = status.progress.iter().find(|(id, _)| *id == node_id(4));
            four.is_some_and(|(_, progress)| progress.matched == status.last_index)
        };
        leader.wait_for(caught_up).await.unwrap();
        Self {
            cluster,
            leader,
            leaving,
        }
    }

    fn call(
        &self,
        change: Change,
    ) -> Pin<Box<dyn Future<Output = Result<ConfState, ChangeMembershipError>>>> {
        let (raft, leaving) = (self.leader.clone(), self.leaving);
        let (four, five) = (node_id(4), node_id(5));
        let (voters, _) = self.members_after(Set);
        Box::pin(async move {
            match change {
                Add => raft.add_learner(five, Some("five".to_owned())).await,
                AddByHand => {
                    let change = ConfChange::single(ConfChangeType::AddLearnerNode, five);
                    raft.change_membership(change).await
                }
                Move => raft.move_member(four, "four".to_owned()).await,
                Promote => raft.promote(four).await,
                Remove => raft.remove(four).await,
                Replace => raft.replace(leaving, four).await,
                Set => raft.set_members(&voters, &[]).await,
            }
        })
    }

    fn members_before() -> (Vec<NodeId>, Vec<NodeId>) {
        ([1, 2, 3].map(node_id).to_vec(), vec![node_id(4)])
    }

    /// Who votes and who listens when the change was made.
    fn members_after(&self, change: Change) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut voters, mut learners) = Self::members_before();
        match change {
            Add | AddByHand => learners.push(node_id(5)),
            Move => {}
            Promote => {
                voters.push(node_id(4));
                learners.clear();
            }
            Remove => learners.clear(),
            Replace => {
                voters.retain(|id| *id != self.leaving);
                voters.push(node_id(4));
                learners.clear();
            }
            Set => {
                voters.retain(|id| *id != self.leaving);
                voters.extend([node_id(4), node_id(5)]);
                learners.clear();
            }
        }
        (voters, learners)
    }

    /// The members, on which every voter agrees, and with which nothing is under way.
    async fn members(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        // Longer than whatever was begun takes.
        sleep(Duration::from_secs(3)).await;
        await_nothing_waits(&self.leader).await;
        let conf_state = self.leader.status().conf_state;
        assert!(!conf_state.is_joint(), "{conf_state:?}");
        for raft in self.cluster.all() {
            if conf_state.contains(raft.id()) {
                assert_eq!(raft.status().conf_state, conf_state, "{}", raft.id());
            }
        }
        (conf_state.voters, conf_state.learners)
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_caller_is_gone_is_made_wholly_or_not_at_all() {
    for change in [Add, AddByHand, Move, Promote, Remove, Replace, Set] {
        for when in [Dropped::Waiting, Dropped::Woken] {
            let mut awaits = 0;
            loop {
                let scene = Scene::new().await;
                let call = drop_at_await(awaits, when, scene.call(change));
                let outcome = timeout(PATIENCE, call).await.expect("it is woken or ends");
                let seen = scene.members().await;
                let after = scene.members_after(change);
                let name = format!("{change:?} dropped at {awaits} {when:?}");
                if let Some(outcome) = outcome {
                    outcome.expect(&name);
                    assert_eq!(seen, after, "{name}");
                    break;
                }
                let mut possible = vec![Scene::members_before(), after.clone()];
                if let Set = change {
                    // As its documentation says: the new one listens.
                    let (voters, mut learners) = Scene::members_before();
                    learners.push(node_id(5));
                    possible.push((voters, learners));
                }
                assert!(possible.contains(&seen), "{name}: {seen:?}");
                if awaits <= 1 && when == Dropped::Waiting {
                    // The loop has had no turn.
                    assert_eq!(seen, Scene::members_before(), "{name}");
                }
                // Nothing of it is in the way of another attempt.
                match timeout(PATIENCE, scene.call(change)).await.expect(&name) {
                    Ok(_)
                    | Err(
                        ChangeMembershipError::AlreadyMember { .. }
                        | ChangeMembershipError::AlreadyVoter { .. }
                        | ChangeMembershipError::NotMember { .. },
                    ) => {}
                    Err(error) => panic!("{name}: {error}"),
                }
                assert_eq!(scene.members().await, after, "{name}");
                scene.leader.propose("after").await.expect(&name);
                awaits += 1;
            }
            assert!(awaits >= 2, "{change:?} has a call and an answer");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_whose_caller_is_gone_happens_or_not_and_ends() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        let mut awaits = 0;
        loop {
            let scene = Scene::new().await;
            let (old, to) = (scene.leader.clone(), scene.leaving);
            let call = drop_at_await(awaits, when, old.transfer_leadership(to));
            let outcome = timeout(PATIENCE, call).await.expect("it is woken or ends");
            sleep(Duration::from_secs(3)).await;
            assert_eq!(old.status().transferee, None);
            let leader = scene.cluster.leader().await;
            leader.propose("after").await.unwrap();
            if outcome.is_some() {
                assert_eq!(leader.id(), to);
                break;
            }
            if awaits <= 1 && when == Dropped::Waiting {
                assert_eq!(leader.id(), old.id(), "the loop has had no turn");
            }
            if leader.id() == old.id() {
                old.transfer_leadership(to).await.unwrap();
            }
            awaits += 1;
        }
        assert!(awaits >= 2);
    }
}

/// Sixty-four commands wait in front of the loop, and behind them these.
#[tokio::test(start_paused = true)]
async fn a_change_that_is_dropped_while_it_waits_for_room_is_not_made() {
    let scene = Scene::new().await;
    let leader = &scene.leader;
    let mut waiting: Vec<_> = (0..64).map(|_| Box::pin(leader.campaign())).collect();
    for command in &mut waiting {
        assert!(futures::poll!(command.as_mut()).is_ready());
    }
    for change in [Add, AddByHand, Move, Promote, Remove, Replace, Set] {
        let outcome = drop_at_await(1, Dropped::Waiting, scene.call(change)).await;
        assert!(outcome.is_none(), "{change:?}");
    }
    let to = leader.transfer_leadership(scene.leaving);
    assert!(drop_at_await(1, Dropped::Waiting, to).await.is_none());
    assert!(futures::poll!(Box::pin(leader.campaign())).is_pending());
    assert_eq!(scene.members().await, Scene::members_before());
    assert!(leader.status().is_leader());
    leader.campaign().await.unwrap();
}
