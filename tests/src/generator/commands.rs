//! # Commands
//!
//! Chooses the next command from the profile and from what the cluster is doing.
//!
//! - Owns: the random numbers, the rounds that are planned, the numbers of
//!   proposals and reads.
//! - Reads: the nodes and letters of the environment.

use std::collections::VecDeque;

use fastrand::Rng;
use raft_core::RoleKind;

use super::profile::{Kind, Profile, Writes};
use super::run::{Step, compactable};
use crate::environment::Environment;
use crate::format::letter_kind;

/// Draws commands until the profile's number is reached.
#[derive(Debug)]
pub(super) struct Chooser {
    rng: Rng,
    profile: Profile,
    planned: VecDeque<Step>,
    chosen: usize,
    names: u64,
}

fn list(ids: impl IntoIterator<Item = u64>, between: &str) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(between)
}

impl Chooser {
    pub(super) fn new(rng: Rng, profile: Profile) -> Self {
        Self {
            rng,
            profile,
            planned: VecDeque::new(),
            chosen: 0,
            names: 0,
        }
    }

    /// The cluster, and mostly a leader.
    pub(super) fn setup(&mut self) -> Vec<Step> {
        let Profile {
            voters,
            learners,
            strangers,
            index,
            settings,
            ..
        } = &self.profile;
        let members = voters + learners;
        let mut steps = vec![Step::new(format!(
            "add-nodes {members} voters=({}) learners=({}) index={index} {settings}",
            list(1..=*voters, ","),
            list(voters + 1..=members, ",")
        ))];
        if *learners == 0 {
            steps[0].line = steps[0].line.replace(" learners=()", "");
        }
        if *strangers > 0 {
            steps.push(Step::new(format!("add-nodes {strangers} {settings}")));
        }
        if self.rng.u8(0..100) < 80 {
            let first = self.rng.u64(1..=self.profile.voters);
            steps.push(Step::new(format!("campaign {first}")));
            self.plan_rounds(3);
        }
        steps
    }

    /// The next command; `None` at the end.
    pub(super) fn next(&mut self, environment: &Environment) -> Option<Step> {
        loop {
            if let Some(step) = self.planned.pop_front() {
                return Some(step);
            }
            if self.chosen >= self.profile.commands {
                return None;
            }
            self.chosen += 1;
            let kind = self.any_kind();
            if let Some(step) = self.choose(kind, environment) {
                return Some(step);
            }
        }
    }

    fn any_kind(&mut self) -> Kind {
        let total: u32 = self.profile.weights.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.u32(..total);
        for (kind, weight) in &self.profile.weights {
            match left.checked_sub(*weight) {
                None => return *kind,
                Some(rest) => left = rest,
            }
        }
        Kind::Round
    }

    fn any_node(&mut self) -> u64 {
        self.rng.u64(1..=self.profile.nodes())
    }

    fn some_nodes(&mut self) -> Vec<u64> {
        let mut ids: Vec<u64> = (1..=self.profile.nodes()).collect();
        self.rng.shuffle(&mut ids);
        ids.truncate(self.rng.usize(1..=ids.len()));
        ids
    }

