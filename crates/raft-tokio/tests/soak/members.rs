//! Changes of the members at random: servers are added, promoted, demoted,
//! removed and replaced by new ones, and whole sets are asked for, by calls that
//! go on while everything else happens, and are now and then given up.

use std::time::Duration;

use fastrand::Rng;
use raft_tokio::{ChangeMembershipError, ConfState, NodeId, Raft, ReplicaStatus};
use tokio::task::JoinHandle;

use crate::Servers;

/// Servers that run at once, members or not.
const SERVERS_MAX: usize = 8;
/// Longer than any change may take: five learners that do not catch up one after
/// the other, and two proposals.
const CHANGE_MAX: Duration = Duration::from_secs(40);
const VOTERS_MIN: usize = 3;
const VOTERS_MAX: usize = 5;

/// How changes ended.
#[derive(Debug, Default)]
pub(crate) struct ChangeCounts {
    pub(crate) added: u64,
    pub(crate) promoted: u64,
    pub(crate) removed: u64,
    pub(crate) replaced: u64,
    pub(crate) sets: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) dropped: u64,
    pub(crate) discarded: u64,
}

/// What somebody wants of the members.
#[derive(Clone, Debug)]
enum Wish {
    Add(NodeId),
    Promote(NodeId),
    Remove(NodeId),
    Replace {
        old: NodeId,
        new: NodeId,
    },
    Set {
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    },
}

type Outcome = Option<Result<ConfState, ChangeMembershipError>>;

/// The change that is under way, and what became of earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Members {
    under_way: Option<(Wish, JoinHandle<Outcome>)>,
    pub(crate) counts: ChangeCounts,
}

impl Members {
    /// Begins a change, or looks after one that is under way.
    pub(crate) async fn meddle(&mut self, servers: &mut Servers, random: &mut Rng) {
        if self.under_way.is_some() {
            self.settle(servers).await;
            return;
        }
        let Some(leader) = crate::leader_of(servers) else {
            return;
        };
        let status = leader.status();
        if random.u8(..4) == 0 {
            self.discard_one(servers, &leader, random).await;
            return;
        }
        let Some(wish) = draw(&status, servers, random).await else {
            return;
        };
        let patience = if random.u8(..5) == 0 {
            Duration::from_millis(random.u64(..2000))
        } else {
            Duration::MAX
        };
        let call = perform(leader, wish.clone());
        let change = tokio::spawn(async move {
            if patience == Duration::MAX {
                let outcome = tokio::time::timeout(CHANGE_MAX, call).await;
                return Some(outcome.expect("a change of the members ends"));
            }
            tokio::time::timeout(patience, call).await.ok()
        });
        self.under_way = Some((wish, change));
    }

    /// Takes the outcome of a change that has ended.
    pub(crate) async fn settle(&mut self, servers: &mut Servers) {
        let Some((wish, change)) = self.under_way.take_if(|(_, change)| change.is_finished())
        else {
            return;
        };
        self.judge(servers, &wish, change.await.unwrap());
    }

    /// Waits for the end of what is under way.
    pub(crate) async fn finish(&mut self, servers: &mut Servers) {
        if let Some((wish, change)) = self.under_way.take() {
            self.judge(servers, &wish, change.await.unwrap());
        }
    }

