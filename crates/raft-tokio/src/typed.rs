//! # Commands and states that are plain values
//!
//! The layer for users who would rather write `enum Command` than bytes. The
//! state is one value that serde can encode; a snapshot is that value.
//!
//! Everything is encoded by postcard behind one byte that says so. Postcard
//! knows fields by their order: new variants of a command go to the end of its
//! enum, and what is there keeps its shape.
//!
//! - Owns: the state, behind a lock that the state machine's task takes to
//!   apply a command, and a reader to look.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use raft_core::LogIndex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::box_error::BoxError;
use crate::config::RaftConfig;
use crate::error::{ProposeError, ReadError, StartError};
use crate::log_store::LogStore;
use crate::replica::Raft;
use crate::snapshot::{SnapshotJob, SnapshotReader};
use crate::state_machine::StateMachine;
use crate::transport::Transport;

/// The first byte of everything that is encoded here. It also makes sure that
/// no command is empty.
const FORMAT: u8 = 1;

/// A state that is one plain value, and what commands do to it.
///
/// A snapshot clones the value and encodes the clone on another thread. A state
/// that is too large for that implements [`StateMachine`] instead.
///
/// Commands are in the log, and the state is in the snapshots, encoded with postcard
/// behind a byte for the format: they must stay readable. New variants of an enum go
/// to its end, and every replica gets the new program before such a command is
/// proposed; a field that is added to the state makes older snapshots unreadable.
///
/// Applying must depend on nothing but the state and the command, as for
/// [`StateMachine`].
///
/// ```
/// use raft_tokio::SerdeMachine;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Account {
///     cents: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// enum Command {
///     Deposit { cents: u64 },
///     Withdraw { cents: u64 },
/// }
///
/// impl SerdeMachine for Account {
///     type Command = Command;
///     type Reply = Result<u64, String>;
///
///     fn apply(&mut self, command: Command) -> Result<u64, String> {
///         self.cents = match command {
///             Command::Deposit { cents } => self.cents.checked_add(cents),
///             Command::Withdraw { cents } => self.cents.checked_sub(cents),
///         }
///         .ok_or_else(|| format!("there are {} cents", self.cents))?;
///         Ok(self.cents)
///     }
/// }
/// ```
pub trait SerdeMachine: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What can be done to the state.
    type Command: Serialize + DeserializeOwned;
    /// What whoever proposed a command gets back.
    type Reply: Serialize + DeserializeOwned;

    /// Applies a committed command. Must be deterministic, and must not fail: a
    /// command that makes no sense has a reply that says so.
    fn apply(&mut self, command: Self::Command) -> Self::Reply;
}

/// A value cannot be encoded, or bytes are not such a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Postcard cannot encode or decode it.
    #[error("postcard cannot read or write this value: {0}")]
    Postcard(#[from] postcard::Error),
    /// The bytes were not written by this layer.
    #[error("the bytes do not begin with this layer's format byte; propose through TypedRaft only")]
    Foreign,
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    let mut out = vec![FORMAT];
    out = postcard::to_extend(value, out)?;
    Ok(out.into())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&FORMAT, value)) => Ok(postcard::from_bytes(value)?),
        _ => Err(CodecError::Foreign),
    }
}

