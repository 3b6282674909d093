//! # Commands: the network
//!
//! - Owns: nothing (works on the letters in flight).

use std::collections::VecDeque;

use raft_core::{Body, Message, NodeId, Snapshot, SnapshotOutcome, StepError, Storage};

use super::{Broken, Environment, Letter, Output, Stop, node_id, push_indented, push_line};
use crate::format;
use crate::script::{Command, ScriptError};

/// Rounds after which a cluster that still moves is taken to move for ever.
const ROUNDS_MAX: usize = 5_000;

/// What happens to the letters for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Only what crosses the network can be lost.
    Dropped,
}

impl Environment {
    pub(super) fn deliver(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&["type", "drop"])?;
        let kind = command.value("type");
        let mut count = 0;
        for word in command.words() {
            let to = node_id(crate::script::number(word)?)?;
            count += self.deliver_to(to, kind, Fate::Delivered, out)?;
        }
        for id in command.numbers_of("drop")? {
            count += self.deliver_to(node_id(id)?, kind, Fate::Dropped, out)?;
        }
        if count == 0 {
            out.push_str("no messages\n");
        }
        Ok(())
    }

    fn deliver_to(
        &mut self,
        to: NodeId,
        kind: Option<&str>,
        fate: Fate,
        out: &mut String,
    ) -> Result<usize, Stop> {
        let is_meant = |letter: &Letter| {
            letter.to() == to
                && !(fate == Fate::Dropped && letter.is_local())
                && kind.is_none_or(|kind| kind == format::letter_kind(letter))
        };
        let letters = std::mem::take(&mut self.letters).into_iter();
        let (meant, others): (VecDeque<Letter>, VecDeque<Letter>) = letters.partition(is_meant);
        self.letters = others;
        let count = meant.len();
        for letter in meant {
            let line = format::letter(&letter);
            match fate {
                Fate::Dropped => push_line(out, format_args!("dropped: {line}")),
                Fate::Delivered => {
                    push_line(out, &line);
                    if let Some(refusal) = self.take(letter)? {
                        push_line(out, format_args!("{refusal}"));
                    }
                }
            }
        }
        Ok(count)
    }

    /// Hands a letter to its node. What the reference prints if the node does
    /// not take it.
    fn take(&mut self, letter: Letter) -> Result<Option<String>, Broken> {
        let node = self.node_with_id(letter.to().get())?;
        let result = match letter {
            Letter::Peer(message) => node.raw.step(message),
            Letter::Written { receipt, .. } => node.raw.persisted(receipt),
            Letter::Applied { receipt, .. } => node.raw.applied(receipt).map_err(Into::into),
        };
        match result {
            Ok(()) => Ok(None),
            Err(StepError::Halted(halted)) => Err(node.broken(halted)),
            Err(why) => Ok(Some(format::step_error(&why))),
        }
    }

    pub(super) fn stabilize(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&["log-level"])?;
        let mut places = self.places(command)?;
        if places.is_empty() {
            places = (0..self.nodes.len()).collect();
        }
        let result = self.settle(&places, out);
        if let Some(level) = command.value("log-level")
            && Output::of_level(level)? == Output::Silenced
        {
            out.clear();
        }
        result
    }

    fn settle(&mut self, places: &[usize], out: &mut String) -> Result<(), Stop> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.round_of_readys(places, out)?;
            moved |= self.round_of_deliveries(places, out)?;
            moved |= self.round_of_threads(places, out)?;
            if !moved {
                return Ok(());
            }
        }
        Err(Broken::Restless { rounds: ROUNDS_MAX }.into())
    }

    fn round_of_deliveries(&mut self, places: &[usize], out: &mut String) -> Result<bool, Stop> {
        let mut moved = false;
        for place in places {
            let id = self.nodes[*place].id();
            let mut inner = String::new();
            if self.deliver_to(id, None, Fate::Delivered, &mut inner)? > 0 {
                push_line(out, format_args!("> {id} receiving messages"));
                push_indented(out, &inner);
                moved = true;
            }
        }
        Ok(moved)
    }

    pub(super) fn report_unreachable(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let peer = node_id(command.number(1)?)?;
        self.node(command, 0)?.raw.report_unreachable(peer);
        Ok(())
    }

    pub(super) fn report_snapshot(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let peer = node_id(command.number(1)?)?;
        let outcome = match command.word(2)? {
            "arrived" => SnapshotOutcome::Arrived,
            "failed" => SnapshotOutcome::Failed,
            other => {
                return Err(ScriptError::new(format!("a snapshot cannot be {other}")).into());
            }
        };
        self.node(command, 0)?.raw.report_snapshot(peer, outcome);
        Ok(())
    }

    pub(super) fn send_snapshot(
        &mut self,
        command: &Command,
        out: &mut String,
    ) -> Result<(), Stop> {
        command.only(&[])?;
        let to = node_id(command.number(1)?)?;
        let node = self.node(command, 0)?;
        let snapshot = node.raw.storage().snapshot();
        let snapshot: Snapshot = snapshot.map_err(|why| node.broken(why))?;
        let letter = Letter::Peer(Message {
            to,
            from: node.id(),
            term: node.raw.term(),
            body: Body::Snapshot(Box::new(snapshot)),
        });
        out.push_str(&format::letter(&letter));
        self.letters.push_back(letter);
        Ok(())
    }
}
