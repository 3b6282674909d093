//! # A run
//!
//! Carries commands out one after the other, each under the eyes of the
//! invariants, and keeps what was printed.
//!
//! - Owns: the environment, the history, the commands so far.
//! - Emits: the first failure.

use std::fmt::Write as _;
use std::mem::discriminant;

use raft_core::{LogIndex, NodeId, RoleKind, Storage};

use crate::environment::{Broken, Environment, Node};
use crate::invariants::{History, Violation};
use crate::script::{Command, ScriptError};

/// A command as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The first line.
    pub line: String,
    /// The lines of input.
    pub input: String,
    /// What it printed.
    output: String,
}

impl Step {
    /// A command without input.
    pub fn new(line: impl Into<String>) -> Self {
        Self::with_input(line, "")
    }

    /// A command with input.
    pub fn with_input(line: impl Into<String>, input: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            input: input.into(),
            output: String::new(),
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A node or the script broke.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// An invariant of the cluster does not hold.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The network is well and the cluster is not.
    #[error("the cluster does not get well within {rounds} rounds: {what}")]
    NotLive {
        /// How long it was waited for.
        rounds: usize,
        /// What is missing.
        what: Unwell,
    },
}

/// What is missing in a cluster that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwell {
    /// No node leads.
    #[error("nobody leads")]
    NoLeader,
    /// Two majorities still decide.
    #[error("the configuration is still joint")]
    Joint,
    /// Nothing new is committed.
    #[error("the leader commits nothing new")]
    NoCommit,
    /// A member lags behind.
    #[error("{0} does not catch up")]
    Behind(NodeId),
    /// A leader waits for a snapshot that nobody lost.
    #[error("the leader still waits for the snapshot of {0}")]
    AwaitsSnapshot(NodeId),
}

impl Failure {
    /// Whether both are failures of one kind, so that shrinking keeps to it.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Broken(a), Self::Broken(b)) => discriminant(a) == discriminant(b),
            (Self::Violation(a), Self::Violation(b)) => discriminant(a) == discriminant(b),
            (Self::NotLive { what: a, .. }, Self::NotLive { what: b, .. }) => {
                discriminant(a) == discriminant(b)
            }
            _ => false,
        }
    }
}

/// What happened in a run, to see that something did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Commands run.
    pub commands: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Entries committed.
    pub committed: u64,
    /// Nodes restarted.
    pub restarts: u64,
    /// Reads confirmed.
    pub reads: u64,
    /// Configurations that a state machine was in.
    pub configurations: u64,
    /// Entries after which a state machine was seen with two majorities.
    pub joint: u64,
    /// Snapshots received.
    pub snapshots: u64,
    /// Servers told to campaign because leadership was handed to them.
    pub transfers: u64,
    /// Promises asked for or given before an election.
    pub pre_votes: u64,
    /// Scripts whose nodes write and apply asynchronously.
    pub asynchronous: u64,
    /// Scripts whose reads rest on leases.
    pub leases: u64,
}

impl Figures {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.commands += other.commands;
        self.elections += other.elections;
        self.committed += other.committed;
        self.restarts += other.restarts;
        self.reads += other.reads;
        self.configurations += other.configurations;
        self.joint += other.joint;
        self.snapshots += other.snapshots;
        self.transfers += other.transfers;
        self.pre_votes += other.pre_votes;
        self.asynchronous += other.asynchronous;
        self.leases += other.leases;
    }
}

/// A script under way.
#[derive(Debug, Default)]
pub struct Run {
    environment: Environment,
    history: History,
    steps: Vec<Step>,
}

impl Run {
    /// The cluster.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The commands so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The commands so far as a scenario file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let _ = writeln!(text, "{}", step.line);
            if !step.input.is_empty() {
                let _ = writeln!(text, "{}", step.input);
            }
            let _ = writeln!(text, "----\n{}\n", step.output);
        }
        text
    }

    /// What happened so far.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures {
            commands: count(self.steps.len()),
            elections: count(self.history.elections()),
            committed: self.history.commit_highest().get(),
            configurations: count(self.history.configurations()),
            joint: count(self.history.joint_configurations()),
            ..Figures::default()
        };
        for step in &self.steps {
            let says = |what| count(step.output.matches(what).count());
            figures.restarts += u64::from(step.line.starts_with("restart"));
            figures.reads += says("ReadStates");
            figures.snapshots += says("Snapshot: Index");
            figures.transfers += says("MsgTimeoutNow");
            figures.pre_votes += says("MsgPreVote");
        }
        // All nodes of a script are added with the same settings.
        let settings = self.steps.first().map_or("", |step| step.line.as_str());
        figures.asynchronous = u64::from(settings.contains("async-storage-writes=true"));
        figures.leases = u64::from(settings.contains("read-only=lease-based"));
        figures
    }

    /// Runs a command, unless it makes no sense here.
    ///
    /// # Errors
    /// The first thing that goes wrong.
    pub fn step(&mut self, step: Step) -> Result<(), Failure> {
        let command = Command::parse(&step.line, &step.input).map_err(Broken::from)?;
        if !makes_sense(&self.environment, &command).map_err(Broken::from)? {
            return Ok(());
        }
        self.history.before(&command);
        let result = self.environment.run(&command);
        let output = match &result {
            Ok(output) => output.clone(),
            Err(broken) => broken.to_string(),
        };
        self.steps.push(Step { output, ..step });
        result?;
        Ok(self.history.after(&self.environment)?)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// How far a node may compact: both the core and the state machine are there.
pub(super) fn compactable(node: &Node) -> Option<LogIndex> {
    let storage = node.raw.storage();
    let index = storage.state.metadata.index.min(node.raw.applied_index());
    let may = index >= storage.first_index() && index <= storage.last_index();
    may.then_some(index)
}

/// Whether a driver could do this: the reference's tests would panic where it
/// could not.
fn makes_sense(environment: &Environment, command: &Command) -> Result<bool, ScriptError> {
    let node = |place| -> Result<Option<&Node>, ScriptError> {
        let id = command.number(place)?;
        let mut nodes = environment.nodes().iter();
        Ok(nodes.find(|node| node.id().get() == id))
    };
    Ok(match command.name.as_str() {
        "compact" => {
            let index = LogIndex::new(command.number(1)?);
            node(0)?.is_some_and(|node| {
                index >= node.raw.storage().first_index()
                    && compactable(node).is_some_and(|most| index <= most)
            })
        }
        "create-snapshot" => node(0)?.is_some_and(|node| {
            let storage = node.raw.storage();
            let stored = storage.log.snapshot().map(|snapshot| snapshot.metadata);
            stored.is_ok_and(|stored| stored.index < storage.state.metadata.index)
        }),
        // Only leaders send snapshots, to their followers, of something.
        "send-snapshot" => {
            let to = command.number(1)?;
            node(0)?.is_some_and(|node| {
                node.raw.role() == RoleKind::Leader
                    && node.id().get() != to
                    && !node.raw.storage().state.is_empty()
            })
        }
        _ => true,
    })
}