    /// A change that is said to be in effect is.
    fn judge(&mut self, servers: &mut Servers, wish: &Wish, outcome: Outcome) {
        let members = match outcome {
            None => {
                self.counts.dropped += 1;
                return;
            }
            Some(Err(ChangeMembershipError::Propose(error))) if error.is_indeterminate() => {
                self.counts.unknown += 1;
                return;
            }
            Some(Err(_)) => {
                self.counts.refused += 1;
                return;
            }
            Some(Ok(members)) => members,
        };
        assert!(!members.is_joint(), "{wish:?}: {members:?}");
        match wish {
            Wish::Add(id) => {
                assert!(members.learners.contains(id), "{wish:?}: {members:?}");
                self.counts.added += 1;
            }
            Wish::Promote(id) => {
                assert!(members.voters.contains(id), "{wish:?}: {members:?}");
                self.counts.promoted += 1;
            }
            Wish::Remove(id) => {
                assert!(!members.contains(*id), "{wish:?}: {members:?}");
                self.counts.removed += 1;
            }
            Wish::Replace { old, new } => {
                let is_done = members.voters.contains(new) && !members.contains(*old);
                assert!(is_done, "{wish:?}: {members:?}");
                self.counts.replaced += 1;
                servers.discard(*old);
                self.counts.discarded += 1;
            }
            Wish::Set { voters, learners } => {
                let sorted = |ids: &[NodeId]| {
                    let mut ids = ids.to_vec();
                    ids.sort_unstable();
                    ids
                };
                let is = (sorted(&members.voters), sorted(&members.learners));
                assert_eq!(is, (sorted(voters), sorted(learners)));
                self.counts.sets += 1;
            }
        }
    }

    /// Ends a server for good that is certainly no member.
    async fn discard_one(&mut self, servers: &mut Servers, leader: &Raft, random: &mut Rng) {
        // What this leader knows of the members is of now, if it can say so.
        let read = tokio::time::timeout(Duration::from_secs(1), leader.read());
        if !read.await.is_ok_and(|read| read.is_ok()) {
            return;
        }
        let status = leader.status();
        let strangers: Vec<NodeId> = servers
            .ids()
            .into_iter()
            .filter(|id| !status.conf_state.contains(*id))
            .collect();
        if !status.conf_state.is_joint()
            && let Some(id) = random.choice(strangers)
        {
            servers.discard(id);
            self.counts.discarded += 1;
        }
    }
}

async fn perform(leader: Raft, wish: Wish) -> Result<ConfState, ChangeMembershipError> {
    match wish {
        Wish::Add(id) => leader.add_learner(id, Some(format!("at {id}"))).await,
        Wish::Promote(id) => leader.promote(id).await,
        Wish::Remove(id) => leader.remove(id).await,
        Wish::Replace { old, new } => {
            let added = leader.add_learner(new, None).await;
            match added {
                Ok(_) | Err(ChangeMembershipError::AlreadyMember { .. }) => {}
                Err(error) => return Err(error),
            }
            leader.replace(old, new).await
        }
        Wish::Set { voters, learners } => leader.set_members(&voters, &learners).await,
    }
}

/// Something that may be wanted of these members.
async fn draw(status: &ReplicaStatus, servers: &mut Servers, random: &mut Rng) -> Option<Wish> {
    let members = &status.conf_state;
    let running = servers.ids();
    let strangers: Vec<NodeId> = running
        .iter()
        .copied()
        .filter(|id| !members.contains(*id))
        .collect();
    match random.u8(..6) {
        0 => {
            let new = match random.choice(strangers) {
                Some(stranger) => stranger,
                None if running.len() < SERVERS_MAX => servers.join().await,
                None => return None,
            };
            Some(Wish::Add(new))
        }
        1 => random.choice(members.learners.clone()).map(Wish::Promote),
        2 if members.voters.len() > VOTERS_MIN => {
            random.choice(members.voters.clone()).map(Wish::Remove)
        }
        2 => random.choice(members.learners.clone()).map(Wish::Remove),
        // Perhaps the leader itself.
        3 | 4 if running.len() < SERVERS_MAX => {
            let old = random.choice(members.voters.clone())?;
            let new = match random.choice(members.learners.clone()) {
                Some(learner) if random.bool() => learner,
                _ => servers.join().await,
            };
            Some(Wish::Replace { old, new })
        }
        _ => {
            let mut all = running;
            random.shuffle(&mut all);
            let count = random.usize(VOTERS_MIN..=VOTERS_MAX).min(all.len());
            let rest = all.split_off(count);
            let learners = rest.into_iter().filter(|_| random.bool()).collect();
            Some(Wish::Set {
                voters: all,
                learners,
            })
        }
    }
}
