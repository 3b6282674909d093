//! # Commands: nodes come, restart and forget
//!
//! - Changes: the nodes, the letters.

use raft_core::{
    ConfState, Config, LogIndex, MemoryStorageError, NodeId, Protections, ReadOnly, Snapshot,
    SnapshotMetadata, StorageWrites, Term,
};

use super::{Driver, Environment, Node, Output, Stop, node_id};
use crate::format;
use crate::script::{Command, ScriptError};

/// What scripts start from: what the core does by default, with short timeouts and
/// no limits.
fn scenario_config(id: NodeId) -> Config {
    Config {
        election_ticks: 3,
        heartbeat_ticks: 1,
        append_bytes_max: u64::MAX,
        inflight_messages_max: usize::MAX,
        ..Config::new(id)
    }
}

fn config_of(command: &Command, id: NodeId) -> Result<Config, ScriptError> {
    let mut config = scenario_config(id);
    if let Some(messages) = command.number_of("inflight")? {
        config.inflight_messages_max = usize::try_from(messages).unwrap_or(usize::MAX);
    }
    config.committed_bytes_max = command.number_of("max-committed-size-per-ready")?;
    if let Some(bytes) = command.number_of("max-size-per-msg")? {
        config.append_bytes_max = bytes;
    }
    if let Some(bytes) = command.number_of("max-inflight-bytes")? {
        config.inflight_bytes_max = bytes;
    }
    if let Some(bytes) = command.number_of("max-uncommitted-size")? {
        config.uncommitted_bytes_max = bytes;
    }
    config.pre_vote = command.is_set("prevote")?;
    config.check_quorum = command.is_set("checkquorum")?;
    config.step_down_on_removal = command.is_set("step-down-on-removal")?;
    config.conf_change_validation = !command.is_set("disable-conf-change-validation")?;
    config.proposal_forwarding = !command.is_set("disable-proposal-forwarding")?;
    if command.is_set("async-storage-writes")? {
        config.storage_writes = StorageWrites::Asynchronous;
    }
    if driver_of(command)? == Driver::Careful {
        config.protections = Protections::On;
    }
    config.read_only = match command.value("read-only") {
        None | Some("safe") => ReadOnly::Safe,
        Some("lease-based") => ReadOnly::LeaseBased,
        Some(other) => return Err(ScriptError::new(format!("read-only cannot be {other}"))),
    };
    Ok(config)
}

fn driver_of(command: &Command) -> Result<Driver, ScriptError> {
    match command.value("driver") {
        None | Some("reference") => Ok(Driver::Reference),
        Some("careful") => Ok(Driver::Careful),
        Some(other) => Err(ScriptError::new(format!("driver cannot be {other}"))),
    }
}

fn snapshot_of(command: &Command) -> Result<Snapshot, ScriptError> {
    let ids = |key| {
        command
            .numbers_of(key)?
            .into_iter()
            .map(node_id)
            .collect::<Result<Vec<_>, ScriptError>>()
    };
    let conf_state = ConfState {
        voters: ids("voters")?,
        learners: ids("learners")?,
        ..ConfState::default()
    };
    let index = LogIndex::new(command.number_of("index")?.unwrap_or(0));
    if conf_state == ConfState::default() && index == LogIndex::ZERO {
        return Ok(Snapshot::default());
    }
    if index <= LogIndex::new(1) {
        return Err(ScriptError::new("nodes with members need an index above 1"));
    }
    Ok(Snapshot {
        metadata: SnapshotMetadata {
            index,
            term: Term::new(1),
            conf_state,
        },
        ..Snapshot::default()
    })
}

impl Environment {
    pub(super) fn add_nodes(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[
            "voters",
            "learners",
            "index",
            "inflight",
            "prevote",
            "checkquorum",
            "async-storage-writes",
            "max-committed-size-per-ready",
            "max-size-per-msg",
            "max-inflight-bytes",
            "max-uncommitted-size",
            "disable-conf-change-validation",
            "disable-proposal-forwarding",
            "read-only",
            "step-down-on-removal",
            "driver",
        ])?;
        let driver = driver_of(command)?;
        let snapshot = snapshot_of(command)?;
        for _ in 0..command.number(0)? {
            let next = u64::try_from(self.nodes.len() + 1).unwrap_or(u64::MAX);
            let config = Config {
                applied: snapshot.metadata.index,
                ..config_of(command, node_id(next)?)?
            };
            self.nodes
                .push(Node::new(config, driver, snapshot.clone())?);
        }
        Ok(())
    }

    /// What the node sent to others stays on its way; what it told itself is
    /// lost with it.
    pub(super) fn restart(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let node = self.node(command, 0)?;
        node.restart()?;
        let id = node.id();
        self.letters
            .retain(|letter| !(letter.to() == id && letter.is_local()));
        Ok(())
    }

    pub(super) fn compact(&mut self, command: &Command, out: &mut String) -> Result<(), Stop> {
        command.only(&[])?;
        let index = LogIndex::new(command.number(1)?);
        let node = self.node(command, 0)?;
        match node.raw.storage_mut().log.compact(index) {
            Ok(()) => {}
            // The reference panics.
            Err(why @ MemoryStorageError::Unavailable) => return Err(node.broken(why).into()),
            Err(why) => return Err(Stop::Refused(format::storage_error(why))),
        }
        self.raft_log(command, out)
    }

    /// Records the latest state as the storage's snapshot, from which the node
    /// takes its configuration when it restarts.
    pub(super) fn create_snapshot(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        let node = self.node(command, 0)?;
        let storage = node.raw.storage_mut();
        let SnapshotMetadata {
            index, conf_state, ..
        } = storage.state.metadata.clone();
        let data = storage.state.data.clone();
        let created = storage.log.create_snapshot(index, Some(conf_state), data);
        let result = created.map(|_| ());
        result.map_err(|why| node.broken(why))?;
        Ok(())
    }

    pub(super) fn log_level(&mut self, command: &Command) -> Result<(), Stop> {
        command.only(&[])?;
        self.output = Output::of_level(command.word(0)?)?;
        Ok(())
    }
}

impl Output {
    /// The core does not log, so that all levels but `none` are the same.
    pub(super) fn of_level(level: &str) -> Result<Self, ScriptError> {
        match level.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::Silenced),
            "debug" | "info" | "warn" | "error" | "fatal" => Ok(Self::Shown),
            other => Err(ScriptError::new(format!("there is no log level {other}"))),
        }
    }
}
