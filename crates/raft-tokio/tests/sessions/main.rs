//! Commands that are tried again are applied once, on every replica alike.

mod clients;
mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft_tokio::sessions::{SessionCommand, SessionReply};
use raft_tokio::{
    BoxError, LogIndex, SessionId, SessionLimits, Sessions, SnapshotJob, SnapshotReader,
    StateMachine,
};
use support::Journal;

/// A machine that a test can look into while a replica uses it.
#[derive(Clone)]
struct Glass(Arc<Mutex<Sessions<Journal>>>);

impl Glass {
    fn new(limits: SessionLimits) -> Self {
        let machine = Sessions::new(Journal::default(), limits);
        Self(Arc::new(Mutex::new(machine)))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Sessions<Journal>) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// Everything in it, as bytes.
    fn state(&self) -> Bytes {
        self.with(StateMachine::snapshot).into_bytes().unwrap()
    }

    fn set_state(&mut self, state: Bytes) -> Result<(), BoxError> {
        self.restore(&mut SnapshotReader::of_bytes(state))
    }

    fn step(&mut self, index: u64, command: &SessionCommand) -> SessionReply {
        let reply = self.apply(LogIndex::new(index), &command.encode());
        SessionReply::decode(reply).unwrap()
    }

    fn open(&mut self, index: u64) -> SessionId {
        match self.step(index, &SessionCommand::Open) {
            SessionReply::Opened(session) => session,
            reply => panic!("{reply:?}"),
        }
    }
}

impl StateMachine for Glass {
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        self.with(|machine| machine.apply(index, command))
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.with(|machine| machine.query(query))
    }

    fn snapshot(&mut self) -> SnapshotJob {
        self.with(StateMachine::snapshot)
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.with(|machine| machine.restore(snapshot))
    }
}

/// The command of a client that has one under way.
fn in_session(session: SessionId, sequence: u64, command: &'static str) -> SessionCommand {
    under_way(session, sequence, sequence.saturating_sub(1), command)
}

/// The command of a client that still waits for what is behind `acknowledged`.
fn under_way(
    session: SessionId,
    sequence: u64,
    acknowledged: u64,
    command: &'static str,
) -> SessionCommand {
    SessionCommand::InSession {
        session,
        sequence,
        acknowledged,
        command: Bytes::from_static(command.as_bytes()),
    }
}

fn applied(reply: &'static str) -> SessionReply {
    SessionReply::Applied(Bytes::from_static(reply.as_bytes()))
}
