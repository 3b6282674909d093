//! # Commands: time and elections
//!
//! - Changes: single nodes.

use super::{Environment, Stop, node_id};
use crate::script::{Command, ScriptError};

impl Environment {
    pub(super) fn campaign(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let node = self.node(command, 0)?;
        let result = node.raw.campaign();
        Ok(result.map_err(|why| node.broken(why))?)
    }

    pub(super) fn forget_leader(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        self.node(command, 0)?.raw.forget_leader();
        Ok(())
    }

    pub(super) fn transfer_leadership(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&["from", "to"])?;
        let side = |key| {
            command
                .number_of(key)?
                .ok_or_else(|| ScriptError::new(format!("transfer-leadership needs {key}")))
        };
        let (from, to) = (side("from")?, node_id(side("to")?)?);
        let node = self.node_with_id(from)?;
        let result = node.raw.transfer_leadership(to);
        Ok(result.map_err(|why| node.broken(why))?)
    }

    pub(super) fn set_election_timeout(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&["timeout"])?;
        let ticks = command
            .number_of("timeout")?
            .and_then(|ticks| u32::try_from(ticks).ok())
            .ok_or_else(|| ScriptError::new("the timeout must be a small number"))?;
        self.node(command, 0)?
            .raw
            .set_randomized_election_timeout(ticks);
        Ok(())
    }

    pub(super) fn tick_election(&mut self, command: &Command) -> Result<(), Stop> {
        let ticks = self.node(command, 0)?.raw.config().election_ticks;
        self.tick(command, ticks)
    }

    pub(super) fn tick_heartbeat(&mut self, command: &Command) -> Result<(), Stop> {
        let ticks = self.node(command, 0)?.raw.config().heartbeat_ticks;
        self.tick(command, ticks)
    }

    fn tick(&mut self, command: &Command, ticks: u32) -> Result<(), Stop> {
        command.only(&[])?;
        let node = self.node(command, 0)?;
        for _ in 0..ticks {
            let result = node.raw.tick();
            result.map_err(|why| node.broken(why))?;
        }
        Ok(())
    }
}
