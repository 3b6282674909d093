//! # Quorum scenarios
//!
//! The committed index and the outcome of a vote, for one majority and for two.
//! Where a script has one majority, the joint configuration with an empty half
//! must say the same.
//!
//! - Owns: nothing.

use raft_core::{JointConfig, MajorityConfig, NodeId, VoteResult};

use crate::script::{Command, ScriptError, number};

/// Answers one command.
///
/// # Errors
/// The command makes no sense.
pub fn run(command: &Command) -> Result<String, ScriptError> {
    let config = JointConfig {
        incoming: majority(command, "cfg")?,
        outgoing: majority(command, "cfgj")?,
    };
    match command.name.as_str() {
        "committed" => {
            command.only(&["cfg", "cfgj", "idx"])?;
            let acked = values(command, "idx", number)?;
            let joint = config.committed(&acked);
            let text = |index: Option<u64>| index.map_or("∞".to_owned(), |i| i.to_string());
            if !config.is_joint() {
                same(&joint, &config.incoming.committed(&acked))?;
            }
            Ok(text(joint))
        }
        "vote" => {
            command.only(&["cfg", "cfgj", "votes"])?;
            let votes = values(command, "votes", |vote| match vote {
                "y" => Ok(true),
                "n" => Ok(false),
                other => Err(ScriptError::new(format!("{other:?} is not a vote"))),
            })?;
            let joint = config.vote_result(&votes);
            if !config.is_joint() {
                same(&joint, &config.incoming.vote_result(&votes))?;
            }
            Ok(match joint {
                VoteResult::Pending => "VotePending",
                VoteResult::Lost => "VoteLost",
                VoteResult::Won => "VoteWon",
            }
            .to_owned())
        }
        other => Err(ScriptError::new(format!("there is no command {other}"))),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(joint: &T, alone: &T) -> Result<(), ScriptError> {
    if joint == alone {
        return Ok(());
    }
    Err(ScriptError::new(format!(
        "joint with an empty half says {joint:?}, the majority alone {alone:?}"
    )))
}

fn ids(command: &Command, key: &str) -> Result<Vec<NodeId>, ScriptError> {
    if command.value(key) == Some("zero") {
        return Ok(Vec::new());
    }
    command
        .numbers_of(key)?
        .into_iter()
        .map(|id| NodeId::new(id).ok_or_else(|| ScriptError::new(format!("{id} is not an id"))))
        .collect()
}

fn majority(command: &Command, key: &str) -> Result<MajorityConfig, ScriptError> {
    Ok(ids(command, key)?.into_iter().collect())
}

/// What each voter answered; the values belong to the voters in the order in
/// which they are first named.
fn values<T: Copy>(
    command: &Command,
    key: &str,
    parse: fn(&str) -> Result<T, ScriptError>,
) -> Result<impl Fn(NodeId) -> Option<T> + use<T>, ScriptError> {
    let mut voters = ids(command, "cfg")?;
    for id in ids(command, "cfgj")? {
        if !voters.contains(&id) {
            voters.push(id);
        }
    }
    let values = command.values(key);
    if values.len() != voters.len() {
        return Err(ScriptError::new(format!(
            "{} voters have {} values",
            voters.len(),
            values.len()
        )));
    }
    let answers: Vec<(NodeId, Option<T>)> = voters
        .into_iter()
        .zip(values)
        .map(|(id, value)| {
            let answer = (value != "_").then(|| parse(value)).transpose()?;
            Ok((id, answer))
        })
        .collect::<Result<_, ScriptError>>()?;
    Ok(move |id| {
        answers
            .iter()
            .find(|(voter, _)| *voter == id)
            .and_then(|(_, answer)| *answer)
    })
}
