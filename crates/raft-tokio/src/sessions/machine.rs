//! # The state machine around the user's
//!
//! - Owns: the user's state machine, and the table of sessions beside it.

use bytes::Bytes;
use raft_core::LogIndex;

use super::command::{SessionCommand, SessionReply, applied};
use super::table::{SessionLimits, Table, Turn};
use crate::box_error::BoxError;
use crate::snapshot::{SnapshotJob, SnapshotReader};
use crate::state_machine::StateMachine;

/// A state machine that applies a repeated command once. Its commands are
/// [`SessionCommand`]s, its replies [`SessionReply`]s; a
/// [`SessionClient`](super::SessionClient) and a
/// [`SessionPipeline`](super::SessionPipeline) do both. Queries go to the wrapped
/// state machine as they are.
///
/// ```
/// use bytes::Bytes;
/// use raft_tokio::sessions::{SessionCommand, SessionLimits, SessionReply, Sessions};
/// use raft_tokio::{LogIndex, StateMachine};
/// # use raft_tokio::{BoxError, SnapshotJob, SnapshotReader};
/// # #[derive(Default)]
/// # struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
/// #         self.0 += 1;
/// #         Bytes::from(self.0.to_string())
/// #     }
/// #     fn snapshot(&mut self) -> SnapshotJob { SnapshotJob::bytes("") }
/// #     fn restore(&mut self, _snapshot: &mut SnapshotReader) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// let mut machine = Sessions::new(Counter::default(), SessionLimits::default());
/// let mut apply = |index, command: SessionCommand| {
///     SessionReply::decode(machine.apply(LogIndex::new(index), &command.encode())).unwrap()
/// };
/// let SessionReply::Opened(session) = apply(2, SessionCommand::Open) else { panic!() };
/// let increment = SessionCommand::InSession {
///     session,
///     sequence: 1,
///     acknowledged: 0,
///     command: Bytes::from_static(b"increment"),
/// };
/// let first = apply(3, increment.clone());
/// assert_eq!(first, SessionReply::Applied(Bytes::from_static(b"1")));
/// assert_eq!(apply(4, increment), first);
/// ```
#[derive(Debug)]
pub struct Sessions<M> {
    machine: M,
    table: Table,
}

impl<M: StateMachine> Sessions<M> {
    /// Wraps a state machine. The limits are those of a new cluster, and have to
    /// be the same on each of its initial voters.
    pub fn new(machine: M, limits: SessionLimits) -> Self {
        Self {
            machine,
            table: Table::new(limits),
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn execute(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        let reply = match SessionCommand::decode(command) {
            Some(SessionCommand::InSession {
                session,
                sequence,
                acknowledged,
                command,
            }) => match self.table.take(index, session, sequence, acknowledged) {
                Turn::Next => {
                    let reply = applied(self.machine.apply(index, &command));
                    self.table.remember(session, reply.clone());
                    return reply;
                }
                Turn::Again(reply) => return reply,
                Turn::TooOld { applied } => SessionReply::TooOld { applied },
                Turn::TooEarly { applied } => SessionReply::TooEarly { applied },
                Turn::UnknownSession => SessionReply::UnknownSession,
            },
            Some(SessionCommand::Plain(command)) => {
                SessionReply::Applied(self.machine.apply(index, &command))
            }
            Some(SessionCommand::Open) => SessionReply::Opened(self.table.open(index)),
            Some(SessionCommand::Close(session)) => {
                self.table.close(session);
                SessionReply::Closed
            }
            None => SessionReply::Malformed,
        };
        reply.encode()
    }
}

impl<M: StateMachine> StateMachine for Sessions<M> {
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        // Before the command: an idle session must not revive by being late.
        self.table.expire(index);
        let reply = self.execute(index, command);
        self.table.expire(index);
        reply
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.machine.query(query)
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let table = self.table.clone();
        let machine = self.machine.snapshot();
        SnapshotJob::new(move |out| {
            table.write_to(out)?;
            machine.write_to(out)
        })
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        let table = Table::read_from(snapshot)?;
        self.machine.restore(snapshot)?;
        self.table = table;
        Ok(())
    }
}