/// A [`SerdeMachine`] as a [`StateMachine`]. [`TypedRaft`] makes it; it is public
/// so that it can be wrapped. Typed commands that are applied exactly once, however
/// often they are tried, are those of a typed state with
/// [`Sessions`](crate::Sessions) around it:
///
/// ```
/// use std::time::Duration;
///
/// use raft_tokio::{
///     MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig, SerdeMachine, SessionClient,
///     SessionLimits, Sessions, Typed,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Total(u64);
///
/// impl SerdeMachine for Total {
///     type Command = u64;
///     type Reply = u64;
///     fn apply(&mut self, more: u64) -> u64 {
///         self.0 += more;
///         self.0
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = NodeId::try_from(1)?;
/// let machine = Sessions::new(Typed::new(Total::default()), SessionLimits::default());
/// let transport = MemoryNetwork::new().join(id);
/// let config = RaftConfig::new(id, vec![id]);
/// let raft = Raft::start(config, machine, MemoryLogStore::new(), transport).await?;
///
/// let mut client = SessionClient::open(raft, Duration::from_secs(10)).await?;
/// let applied = client.propose(Typed::<Total>::encode_command(&2)?).await?;
/// assert_eq!(Typed::<Total>::decode_reply(&applied.reply)?, 2);
/// # Ok(())
/// # }
/// ```
///
/// A command that it cannot read stops the replica: an older program that
/// skipped what a newer one understands would have another state from then on.
/// Once the program is replaced the replica goes on where it was.
pub struct Typed<S> {
    state: Arc<RwLock<S>>,
}

impl<S> fmt::Debug for Typed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

impl<S: SerdeMachine> Typed<S> {
    /// Begins with this state.
    pub fn new(state: S) -> Self {
        Self {
            state: Arc::new(RwLock::new(state)),
        }
    }

    /// A command as it stands in the log.
    ///
    /// # Errors
    /// Serde cannot encode it.
    pub fn encode_command(command: &S::Command) -> Result<Bytes, CodecError> {
        encode(command)
    }

    /// A reply from what [`StateMachine::apply`] returned.
    ///
    /// # Errors
    /// It is none of this machine's.
    pub fn decode_reply(reply: &[u8]) -> Result<S::Reply, CodecError> {
        decode(reply)
    }

    /// Only one task writes, and a panic in it stops the replica.
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, S> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: SerdeMachine> StateMachine for Typed<S> {
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        let command = decode(command).unwrap_or_else(|error| {
            // The task of the state machine catches this, and stops the replica.
            panic!("the command at index {index} cannot be read; is this program older than the one that proposed it? {error}")
        });
        let reply = self.write().apply(command);
        encode(&reply).unwrap_or_else(|error| {
            tracing::error!(%index, %error, "a reply cannot be encoded; its caller gets an error");
            Bytes::new()
        })
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let state = self.write().clone();
        SnapshotJob::new(move |out| {
            out.write_all(&[FORMAT])?;
            SnapshotJob::value(state).write_to(out)
        })
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        let state = decode(&snapshot.read_whole()?)?;
        *self.write() = state;
        Ok(())
    }
}

/// A typed command did not get a typed reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedProposeError {
    /// The command cannot be encoded. It was not proposed.
    #[error("the command was not proposed: {0}")]
    Command(CodecError),
    /// The command was applied, but its reply cannot be read.
    #[error("the command was applied, but its reply cannot be read: {0}")]
    Reply(CodecError),
    /// The proposal was refused, or its outcome is unknown.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl TypedProposeError {
    /// Whether the same command may succeed later, here or at another server,
    /// and certainly did not happen yet.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Propose(error) if error.is_retryable())
    }

    /// Whether the command may have been applied, or may still be.
    pub fn is_indeterminate(&self) -> bool {
        matches!(self, Self::Propose(error) if error.is_indeterminate())
    }
}

/// A [`Raft`] whose commands, replies and state are the user's own types. Cheap
/// to clone.
///
/// ```
/// use raft_tokio::{
///     MemoryLogStore, MemoryNetwork, NodeId, RaftConfig, SerdeMachine, TypedRaft,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Counter(i64);
///
/// impl SerdeMachine for Counter {
///     type Command = i64;
///     type Reply = i64;
///     fn apply(&mut self, by: i64) -> i64 {
///         self.0 += by;
///         self.0
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = NodeId::new(1).expect("1 is a node id");
/// let config = RaftConfig::new(id, vec![id]);
/// let transport = MemoryNetwork::new().join(id);
/// let raft = TypedRaft::start(config, Counter(40), MemoryLogStore::new(), transport).await?;
/// raft.raft().campaign().await?;
///
/// assert_eq!(raft.propose(&2).await?, 42);
/// assert_eq!(raft.read(|counter| counter.0).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct TypedRaft<S> {
    raft: Raft,
    state: Arc<RwLock<S>>,
}

