//! # Random schedules
//!
//! Clusters of one to five servers, a network that loses, repeats and reorders,
//! servers that crash and lose what was not synced, or have to read old entries
//! back, changes of the configuration, transfers, reads, snapshots. Safety is checked after every
//! step; in the end everything heals, and the cluster must work.
//!
//! `RAFT_SEED=7 cargo test -p raft-core --test suite random_cluster` repeats one
//! schedule; `RAFT_SCHEDULES=20000` runs that many.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;
use raft_core::{
    Body, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, Config, Flow,
    MemoryStorage, NodeId, ReadOnly, RoleKind, SnapshotOutcome, StorageWrites,
};

use crate::support::{Cluster, Disk, Memory, command, id};

/// Run if nothing is asked for.
const SCHEDULES: u64 = 400;

/// The most messages on the network; the oldest are lost.
const IN_FLIGHT_MAX: usize = 60;

/// In which a healed cluster must elect, commit and converge.
const ROUNDS_MAX: u32 = 400;

#[test]
fn no_schedule_breaks_safety_and_every_healed_cluster_works() {
    if let Some(seed) = number_from_environment("RAFT_SEED") {
        Schedule::run(seed);
        return;
    }
    let schedules = number_from_environment("RAFT_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number_from_environment("RAFT_FIRST_SEED").unwrap_or(0);
    let mut total = Figures::default();
    for seed in first..first + schedules {
        match catch_unwind(AssertUnwindSafe(|| Schedule::run(seed))) {
            Ok(figures) => total.add(figures),
            Err(panic) => {
                eprintln!(
                    "reproduce: RAFT_SEED={seed} cargo test -p raft-core --test suite random_cluster"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{schedules} schedules: {total:?}");
    // A generator that never gets anywhere would prove nothing.
    if schedules >= SCHEDULES {
        let happened = [
            total.elections,
            total.committed,
            total.crashes,
            total.reads,
            total.conf_changes,
            total.snapshots,
            total.reads_back,
        ];
        assert!(happened.iter().all(|count| *count > schedules / 10));
        assert!(total.wedged <= schedules / 50, "too many wedged clusters");
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("the variable is a number"))
}

/// What happened, to see that something did.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    steps: u64,
    elections: u64,
    committed: u64,
    crashes: u64,
    reads: u64,
    conf_changes: u64,
    snapshots: u64,
    reads_back: u64,
    wedged: u64,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.elections += other.elections;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.reads += other.reads;
        self.conf_changes += other.conf_changes;
        self.snapshots += other.snapshots;
        self.reads_back += other.reads_back;
        self.wedged += other.wedged;
    }
}

struct Schedule {
    rng: Rng,
    cluster: Cluster,
    servers: u64,
    loss_percent: u8,
    repeat_percent: u8,
    proposals: u64,
    figures: Figures,
}

impl Schedule {
    fn run(seed: u64) -> Figures {
        let mut schedule = Self::new(Rng::with_seed(seed));
        for _ in 0..schedule.rng.u32(100..500) {
            schedule.step();
            schedule.figures.steps += 1;
        }
        schedule.heal();
        if schedule.demand_progress() {
            schedule.demand_convergence();
        } else {
            schedule.figures.wedged = 1;
        }
        let history = schedule.cluster.history();
        schedule.figures.committed = history.highest_commit().get();
        schedule.figures.elections = history.elections();
        schedule.figures.reads_back = (1..=schedule.servers)
            .map(|number| schedule.cluster.server(number))
            .filter(|server| server.is_up())
            .map(|server| server.node().storage().reads())
            .sum();
        schedule.figures
    }

    fn new(mut rng: Rng) -> Self {
        let voters = rng.u64(1..=5);
        let asynchronous = rng.bool();
        let check_quorum = rng.bool();
        let pre_vote = rng.bool();
        let lease = check_quorum && rng.u8(..) < 32;
        let step_down_on_removal = rng.bool();
        let election_ticks = rng.u32(3..10);
        let append_bytes_max = *rng.choice(&[0, 20, 60, 1 << 20]).expect("not empty");
        let committed_bytes_max = *rng
            .choice(&[None, Some(0), Some(25), Some(1 << 20)])
            .expect("not empty");
        let inflight_messages_max = *rng.choice(&[1, 2, 256]).expect("not empty");
        let uncommitted_bytes_max = *rng.choice(&[30, u64::MAX]).expect("not empty");
        let seeds = rng.u64(..);
        let choose = |config: Config| Config {
            election_ticks,
            heartbeat_ticks: 1,
            storage_writes: if asynchronous {
                StorageWrites::Asynchronous
            } else {
                StorageWrites::Synchronous
            },
            append_bytes_max,
            committed_bytes_max,
            inflight_messages_max,
            uncommitted_bytes_max,
            check_quorum,
            pre_vote,
            read_only: if lease {
                ReadOnly::LeaseBased
            } else {
                ReadOnly::Safe
            },
            step_down_on_removal,
            seed: seeds.wrapping_add(config.id.get()),
            ..config
        };
        let mut cluster = Cluster::with(voters, choose);
        let servers = rng.u64(voters..=5);
        for number in voters + 1..=servers {
            cluster.add(choose(Config::protected(id(number))), MemoryStorage::new());
        }
        if rng.bool() {
            for number in 1..=servers {
                cluster.server_mut(number).hold_disk(Disk::Held);
            }
        }
        if rng.bool() {
            for number in 1..=servers {
                cluster.server_mut(number).hold_in_memory(Memory::Unapplied);
            }
        }
        let loss_percent = *rng.choice(&[0, 5, 30]).expect("not empty");
        let repeat_percent = *rng.choice(&[0, 5, 50]).expect("not empty");
        Self {
            rng,
            cluster,
            servers,
            loss_percent,
            repeat_percent,
            proposals: 0,
            figures: Figures::default(),
        }
    }

    fn any_server(&mut self) -> u64 {
        self.rng.u64(1..=self.servers)
    }

    fn any_running(&mut self) -> Option<u64> {
        let number = self.any_server();
        self.cluster.server(number).is_up().then_some(number)
    }

    /// Mostly the leader, sometimes whoever.
    fn somebody_to_ask(&mut self) -> Option<u64> {
        match self.cluster.leader() {
            Some(leader) if self.rng.u8(..) < 200 => Some(leader.get()),
            _ => self.any_running(),
        }
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..40 => self.deliver_some(),
            40..58 => {
                if let Some(number) = self.any_running() {
                    let ticks = self.rng.u32(1..4);
                    self.cluster.tick(number, ticks);
                }
            }
            58..70 => {
                let number = self.any_server();
                if self.cluster.server(number).has_write() {
                    self.cluster.complete_write(number);
                }
            }
            70..73 => {
                if let Some(number) = self.any_running() {
                    let count = self.rng.u64(1..4);
                    self.cluster.complete_read(number, count);
                }
            }
            73..76 => {
                let number = self.any_server();
                if self.cluster.server(number).has_apply() {
                    self.cluster.complete_apply(number);
                }
            }
            76..84 => self.propose(),
            84..87 => {
                if let Some(number) = self.somebody_to_ask()
                    && self.cluster.read(number).is_ok()
                {
                    self.figures.reads += 1;
                }
            }
            87..91 => self.change_configuration(),
            91 => {
                let to = self.any_server();
                if let Some(number) = self.somebody_to_ask() {
                    self.cluster.transfer(number, to).expect("it is alive");
                }
            }
            92 => self.crash(),
            93..96 => self.restart(),
            96 => self.partition(),
            97 => self.cluster.heal(),
            98 => {
                if let Some(number) = self.any_running() {
                    let kept = self.rng.u64(0..3);
                    self.cluster.server_mut(number).compact(kept);
                    self.figures.snapshots += 1;
                }
            }
            _ => self.disturb(),
        }
    }

    fn deliver_some(&mut self) {
        for _ in 0..self.rng.u8(1..8) {
            let waiting = self.cluster.in_flight().len();
            if waiting == 0 {
                return;
            }
            let oldest = waiting > IN_FLIGHT_MAX;
            let place = if oldest { 0 } else { self.rng.usize(..waiting) };
            let message = self.cluster.take_at(place);
            if self.rng.u8(0..100) < self.repeat_percent {
                self.cluster.send(message.clone());
            }
            if oldest || self.rng.u8(0..100) < self.loss_percent {
                self.report_loss(message.from, message.to, &message.body);
            } else {
                self.cluster.deliver(message);
            }
        }
    }

    /// A transport notices most of what it loses.
    fn report_loss(&mut self, from: NodeId, to: NodeId, body: &Body) {
        if self.rng.bool() || !self.cluster.server(from.get()).is_up() {
            return;
        }
        let is_snapshot = matches!(body, Body::Snapshot(_));
        self.cluster.with_node(from.get(), |node| {
            if is_snapshot {
                node.report_snapshot(to, SnapshotOutcome::Failed);
            } else {
                node.report_unreachable(to);
            }
        });
    }

    fn propose(&mut self) {
        let Some(number) = self.somebody_to_ask() else {
            return;
        };
        self.proposals += 1;
        let data = command(&format!("command {}", self.proposals));
        // Whether it is taken depends on the schedule.
        let _ = self.cluster.propose(number, data);
    }

    fn change_configuration(&mut self) {
        let Some(number) = self.somebody_to_ask() else {
            return;
        };
        let change = self.any_change();
        if self.cluster.change(number, &change).is_ok() {
            self.figures.conf_changes += 1;
        }
    }

    fn any_change(&mut self) -> ConfChange {
        let kinds = [
            ConfChangeType::AddNode,
            ConfChangeType::AddNode,
            ConfChangeType::RemoveNode,
            ConfChangeType::AddLearnerNode,
            ConfChangeType::UpdateNode,
        ];
        let transitions = [
            ConfChangeTransition::Auto,
            ConfChangeTransition::JointImplicit,
            ConfChangeTransition::JointExplicit,
        ];
        if self.rng.u8(0..5) == 0 {
            return ConfChange::leave_joint();
        }
        let changes = (0..self.rng.u8(1..4))
            .map(|_| {
                let kind = *self.rng.choice(&kinds).expect("not empty");
                let number = self.any_server();
                ConfChangeSingle::new(kind, id(number))
            })
            .collect();
        ConfChange {
            transition: *self.rng.choice(&transitions).expect("not empty"),
            changes,
            ..ConfChange::default()
        }
    }

    fn crash(&mut self) {
        if let Some(number) = self.any_running() {
            let completed = self.rng.usize(0..3);
            self.cluster.crash_after(number, completed);
            self.figures.crashes += 1;
        }
    }

    fn restart(&mut self) {
        let number = self.any_server();
        if !self.cluster.server(number).is_up() {
            self.cluster.restart(number);
        }
    }

    fn partition(&mut self) {
        let (some, others): (Vec<u64>, Vec<u64>) =
            (1..=self.servers).partition(|_| self.rng.bool());
        self.cluster.partition(&some, &others);
    }

    fn disturb(&mut self) {
        let Some(number) = self.any_running() else {
            return;
        };
        let leases = self.cluster.node(number).config().read_only == ReadOnly::LeaseBased;
        match self.rng.u8(0..3) {
            0 => self.cluster.campaign(number),
            // Leases forbid it, and the node refuses it.
            1 if !leases => self
                .cluster
                .with_node(number, raft_core::RawNode::forget_leader),
            _ => {
                let to = self.any_server();
                self.cluster
                    .with_node(number, |node| node.report_unreachable(id(to)));
            }
        }
    }

    // ── the end ──────────────────────────────────────────────────────────────

    fn heal(&mut self) {
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
    fn demand_progress(&mut self) -> bool {
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
    fn demand_convergence(&mut self) {
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
