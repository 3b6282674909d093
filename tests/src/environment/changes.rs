//! # Commands: proposals, configuration changes, reads
//!
//! - Changes: single nodes.

use bytes::Bytes;
use raft_core::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV1, NodeId,
    ProposeError, Proposed, ReadIndexError,
};

use super::{Environment, Stop};
use crate::format;
use crate::script::{Command, ScriptError, number};

/// Reads changes like `v1 l2 r3 u4`.
///
/// # Errors
/// A word is not a change.
pub fn parse_changes(input: &str) -> Result<Vec<ConfChangeSingle>, ScriptError> {
    input
        .split_whitespace()
        .map(|word| {
            let (change_type, id) = match word.split_at_checked(1) {
                Some(("v", id)) => (ConfChangeType::AddNode, id),
                Some(("l", id)) => (ConfChangeType::AddLearnerNode, id),
                Some(("r", id)) => (ConfChangeType::RemoveNode, id),
                Some(("u", id)) => (ConfChangeType::UpdateNode, id),
                _ => return Err(ScriptError::new(format!("{word:?} is not a change"))),
            };
            Ok(ConfChangeSingle {
                change_type,
                node_id: NodeId::new(number(id)?),
            })
        })
        .collect()
}

fn accepted(result: Result<Proposed, ProposeError>) -> Result<(), Stop> {
    result
        .map(|_| ())
        .map_err(|why| Stop::Refused(format::propose_error(&why)))
}

impl Environment {
    pub(super) fn propose(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let data = Bytes::copy_from_slice(command.word(1)?.as_bytes());
        accepted(self.node(command, 0)?.raw.propose(data))
    }

    pub(super) fn propose_conf_change(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&["v1", "transition"])?;
        let changes = parse_changes(&command.input)?;
        let transition = match command.value("transition") {
            None | Some("auto") => ConfChangeTransition::Auto,
            Some("implicit") => ConfChangeTransition::JointImplicit,
            Some("explicit") => ConfChangeTransition::JointExplicit,
            Some(other) => {
                return Err(ScriptError::new(format!("there is no transition {other}")).into());
            }
        };
        let raw = &mut self.node(command, 0)?.raw;
        if !command.is_set("v1")? {
            return accepted(raw.propose_conf_change(&ConfChange {
                transition,
                changes,
                context: Bytes::new(),
            }));
        }
        match (&changes[..], transition) {
            ([change], ConfChangeTransition::Auto) => {
                accepted(raw.propose_conf_change_v1(&ConfChangeV1 {
                    id: 0,
                    change: *change,
                    context: Bytes::new(),
                }))
            }
            _ => Err(ScriptError::new("v1 is one change without a transition").into()),
        }
    }

    /// The reference says nothing where there is nobody to ask.
    pub(super) fn read_index(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let context = Bytes::copy_from_slice(command.word(1)?.as_bytes());
        let node = self.node(command, 0)?;
        match node.raw.read_index(context) {
            Ok(()) | Err(ReadIndexError::NoLeader) => Ok(()),
            Err(why) => Err(node.broken(why).into()),
        }
    }
}
