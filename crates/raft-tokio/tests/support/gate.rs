//! A state machine that stops whenever a test wants it to.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};

/// Whether commands are let through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    is_shut: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub(crate) fn shut(&self) {
        *self.is_shut.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.is_shut.0.lock().unwrap() = false;
        self.is_shut.1.notify_all();
    }

    fn pass(&self) {
        let (is_shut, changed) = &*self.is_shut;
        let guard = is_shut.lock().unwrap();
        drop(changed.wait_while(guard, |is_shut| *is_shut).unwrap());
    }
}

/// Opens the gate when a test ends in any way, or the runtime would wait for it.
pub(crate) struct OpenAtLast(pub(crate) Gate);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}

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
