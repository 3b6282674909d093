//! # Configuration scenarios
//!
//! Changes of the configuration on their own, and what a leader knows of the
//! members after each.
//!
//! - Owns: the configuration, the progress map, the last index.

use std::fmt::Write as _;

use raft_core::{
    ConfChangeError, Followers, InflightLimits, LogIndex, Membership, NodeId, Reconfiguration,
};

use crate::environment::parse_changes;
use crate::format;
use crate::script::{Command, ScriptError};

/// A configuration that is changed step by step.
#[derive(Debug)]
pub struct Changer {
    membership: Membership,
    followers: Followers,
    last_index: LogIndex,
}

impl Default for Changer {
    fn default() -> Self {
        Self {
            membership: Membership::default(),
            followers: Followers::new(InflightLimits {
                messages_max: 10,
                bytes_max: u64::MAX,
            }),
            last_index: LogIndex::ZERO,
        }
    }
}

impl Changer {
    /// Runs one command, as if an entry had been appended after it.
    ///
    /// # Errors
    /// The command makes no sense.
    pub fn run(&mut self, command: &Command) -> Result<String, ScriptError> {
        let result = self.change(command)?;
        let text = match result {
            Ok(change) => {
                self.followers.reconfigure(&change, self.last_index);
                self.membership = change.membership;
                self.text()
            }
            Err(why) => format::conf_change_error(&why),
        };
        self.last_index = self.last_index.next();
        Ok(text)
    }

    fn change(
        &self,
        command: &Command,
    ) -> Result<Result<Reconfiguration, ConfChangeError>, ScriptError> {
        let changes = parse_changes(&command.input)?;
        Ok(match command.name.as_str() {
            "simple" => {
                command.only(&[])?;
                self.membership.simple(&changes)
            }
            "enter-joint" => {
                command.only(&["autoleave"])?;
                let auto_leave = command.is_set("autoleave")?;
                self.membership.enter_joint(auto_leave, &changes)
            }
            "leave-joint" => {
                command.only(&[])?;
                self.membership.leave_joint()
            }
            other => return Err(ScriptError::new(format!("there is no command {other}"))),
        })
    }

    fn text(&self) -> String {
        let state = self.membership.conf_state();
        let mut text = format!("voters={}", list(&state.voters));
        if self.membership.is_joint() {
            let _ = write!(text, "&&{}", list(&state.voters_outgoing));
        }
        if !state.learners.is_empty() {
            let _ = write!(text, " learners={}", list(&state.learners));
        }
        if !state.learners_next.is_empty() {
            let _ = write!(text, " learners_next={}", list(&state.learners_next));
        }
        if state.auto_leave {
            text.push_str(" autoleave");
        }
        for (id, progress) in self.followers.iter() {
            let _ = write!(text, "\n{}", format::progress(id, &progress.state()));
        }
        text
    }
}

fn list(ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    format!("({})", ids.join(" "))
}