    /// Mostly the leader, sometimes whoever.
    fn somebody_to_ask(&mut self, environment: &Environment) -> u64 {
        let leaders = environment.nodes().iter();
        let leader = leaders
            .filter(|node| node.raw.role() == RoleKind::Leader)
            .max_by_key(|node| node.raw.term());
        match leader {
            Some(leader) if self.rng.u8(0..100) < 75 => leader.id().get(),
            _ => self.any_node(),
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// All nodes handle what they have, hear what was sent, and write, in
    /// commands of their own, so that the invariants are checked in between.
    fn plan_rounds(&mut self, rounds: u8) {
        let ids: Vec<u64> = (1..=self.profile.nodes()).collect();
        for _ in 0..rounds {
            for id in &ids {
                self.plan(format!("process-ready {id}"));
            }
            if self.profile.writes == Writes::Asynchronous {
                for id in &ids {
                    self.plan(format!("process-append-thread {id}"));
                    self.plan(format!("process-apply-thread {id}"));
                }
            }
            for id in &ids {
                self.plan(format!("deliver-msgs {id}"));
            }
        }
    }

    fn plan(&mut self, line: String) {
        self.planned.push_back(Step::new(line));
    }

    fn choose(&mut self, kind: Kind, environment: &Environment) -> Option<Step> {
        let line = match kind {
            Kind::Ready => {
                let waiting = environment.nodes().iter();
                let waiting: Vec<u64> = waiting
                    .filter(|node| node.raw.has_ready())
                    .map(|node| node.id().get())
                    .collect();
                let id = self.rng.choice(waiting)?;
                format!("process-ready {id}")
            }
            Kind::Deliver => return self.deliver(environment),
            Kind::AppendThread => format!("process-append-thread {}", self.any_node()),
            Kind::ApplyThread => format!("process-apply-thread {}", self.any_node()),
            Kind::Settle if self.rng.bool() => "stabilize".to_owned(),
            Kind::Settle => format!("stabilize {}", list(self.some_nodes(), " ")),
            Kind::Round => {
                self.plan_rounds(1);
                return self.planned.pop_front();
            }
            Kind::Propose => {
                let id = self.somebody_to_ask(environment);
                let name = self.name("p");
                let padding = "x".repeat(self.rng.usize(0..20));
                format!("propose {id} {name}{padding}")
            }
            Kind::Change => return Some(self.change(environment)),
            Kind::Read => {
                let id = self.somebody_to_ask(environment);
                format!("read-index {id} {}", self.name("r"))
            }
            Kind::Tick => format!("tick-election {}", self.any_node()),
            Kind::Beat => format!("tick-heartbeat {}", self.somebody_to_ask(environment)),
            Kind::Timeout => {
                let ticks = self.rng.u8(3..6);
                format!(
                    "set-randomized-election-timeout {} timeout={ticks}",
                    self.any_node()
                )
            }
            Kind::Campaign => format!("campaign {}", self.any_node()),
            Kind::Transfer => {
                let from = self.somebody_to_ask(environment);
                format!("transfer-leadership from={from} to={}", self.any_node())
            }
            Kind::Forget => format!("forget-leader {}", self.any_node()),
            Kind::Restart => format!("restart {}", self.any_node()),
            Kind::Compact => {
                let id = self.any_node();
                let node = environment.nodes().iter().find(|n| n.id().get() == id)?;
                let most = compactable(node)?.get();
                let index = self.rng.u64(most.saturating_sub(3).max(1)..=most);
                format!("compact {id} {index}")
            }
            Kind::SendSnapshot => {
                let from = self.somebody_to_ask(environment);
                format!("send-snapshot {from} {}", self.any_node())
            }
            Kind::CreateSnapshot => format!("create-snapshot {}", self.any_node()),
            Kind::Unreachable => {
                let from = self.somebody_to_ask(environment);
                format!("report-unreachable {from} {}", self.any_node())
            }
            Kind::SnapshotReport => {
                let from = self.somebody_to_ask(environment);
                let outcome = ["arrived", "failed"][self.rng.usize(..2)];
                format!("report-snapshot {from} {} {outcome}", self.any_node())
            }
        };
        Some(Step::new(line))
    }

    fn deliver(&mut self, environment: &Environment) -> Option<Step> {
        let letters: Vec<_> = environment.letters().collect();
        let letter = self.rng.choice(&letters)?;
        let mut ids = self.some_nodes();
        let to = letter.to().get();
        if !ids.contains(&to) {
            ids.push(to);
        }
        let drops = self.rng.u8(0..100) < self.profile.drop_percent;
        let split = if drops {
            self.rng.usize(..ids.len())
        } else {
            ids.len()
        };
        let (delivered, dropped) = ids.split_at(split);
        let mut line = "deliver-msgs".to_owned();
        if !delivered.is_empty() {
            line = format!("{line} {}", list(delivered.iter().copied(), " "));
        }
        if !dropped.is_empty() {
            line = format!("{line} drop=({})", list(dropped.iter().copied(), ","));
        }
        if self.rng.u8(0..100) < 20 {
            line = format!("{line} type={}", letter_kind(letter));
        }
        Some(Step::new(line))
    }

    fn change(&mut self, environment: &Environment) -> Step {
        let id = self.somebody_to_ask(environment);
        if self.rng.u8(0..100) < 20 {
            return Step::new(format!("propose-conf-change {id}"));
        }
        let first_format = self.rng.u8(0..100) < 20;
        let changes = if first_format { 1 } else { self.rng.u8(1..4) };
        let changes: Vec<String> = (0..changes)
            .map(|_| {
                let kind = ["v", "v", "v", "l", "r", "r", "u"][self.rng.usize(..7)];
                format!("{kind}{}", self.any_node())
            })
            .collect();
        let how = if first_format {
            " v1=true"
        } else {
            let hows = ["", " transition=implicit", " transition=explicit"];
            hows[self.rng.usize(..hows.len())]
        };
        Step::with_input(format!("propose-conf-change {id}{how}"), changes.join(" "))
    }
}
