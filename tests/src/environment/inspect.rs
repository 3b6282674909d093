//! # Commands: looking
//!
//! - Changes: nothing.

use raft_core::Storage;

use super::{Environment, Stop, push_line};
use crate::format;
use crate::script::Command;

impl Environment {
    pub(super) fn raft_log(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&[])?;
        let node = self.node(command, 0)?;
        let log = &node.raw.storage().log;
        let (first, last) = (log.first_index(), log.last_index());
        if last < first {
            push_line(
                out,
                format_args!("log is empty: first index={first}, last index={last}"),
            );
            return Ok(());
        }
        let entries = log.entries(first, last.next(), u64::MAX);
        let entries = entries.map_err(|why| node.broken(why))?;
        out.push_str(&format::entries(&entries));
        Ok(())
    }

    pub(super) fn raft_state(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&[])?;
        for node in &self.nodes {
            let (id, raw) = (node.id(), &node.raw);
            let votes = if raw.membership().voters().contains(id) {
                "(Voter)"
            } else {
                "(Non-Voter)"
            };
            push_line(
                out,
                format_args!(
                    "{id}: {} {votes} Term:{} Lead:{}",
                    format::role(raw.role()),
                    raw.term(),
                    raw.leader().map_or(0, raft_core::NodeId::get)
                ),
            );
        }
        Ok(())
    }

    pub(super) fn status(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&[])?;
        for (id, progress) in self.node(command, 0)?.raw.status().progress {
            push_line(out, format::progress(id, &progress));
        }
        Ok(())
    }
}
