//! # One schedule
//!
//! Draws a cluster, and what befalls it.
//!
//! - Owns: the random numbers, the cluster, what happened in it.

use fastrand::Rng;
use raft_core::{
    Body, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, Config,
    MemoryStorage, NodeId, ReadOnly, SnapshotOutcome, StorageWrites,
};

use super::Figures;
use crate::support::{Cluster, Disk, Memory, command, id};

/// The most messages on the network; the oldest are lost.
const IN_FLIGHT_MAX: usize = 60;

pub(super) struct Schedule {
    rng: Rng,
    pub(super) cluster: Cluster,
    pub(super) servers: u64,
    loss_percent: u8,
    repeat_percent: u8,
    pub(super) proposals: u64,
    figures: Figures,
}

impl Schedule {
    pub(super) fn run(seed: u64) -> Figures {
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
}
