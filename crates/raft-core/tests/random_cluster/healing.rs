//! # Healing
//!
//! Nothing is lost any more, everybody runs, and all clocks tick: the cluster must
//! elect, commit and converge.
//!
//! - Changes: the cluster of a schedule.

use raft_core::{ConfChange, Flow, NodeId, RoleKind, SnapshotOutcome};

use super::schedule::Schedule;
use crate::support::{command, id};

/// In which a healed cluster must elect, commit and converge.
const ROUNDS_MAX: u32 = 400;

impl Schedule {
    pub(super) fn heal(&mut self) {
        self.cluster.heal();
        for number in 1..=self.servers {
            if !self.cluster.server(number).is_up() {
                self.cluster.restart(number);
            }
            self.cluster.release_disk(number);
        }
        self.cluster.deliver_all();
    }

    /// One round of a healthy network, whose transport reports lost snapshots.
    /// A member that joined after the latest snapshot cannot use it, so the
    /// application makes another one.
    fn round(&mut self) {
        for number in 1..=self.servers {
            if !self.cluster.server(number).is_up() {
                continue;
            }
            let status = self.cluster.node(number).status();
            for (follower, progress) in status.progress {
                if matches!(progress.flow, Flow::Snapshot { .. }) {
                    self.cluster.server_mut(number).compact(0);
                    self.cluster.with_node(number, |node| {
                        node.report_snapshot(follower, SnapshotOutcome::Failed);
                    });
                }
            }
        }
        self.cluster.run(1);
    }

    /// Unless told to step down, a leader that removed itself leads on until its
    /// application stops it. Whether it did.
    fn stop_removed_leader(&mut self, leader: NodeId) -> bool {
        let is_removed = !self
            .cluster
            .node(leader.get())
            .membership()
            .contains(leader);
        if is_removed {
            self.cluster.crash(leader.get());
        }
        is_removed
    }

    /// Somebody is elected, and commits something new; or else nobody can be,
    /// for the one reason that the protocol knows (see
    /// `paper::s6_membership::who_left_can_be_the_only_one_with_the_longest_log`).
    pub(super) fn demand_progress(&mut self) -> bool {
        let before = self.cluster.history().highest_commit();
        for _ in 0..ROUNDS_MAX {
            self.round();
            if let Some(leader) = self.cluster.leader() {
                if self.stop_removed_leader(leader) {
                    continue;
                }
                self.proposals += 1;
                let data = command(&format!("late {}", self.proposals));
                let taken = self.cluster.propose(leader.get(), data).is_ok();
                self.cluster.deliver_all();
                if taken && self.cluster.history().highest_commit() > before.next() {
                    return true;
                }
            }
        }
        if self.cluster.leader().is_none() && self.cluster.is_wedged_by_who_left() {
            return false;
        }
        panic!(
            "a healed cluster commits nothing in {ROUNDS_MAX} rounds:\n{}",
            self.cluster.describe()
        );
    }

    /// A member in a later term that may not campaign is deaf to its leader, and
    /// without `check_quorum` and `pre_vote` it does not say so (as in etcd). An
    /// election brings the term up.
    fn elect_over_the_deaf(&mut self, leader: NodeId) {
        let node = self.cluster.node(leader.get());
        if node.config().check_quorum || node.config().pre_vote {
            return;
        }
        let members = node.membership().ids();
        let latest = members
            .iter()
            .filter(|member| self.cluster.server(member.get()).is_up())
            .map(|member| self.cluster.node(member.get()).term())
            .max();
        while Some(self.cluster.node(leader.get()).term()) <= latest {
            let before = self.cluster.node(leader.get()).term();
            self.cluster.crash(leader.get());
            self.cluster.restart(leader.get());
            self.cluster.campaign(leader.get());
            if self.cluster.node(leader.get()).term() == before {
                break;
            }
        }
        self.cluster.deliver_all();
    }

    /// Everybody who is a member ends with the same log and state, in a
    /// configuration that is not joint.
    pub(super) fn demand_convergence(&mut self) {
        for round in 0..ROUNDS_MAX {
            self.round();
            let Some(leader) = self.cluster.leader() else {
                continue;
            };
            if self.stop_removed_leader(leader) {
                continue;
            }
            if round % 20 == 19 {
                self.elect_over_the_deaf(leader);
            }
            let membership = self.cluster.node(leader.get()).membership().clone();
            if membership.is_joint() && !membership.auto_leave() && round % 20 == 0 {
                // Only whoever entered it may leave it.
                let _ = self
                    .cluster
                    .change(leader.get(), &ConfChange::leave_joint());
                continue;
            }
            let wanted = self.cluster.server(leader.get()).state();
            let everything = wanted.0 == self.cluster.node(leader.get()).last_index();
            let members = membership.ids();
            let equal = members.iter().all(|member| {
                let server = self.cluster.server(member.get());
                server.is_up() && server.state() == wanted
            });
            // Whoever was removed may not know it, and would go on campaigning.
            // A change that was still on its way may bring it back.
            for number in 1..=self.servers {
                let is_up = self.cluster.server(number).is_up();
                match members.contains(&id(number)) {
                    true if !is_up => self.cluster.restart(number),
                    false if is_up && !membership.is_joint() => self.cluster.crash(number),
                    _ => {}
                }
            }
            if everything && equal && !membership.is_joint() {
                let leaders = members
                    .iter()
                    .filter(|m| self.cluster.node(m.get()).role() == RoleKind::Leader)
                    .count();
                assert_eq!(leaders, 1, "a quiet cluster has one leader");
                return;
            }
        }
        panic!(
            "a healed cluster does not converge in {ROUNDS_MAX} rounds:\n{}",
            self.cluster.describe()
        );
    }
}
