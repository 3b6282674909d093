//! # The environment
//!
//! A cluster in one thread: nodes with their storage, and everything that is on
//! its way between them. Nothing happens but what a command asks for, so the
//! same commands always have the same outcome.
//!
//! - Owns: the nodes, the letters in flight, whether output is silenced.
//! - Emits: the text of each command.
//! - Source: etcd `rafttest.InteractionEnv`.

mod changes;
mod delivery;
mod elections;
mod inspect;
mod letter;
mod node;
mod setup;
mod work;

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use raft_core::{BrokenInvariant, NodeId};

pub use changes::parse_changes;
pub use letter::{Letter, ThreadName};
pub use node::{Driver, Node, StateStorage};

use crate::script::{Command, ScriptError};

/// A cluster and what is on its way in it.
#[derive(Debug, Default)]
pub struct Environment {
    nodes: Vec<Node>,
    /// In the order in which they were sent.
    letters: VecDeque<Letter>,
    output: Output,
}

/// Whether commands print anything but errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Output {
    #[default]
    Shown,
    Silenced,
}

/// A run that cannot go on: not a difference, but an error of the script or a
/// bug of the core.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The script asks for what cannot be done.
    #[error("the script is wrong: {0}")]
    Script(#[from] ScriptError),
    /// An invariant of the core does not hold.
    #[error("node {node} broke an invariant: {broken}")]
    Invariant {
        /// The node.
        node: NodeId,
        /// What does not hold.
        broken: BrokenInvariant,
    },
    /// A node failed where it must not.
    #[error("node {node} failed: {why}")]
    Node {
        /// The node.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// Messages go round for ever.
    #[error("the cluster does not come to rest within {rounds} rounds")]
    Restless {
        /// How many rounds were tried.
        rounds: usize,
    },
}

/// How a command ends early.
#[derive(Debug)]
enum Stop {
    /// With an error that the reference prints.
    Refused(String),
    Broken(Broken),
}

impl From<ScriptError> for Stop {
    fn from(error: ScriptError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Environment {
    /// No nodes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes, in the order of their ids.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is on its way, oldest first.
    pub fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter()
    }

    /// Runs a command, and checks every node's invariants after it. Returns what
    /// the command prints, without a line feed at the end.
    ///
    /// # Errors
    /// The script or the core is wrong. Errors that the reference prints are
    /// part of the output.
    pub fn run(&mut self, command: &Command) -> Result<String, Broken> {
        let mut out = String::new();
        let result = self.dispatch(command, &mut out);
        if self.output == Output::Silenced {
            out.clear();
        }
        match result {
            Ok(()) => {}
            Err(Stop::Refused(why)) => out.push_str(&why),
            Err(Stop::Broken(broken)) => return Err(broken),
        }
        self.check()?;
        if out.is_empty() {
            out.push_str("ok");
        }
        out.truncate(out.trim_end_matches('\n').len());
        Ok(out)
    }

    fn check(&self) -> Result<(), Broken> {
        self.nodes.iter().try_for_each(Node::check)
    }

    fn dispatch(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        match command.name.as_str() {
            "add-nodes" => self.add_nodes(command),
            "restart" => self.restart(command),
            "create-snapshot" => self.create_snapshot(command),
            "compact" => self.compact(command, out),
            "log-level" => self.log_level(command),

            "campaign" => self.campaign(command),
            "forget-leader" => self.forget_leader(command),
            "transfer-leadership" => self.transfer_leadership(command),
            "set-randomized-election-timeout" => self.set_election_timeout(command),
            "tick-election" => self.tick_election(command),
            "tick-heartbeat" => self.tick_heartbeat(command),

            "propose" => self.propose(command),
            "propose-conf-change" => self.propose_conf_change(command),
            "read-index" => self.read_index(command),

            "process-ready" => self.process_ready(command, out),
            "process-append-thread" => self.process_append_thread(command, out),
            "process-apply-thread" => self.process_apply_thread(command, out),

            "deliver-msgs" => self.deliver(command, out),
            "stabilize" => self.stabilize(command, out),
            "report-unreachable" => self.report_unreachable(command),
            "report-snapshot" => self.report_snapshot(command),
            "send-snapshot" => self.send_snapshot(command, out),

            "raft-log" => self.raft_log(command, out),
            "raft-state" => self.raft_state(command, out),
            "status" => self.status(command, out),
            unknown => Err(ScriptError::new(format!("there is no command {unknown}")).into()),
        }
    }

    /// The node whose number is the word at `place`.
    fn node(&mut self, command: &Command, place: usize) -> Result<&mut Node, ScriptError> {
        let id = command.number(place)?;
        self.node_with_id(id)
    }

    fn node_with_id(&mut self, id: u64) -> Result<&mut Node, ScriptError> {
        let at = place_of(&self.nodes, id)?;
        Ok(&mut self.nodes[at])
    }

    /// The places of the nodes that the command names by their ids.
    fn places(&self, command: &Command) -> Result<Vec<usize>, ScriptError> {
        command
            .words()
            .map(|word| place_of(&self.nodes, crate::script::number(word)?))
            .collect()
    }
}

/// Ids are given in order, from 1.
fn place_of(nodes: &[Node], id: u64) -> Result<usize, ScriptError> {
    nodes
        .iter()
        .position(|node| node.id().get() == id)
        .ok_or_else(|| ScriptError::new(format!("there is no node {id}")))
}

fn node_id(id: u64) -> Result<NodeId, ScriptError> {
    NodeId::new(id).ok_or_else(|| ScriptError::new(format!("{id} is not a node id")))
}

fn push_line(out: &mut String, line: impl fmt::Display) {
    let _ = writeln!(out, "{line}");
}

/// Appends `text` with every line indented.
fn push_indented(out: &mut String, text: &str) {
    for line in text.lines() {
        push_line(out, format_args!("  {line}"));
    }
}