impl<S> Clone for TypedRaft<S> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            state: self.state.clone(),
        }
    }
}

impl<S> fmt::Debug for TypedRaft<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRaft")
            .field("raft", &self.raft)
            .finish_non_exhaustive()
    }
}

impl<S: SerdeMachine> TypedRaft<S> {
    /// Starts a replica, like [`Raft::start`]. A new cluster begins with
    /// `state`, which has to be the same on every initial voter; after that the
    /// state is what the log says. The type of the state is that of the data on the
    /// disk: see [`SerdeMachine`] before changing it.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter(i64);
    /// # impl raft_tokio::SerdeMachine for Counter {
    /// #     type Command = i64;
    /// #     type Reply = i64;
    /// #     fn apply(&mut self, by: i64) -> i64 {
    /// #         self.0 += by;
    /// #         self.0
    /// #     }
    /// # }
    /// # async fn example(id: raft_tokio::NodeId) -> Result<(), raft_tokio::StartError> {
    /// use raft_tokio::{MemoryLogStore, MemoryNetwork, RaftConfig, TypedRaft};
    ///
    /// let transport = MemoryNetwork::new().join(id);
    /// let config = RaftConfig::new(id, vec![id]);
    /// let raft = TypedRaft::start(config, Counter::default(), MemoryLogStore::new(), transport).await?;
    /// println!("node {} runs", raft.raft().id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Raft::start`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with a clock (`enable_time`).
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing runs.
    pub async fn start(
        config: RaftConfig,
        state: S,
        log: impl LogStore,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        let machine = Typed::new(state);
        let state = machine.state.clone();
        let raft = Raft::start(config, machine, log, transport).await?;
        Ok(Self { raft, state })
    }

    /// The handle below: members, status, shutdown. Commands go through
    /// [`propose`](Self::propose) alone, since replicas stop at bytes that are
    /// none.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter(i64);
    /// # impl raft_tokio::SerdeMachine for Counter {
    /// #     type Command = i64;
    /// #     type Reply = i64;
    /// #     fn apply(&mut self, by: i64) -> i64 {
    /// #         self.0 += by;
    /// #         self.0
    /// #     }
    /// # }
    /// # async fn example(raft: raft_tokio::TypedRaft<Counter>) -> Result<(), raft_tokio::Stopped> {
    /// raft.raft().wait_for(|status| status.leader.is_some()).await?;
    /// raft.raft().shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Proposes a command, and waits for its reply, like [`Raft::propose`].
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter(i64);
    /// # impl raft_tokio::SerdeMachine for Counter {
    /// #     type Command = i64;
    /// #     type Reply = i64;
    /// #     fn apply(&mut self, by: i64) -> i64 {
    /// #         self.0 += by;
    /// #         self.0
    /// #     }
    /// # }
    /// # async fn example(raft: raft_tokio::TypedRaft<Counter>) -> Result<(), raft_tokio::TypedProposeError> {
    /// match raft.propose(&2).await {
    ///     Ok(sum) => println!("{sum}"),
    ///     Err(error) if error.is_retryable() => println!("it did not happen: {error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TypedProposeError::is_retryable`] says whether it certainly did not
    /// happen and may be tried again; [`TypedProposeError::is_indeterminate`]
    /// whether it may have happened, or may still.
    ///
    /// # Cancel safety
    /// As for [`Raft::propose`]: dropping stops the wait, not the command.
    pub async fn propose(&self, command: &S::Command) -> Result<S::Reply, TypedProposeError> {
        let command = encode(command).map_err(TypedProposeError::Command)?;
        let applied = self.raft.propose(command).await?;
        decode(&applied.reply).map_err(TypedProposeError::Reply)
    }

