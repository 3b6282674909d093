//! # Changing the members
//!
//! What users call to add, promote, replace and remove servers. Each call ends
//! when the change is in effect at the leader, or says why it is not.
//!
//! A new server gets the log before it gets a vote: otherwise the cluster could
//! not commit until it has caught up (thesis §4.2.1).
//!
//! - Owns: nothing; it puts commands into the loop's channel.

use std::time::Duration;

use raft_core::{ConfChange, ConfState, LogIndex, NodeId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::Raft;
use super::membership::MembershipGoal;
use super::request::Command;
use crate::error::{ChangeMembershipError, ProposeError};
use crate::status::ReplicaStatus;
use crate::task::Stopped;

/// What a look at a learner's progress says.
enum CatchUp {
    /// It can vote without holding anybody up.
    Done,
    /// It is that far.
    Behind { matched: LogIndex, last: LogIndex },
    /// The leader replicates nothing to it.
    Unknown,
}

impl Raft {
    /// Changes the members of the cluster, and waits until the change is in
    /// effect: applied at the leader, and a joint configuration with auto-leave
    /// left again. Only on the leader. The methods below are made of this one,
    /// and safer.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, four: raft_tokio::NodeId) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// use raft_tokio::{ConfChange, ConfChangeType};
    ///
    /// let change = ConfChange::single(ConfChangeType::AddLearnerNode, four);
    /// let members = raft.change_membership(change).await?;
    /// println!("learners: {:?}", members.learners);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The change is refused or impossible, or its outcome is unknown.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, which it does in its next turn,
    /// nothing happens; later, the change is made all the same, to its end: a
    /// joint configuration is left. [`ReplicaStatus::conf_state`] shows which.
    pub async fn change_membership(
        &self,
        change: ConfChange,
    ) -> Result<ConfState, ChangeMembershipError> {
        self.reach(MembershipGoal::Change(change)).await
    }

    /// Adds a server that gets the log and has no vote. Its address, in whatever
    /// form the transport understands, travels with the change and is in every
    /// later snapshot, so that every replica can reach it, those that join after it
    /// too. Only on the leader.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, four: raft_tokio::NodeId)
    /// # -> Result<(), raft_tokio::ChangeMembershipError> {
    /// raft.add_learner(four, Some("10.0.0.4:7000".to_owned())).await?;
    /// raft.promote(four).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChangeMembershipError::AlreadyMember`],
    /// [`ChangeMembershipError::BadAddress`],
    /// [`ChangeMembershipError::TooManyAddresses`], or as for
    /// [`change_membership`](Self::change_membership).
    ///
    /// # Cancel safety
    /// As for [`change_membership`](Self::change_membership).
    pub async fn add_learner(
        &self,
        id: NodeId,
        address: Option<String>,
    ) -> Result<ConfState, ChangeMembershipError> {
        self.reach(MembershipGoal::AddLearner { id, address }).await
    }

    /// Has a member reached at another address: every replica, and those that join
    /// later, try that from now on. Also for a member that the cluster began with,
    /// of which only the settings of each replica said where it is. Only on the
    /// leader.
    ///
    /// What the cluster agrees on in this way, or by
    /// [`add_learner`](Self::add_learner), wins over what a replica is told at its
    /// start.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, two: raft_tokio::NodeId) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// raft.move_member(two, "10.0.1.2:7000".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChangeMembershipError::NotMember`],
    /// [`ChangeMembershipError::BadAddress`],
    /// [`ChangeMembershipError::TooManyAddresses`], or as for
    /// [`change_membership`](Self::change_membership).
    ///
    /// # Cancel safety
    /// As for [`change_membership`](Self::change_membership).
    pub async fn move_member(
        &self,
        id: NodeId,
        address: String,
    ) -> Result<ConfState, ChangeMembershipError> {
        self.reach(MembershipGoal::Move { id, address }).await
    }

    /// Waits until a learner has caught up, and gives it a vote. Only on the
    /// leader. [`ReplicaStatus::progress`] shows how far it is.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, four: raft_tokio::NodeId) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// raft.promote(four).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChangeMembershipError::NotCaughtUp`] after `catch_up_timeout`,
    /// [`ChangeMembershipError::AlreadyVoter`],
    /// [`ChangeMembershipError::NotMember`], or as for
    /// [`change_membership`](Self::change_membership).
    ///
    /// # Cancel safety
    /// Dropped while the learner catches up, nothing happens: it stays a learner,
    /// and goes on catching up. Dropped later, as for
    /// [`change_membership`](Self::change_membership).
    pub async fn promote(&self, id: NodeId) -> Result<ConfState, ChangeMembershipError> {
        self.await_caught_up(id).await?;
        self.reach(MembershipGoal::Promote { id }).await
    }

    /// Removes a server. Only on the leader, which may remove itself: it then
    /// stops leading. One of two voters should hand leadership over before
    /// ([`transfer_leadership`](Self::transfer_leadership)): if the other one does not
    /// hear that the removal is committed, it still needs the vote of the removed
    /// server, which does not vote for a shorter log than its own.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, three: raft_tokio::NodeId) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// let members = raft.remove(three).await?;
    /// println!("{} voters are left", members.voters.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChangeMembershipError::NotMember`], or as for
    /// [`change_membership`](Self::change_membership).
    ///
    /// # Cancel safety
    /// As for [`change_membership`](Self::change_membership).
    pub async fn remove(&self, id: NodeId) -> Result<ConfState, ChangeMembershipError> {
        self.reach(MembershipGoal::Remove { id }).await
    }

    /// Waits until the learner `new` has caught up, and puts it in the place of
    /// `old`, in one step through a joint configuration. Only on the leader.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, three: raft_tokio::NodeId, four: raft_tokio::NodeId) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// raft.add_learner(four, Some("10.0.0.4:7000".to_owned())).await?;
    /// raft.replace(three, four).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`promote`](Self::promote) and [`remove`](Self::remove).
    ///
    /// # Cancel safety
    /// Dropped while `new` catches up, nothing happens: `old` votes and `new` is a
    /// learner. Dropped later, as for
    /// [`change_membership`](Self::change_membership): both changes are made, or
    /// none.
    pub async fn replace(
        &self,
        old: NodeId,
        new: NodeId,
    ) -> Result<ConfState, ChangeMembershipError> {
        self.await_caught_up(new).await?;
        self.reach(MembershipGoal::Replace { old, new }).await
    }

    /// Makes `voters` vote and `learners` listen, and everybody else leave.
    /// Voters who are no members become learners first, and get their votes
    /// together, through a joint configuration, when all have caught up. Only on
    /// the leader. Addresses that the transports do not know have to be given
    /// before, by [`add_learner`](Self::add_learner) or
    /// [`set_peer`](Self::set_peer).
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ChangeMembershipError> {
    /// use raft_tokio::NodeId;
    ///
    /// let voters: Vec<NodeId> = [1, 2, 5].into_iter().filter_map(NodeId::new).collect();
    /// raft.set_members(&voters, &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`promote`](Self::promote). New learners then stay.
    ///
    /// # Cancel safety
    /// Two steps, and each is made wholly or not at all, as for
    /// [`change_membership`](Self::change_membership). Dropped between them, while
    /// the new ones catch up, the votes are as they were and the new ones are
    /// learners: [`ReplicaStatus::conf_state`] shows them. Call it again to go on,
    /// or [`remove`](Self::remove) them.
    pub async fn set_members(
        &self,
        voters: &[NodeId],
        learners: &[NodeId],
    ) -> Result<ConfState, ChangeMembershipError> {
        // What can never be is refused before anybody is added.
        if let Some(id) = voters.iter().find(|id| learners.contains(id)) {
            return Err(ChangeMembershipError::VoterAndLearner { id: *id });
        }
        if !voters.is_empty() {
            let ids = voters.to_vec();
            let now = self
                .reach(MembershipGoal::AddMissingLearners { ids })
                .await?;
            for id in voters.iter().filter(|id| !now.voters.contains(id)) {
                self.await_caught_up(*id).await?;
            }
        }
        self.reach(MembershipGoal::Set {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
        })
        .await
    }

    async fn reach(&self, goal: MembershipGoal) -> Result<ConfState, ChangeMembershipError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::ChangeMembership { goal, reply };
        self.command(command).await.map_err(ProposeError::from)?;
        match answer.await {
            Ok(result) => result,
            // The loop ended with the change in its hands.
            Err(_) => Err(ProposeError::OutcomeUnknown.into()),
        }
    }

    /// Waits until `id` has everything that the leader has, in rounds: each ends
    /// when `id` has what the leader had when it began, and the last one takes
    /// less than an election timeout (thesis §4.2.1).
    async fn await_caught_up(&self, id: NodeId) -> Result<(), ChangeMembershipError> {
        let mut statuses = self.watch();
        let deadline = Instant::now() + self.inner.catch_up_timeout;
        let mut round: Option<(Instant, LogIndex)> = None;
        let mut unknown_since = None;
        loop {
            let looked = {
                let status = statuses.borrow_and_update();
                if let Some(reason) = &status.stopped {
                    let reason = reason.clone();
                    return Err(ProposeError::from(Stopped { reason }).into());
                }
                if !status.is_leader() {
                    let leader = status.leader;
                    return Err(ChangeMembershipError::NotLeader { leader });
                }
                look_at(&status, id, &mut round, self.inner.election_timeout)
            };
            let now = Instant::now();
            match looked {
                CatchUp::Done => return Ok(()),
                CatchUp::Behind { .. } => unknown_since = None,
                CatchUp::Unknown => {
                    // A status is at most a tick old.
                    let since = *unknown_since.get_or_insert(now);
                    if now.duration_since(since) > self.inner.election_timeout {
                        return Err(ChangeMembershipError::NotMember { id });
                    }
                }
            }
            if let CatchUp::Behind { matched, last } = looked
                && now >= deadline
            {
                return Err(ChangeMembershipError::NotCaughtUp { id, matched, last });
            }
            // The loop publishes with every tick that changes anything; the
            // timer is for the deadlines.
            let patience = self.inner.election_timeout.min(Duration::from_secs(1));
            match tokio::time::timeout(patience, statuses.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => {
                    let stopped = self.inner.control.stopped().await;
                    return Err(ProposeError::from(stopped).into());
                }
            }
        }
    }
}

fn look_at(
    status: &ReplicaStatus,
    id: NodeId,
    round: &mut Option<(Instant, LogIndex)>,
    election_timeout: Duration,
) -> CatchUp {
    let Some((_, progress)) = status.progress.iter().find(|(member, _)| *member == id) else {
        return CatchUp::Unknown;
    };
    // Who votes already is refused with better words when the change is made.
    if !progress.is_learner {
        return CatchUp::Done;
    }
    let (matched, last) = (progress.matched, status.last_index);
    let now = Instant::now();
    let (began, target) = *round.get_or_insert((now, last));
    if matched >= target {
        if matched >= last || now.duration_since(began) < election_timeout {
            return CatchUp::Done;
        }
        *round = Some((now, last));
    }
    CatchUp::Behind { matched, last }
}
