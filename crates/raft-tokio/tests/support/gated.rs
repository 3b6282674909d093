//! A state machine that stops whenever a test wants it to.

use bytes::Bytes;
use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};

use super::gate::Gate;

/// Counts commands, and blocks its thread at the gate.
#[derive(Debug)]
pub(crate) struct Gated {
    gate: Gate,
    count: u64,
}

impl Gated {
    pub(crate) fn behind(gate: &Gate) -> Self {
        Self {
            gate: gate.clone(),
            count: 0,
        }
    }
}

impl StateMachine for Gated {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        self.gate.pass();
        self.count += 1;
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::bytes(self.count.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.count = u64::from_le_bytes(snapshot.read_whole()?.as_ref().try_into()?);
        Ok(())
    }
}