    /// Looks at the state, linearizably: it reflects every command that was
    /// committed when this was called. Works on followers too. While `look`
    /// runs no command is applied here, so it should be short.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter(i64);
    /// # impl raft_tokio::SerdeMachine for Counter {
    /// #     type Command = i64;
    /// #     type Reply = i64;
    /// #     fn apply(&mut self, by: i64) -> i64 {
    /// #         self.0 += by;
    /// #         self.0
    /// #     }
    /// # }
    /// # async fn example(raft: raft_tokio::TypedRaft<Counter>) -> Result<(), raft_tokio::ReadError> {
    /// let sum = raft.read(|counter| counter.0).await?;
    /// println!("{sum}, and nothing older");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Raft::read`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read<T>(&self, look: impl FnOnce(&S) -> T) -> Result<T, ReadError> {
        self.raft.read().await?;
        if let Some(seen) = self.look(look) {
            return Ok(seen);
        }
        // A command panicked half way, so the replica is about to stop.
        Err(self.raft.shutdown().await.into())
    }

    /// Looks at the state as it is here and now, which may be older than what
    /// others have seen already. `None` if a command panicked, and left the
    /// state in between.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter(i64);
    /// # impl raft_tokio::SerdeMachine for Counter {
    /// #     type Command = i64;
    /// #     type Reply = i64;
    /// #     fn apply(&mut self, by: i64) -> i64 {
    /// #         self.0 += by;
    /// #         self.0
    /// #     }
    /// # }
    /// # async fn example(raft: raft_tokio::TypedRaft<Counter>) -> Result<(), std::convert::Infallible> {
    /// if let Some(sum) = raft.look(|counter| counter.0) {
    ///     println!("{sum} here, perhaps more elsewhere");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn look<T>(&self, look: impl FnOnce(&S) -> T) -> Option<T> {
        let state = self.state.read().ok()?;
        Some(look(&state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Log(Vec<String>);

    impl SerdeMachine for Log {
        type Command = ();
        type Reply = usize;
        fn apply(&mut self, (): ()) -> usize {
            self.0.push("x".to_owned());
            self.0.len()
        }
    }

    #[test]
    fn even_a_command_without_content_has_bytes() {
        let command = Typed::<Log>::encode_command(&()).unwrap();
        assert_eq!(command, [FORMAT].as_slice());
        let mut machine = Typed::new(Log(Vec::new()));
        let reply = machine.apply(LogIndex::new(2), &command);
        assert_eq!(Typed::<Log>::decode_reply(&reply), Ok(1));
    }

    #[test]
    fn a_snapshot_is_the_state_as_it_was() {
        let command = Typed::<Log>::encode_command(&()).unwrap();
        let mut machine = Typed::new(Log(vec!["a".to_owned()]));
        let job = machine.snapshot();
        machine.apply(LogIndex::new(2), &command);
        let mut other = Typed::new(Log(Vec::new()));
        let bytes = job.into_bytes().unwrap();
        other.restore(&mut SnapshotReader::of_bytes(bytes)).unwrap();
        assert_eq!(*other.state.read().unwrap(), Log(vec!["a".to_owned()]));
    }

    #[test]
    fn bytes_of_others_are_refused() {
        let mut machine = Typed::new(Log(vec!["a".to_owned()]));
        for foreign in [&b""[..], b"\x02\x00", b"\x01\xff"] {
            let mut snapshot = SnapshotReader::of_bytes(foreign);
            assert!(machine.restore(&mut snapshot).is_err());
        }
        assert_eq!(Typed::<Log>::decode_reply(b"7"), Err(CodecError::Foreign));
        assert_eq!(*machine.state.read().unwrap(), Log(vec!["a".to_owned()]));
    }

    #[test]
    #[should_panic(expected = "the command at index 2 cannot be read")]
    fn a_command_that_cannot_be_read_is_not_skipped() {
        let mut machine = Typed::new(Log(Vec::new()));
        machine.apply(LogIndex::new(2), &Bytes::from_static(b"foreign"));
    }
}
