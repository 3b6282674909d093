//! # Exactly once
//!
//! A command whose outcome is unknown may be proposed again, if the replicated
//! state remembers what it has applied. [`Sessions`] wraps a state machine and
//! does that: commands carry a session and a number in it, and a command that
//! comes again gets the reply of the first time.
//!
//! Sessions expire by the log, never by a clock, so every replica forgets the
//! same ones at the same entry. A command of a forgotten session is refused; it
//! is never applied a second time.
//!
//! - Owns: the table of sessions, in the replicated state and its snapshots.
//! - Source: Raft §8, thesis §6.3.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::LogIndex;
use tokio::time::{Instant, sleep};

use crate::error::ProposeError;
use crate::replica::{Applied, Raft};
use crate::state_machine::{BoxError, SnapshotJob, StateMachine};

/// A session: the index of the command that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When sessions are forgotten. A cluster keeps the limits that it began with:
/// they are in its snapshots, and what a later start says is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many sessions there may be; one more pushes out the one that was
    /// quiet for longest. Default 10 000.
    pub sessions_max: u64,
    /// Entries of the log after which a session without commands is forgotten.
    /// Default ten million.
    pub idle_entries_max: u64,
    /// Bytes of replies that are remembered; more push out the sessions that
    /// were quiet for longest. Default 64 MiB.
    pub reply_bytes_max: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            idle_entries_max: 10_000_000,
            reply_bytes_max: 64 << 20,
        }
    }
}

// ── what stands in the log ───────────────────────────────────────────────────

const PLAIN: u8 = 0;
const OPEN: u8 = 1;
const IN_SESSION: u8 = 2;
const CLOSE: u8 = 3;

/// A command as it stands in the log, for those who propose without a
/// [`SessionClient`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// A command outside of sessions. Proposed twice it is applied twice.
    Plain(Bytes),
    /// Opens a session.
    Open,
    /// A command in a session.
    InSession {
        /// The session.
        session: SessionId,
        /// Its number there, from 1 on. Larger than that of every command
        /// before it; gaps are allowed.
        sequence: u64,
        /// What the wrapped state machine gets.
        command: Bytes,
    },
    /// Forgets a session.
    Close(SessionId),
}

impl SessionCommand {
    /// The bytes to propose.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(17 + self.payload_len());
        match self {
            Self::Plain(command) => {
                out.put_u8(PLAIN);
                out.put_slice(command);
            }
            Self::Open => out.put_u8(OPEN),
            Self::InSession {
                session,
                sequence,
                command,
            } => {
                out.put_u8(IN_SESSION);
                out.put_u64_le(session.0);
                out.put_u64_le(*sequence);
                out.put_slice(command);
            }
            Self::Close(session) => {
                out.put_u8(CLOSE);
                out.put_u64_le(session.0);
            }
        }
        out.freeze()
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Plain(command) | Self::InSession { command, .. } => command.len(),
            Self::Open | Self::Close(_) => 0,
        }
    }

    /// `None` if the bytes are no such command.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let mut rest = bytes.clone();
        match rest.try_get_u8().ok()? {
            PLAIN => Some(Self::Plain(rest)),
            OPEN if rest.is_empty() => Some(Self::Open),
            IN_SESSION => Some(Self::InSession {
                session: SessionId(rest.try_get_u64_le().ok()?),
                sequence: rest.try_get_u64_le().ok()?,
                command: rest,
            }),
            CLOSE => {
                let session = SessionId(rest.try_get_u64_le().ok()?);
                rest.is_empty().then_some(Self::Close(session))
            }
            _ => None,
        }
    }
}

const APPLIED: u8 = 0;
const OPENED: u8 = 1;
const CLOSED: u8 = 2;
const TOO_OLD: u8 = 3;
const UNKNOWN_SESSION: u8 = 4;
const MALFORMED: u8 = 5;

/// What [`Sessions`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// The command was applied, now or when it came first. This is what the
    /// wrapped state machine answered then.
    Applied(Bytes),
    /// The session is open.
    Opened(SessionId),
    /// The session is forgotten.
    Closed,
    /// A later command of the session was applied before; this one was not
    /// applied now. Its reply, if it ever had one, is forgotten.
    TooOld {
        /// The number of the last command that was applied.
        applied: u64,
    },
    /// There is no such session, or no more. The command was not applied now.
    UnknownSession,
    /// The bytes are no [`SessionCommand`]. Nothing was applied.
    Malformed,
}

impl SessionReply {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Applied(reply) => {
                out.reserve(1 + reply.len());
                out.put_u8(APPLIED);
                out.put_slice(reply);
            }
            Self::Opened(session) => {
                out.put_u8(OPENED);
                out.put_u64_le(session.0);
            }
            Self::Closed => out.put_u8(CLOSED),
            Self::TooOld { applied } => {
                out.put_u8(TOO_OLD);
                out.put_u64_le(*applied);
            }
            Self::UnknownSession => out.put_u8(UNKNOWN_SESSION),
            Self::Malformed => out.put_u8(MALFORMED),
        }
        out.freeze()
    }

    /// Reads the reply of a command that was proposed to [`Sessions`]. `None` if
    /// another state machine wrote it.
    pub fn decode(reply: &Bytes) -> Option<Self> {
        let mut rest = reply.clone();
        match rest.try_get_u8().ok()? {
            APPLIED => Some(Self::Applied(rest)),
            OPENED => Some(Self::Opened(SessionId(rest.try_get_u64_le().ok()?))),
            CLOSED => Some(Self::Closed),
            TOO_OLD => Some(Self::TooOld {
                applied: rest.try_get_u64_le().ok()?,
            }),
            UNKNOWN_SESSION => Some(Self::UnknownSession),
            MALFORMED => Some(Self::Malformed),
            _ => None,
        }
    }
}

// ── the table ────────────────────────────────────────────────────────────────

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// The entry of its latest command.
    last_used: LogIndex,
    /// The number of its latest command; zero before the first.
    sequence: u64,
    /// What that command was answered.
    reply: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    limits: SessionLimits,
    sessions: HashMap<SessionId, Session>,
    /// Sessions by their latest command, the longest quiet first. An entry is
    /// of one session, so no two share an index.
    by_use: BTreeMap<LogIndex, SessionId>,
    reply_bytes: u64,
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Table {
    fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            by_use: BTreeMap::new(),
            reply_bytes: 0,
        }
    }

    fn put(&mut self, id: SessionId, session: Session) {
        self.remove(id);
        self.by_use.insert(session.last_used, id);
        self.reply_bytes += len_of(&session.reply);
        self.sessions.insert(id, session);
    }

    fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&session.last_used);
            self.reply_bytes -= len_of(&session.reply);
        }
    }

    /// Forgets what the limits say is to be forgotten at `now`.
    fn expire(&mut self, now: LogIndex) {
        while let Some((&last_used, &id)) = self.by_use.first_key_value() {
            let is_idle = now.distance_from(last_used) > self.limits.idle_entries_max;
            let are_too_many = len_of_map(&self.sessions) > self.limits.sessions_max;
            let are_too_large = self.reply_bytes > self.limits.reply_bytes_max;
            // The session of this very entry stays, whatever the limits say.
            if last_used == now || !(is_idle || are_too_many || are_too_large) {
                break;
            }
            self.remove(id);
        }
    }
}

fn len_of_map<K, V>(map: &HashMap<K, V>) -> u64 {
    u64::try_from(map.len()).unwrap_or(u64::MAX)
}

/// The first byte of a snapshot of the table.
const SNAPSHOT_FORMAT: u8 = 1;

/// A snapshot of the table is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot has no table of sessions; was it made by a state machine without Sessions?")]
struct NoTable;

impl Table {
    /// Format, limits, count, then each session in order of its last use, then
    /// what the wrapped state machine wrote. Numbers are little-endian.
    fn encode(&self, inner: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.sessions.len() * 32 + inner.len());
        out.put_u8(SNAPSHOT_FORMAT);
        out.put_u64_le(self.limits.sessions_max);
        out.put_u64_le(self.limits.idle_entries_max);
        out.put_u64_le(self.limits.reply_bytes_max);
        out.put_u64_le(len_of_map(&self.sessions));
        for id in self.by_use.values() {
            let Some(session) = self.sessions.get(id) else {
                continue;
            };
            out.put_u64_le(id.0);
            out.put_u64_le(session.last_used.get());
            out.put_u64_le(session.sequence);
            out.put_u64_le(len_of(&session.reply));
            out.put_slice(&session.reply);
        }
        out.put_slice(inner);
        out.freeze()
    }

    /// The table, and what the wrapped state machine wrote.
    fn decode(mut bytes: Bytes) -> Result<(Self, Bytes), NoTable> {
        let number = |bytes: &mut Bytes| bytes.try_get_u64_le().map_err(|_| NoTable);
        if bytes.try_get_u8() != Ok(SNAPSHOT_FORMAT) {
            return Err(NoTable);
        }
        let mut table = Self::new(SessionLimits {
            sessions_max: number(&mut bytes)?,
            idle_entries_max: number(&mut bytes)?,
            reply_bytes_max: number(&mut bytes)?,
        });
        for _ in 0..number(&mut bytes)? {
            let id = SessionId(number(&mut bytes)?);
            let last_used = LogIndex::new(number(&mut bytes)?);
            let sequence = number(&mut bytes)?;
            let reply_len = usize::try_from(number(&mut bytes)?).map_err(|_| NoTable)?;
            if reply_len > bytes.len() || table.by_use.contains_key(&last_used) {
                return Err(NoTable);
            }
            // A copy, so that the table does not keep the whole snapshot alive.
            let reply = Bytes::copy_from_slice(&bytes.split_to(reply_len));
            table.put(
                id,
                Session {
                    last_used,
                    sequence,
                    reply,
                },
            );
        }
        Ok((table, bytes))
    }
}

/// A state machine that applies a repeated command once. Its commands are
/// [`SessionCommand`]s, its replies [`SessionReply`]s; a [`SessionClient`] does
/// both. Queries go to the wrapped state machine as they are.
///
/// ```
/// use bytes::Bytes;
/// use raft_tokio::sessions::{SessionCommand, SessionLimits, SessionReply, Sessions};
/// use raft_tokio::{LogIndex, StateMachine};
/// # use raft_tokio::{BoxError, SnapshotJob};
/// # #[derive(Default)]
/// # struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
/// #         self.0 += 1;
/// #         Bytes::from(self.0.to_string())
/// #     }
/// #     fn snapshot(&mut self) -> SnapshotJob { Box::new(|| Ok(Bytes::new())) }
/// #     fn restore(&mut self, _snapshot: Bytes) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// let mut machine = Sessions::new(Counter::default(), SessionLimits::default());
/// let mut apply = |index, command: SessionCommand| {
///     SessionReply::decode(&machine.apply(LogIndex::new(index), &command.encode())).unwrap()
/// };
/// let SessionReply::Opened(session) = apply(2, SessionCommand::Open) else { panic!() };
/// let increment = SessionCommand::InSession {
///     session,
///     sequence: 1,
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
        self.table.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.table.sessions.is_empty()
    }

    fn in_session(
        &mut self,
        index: LogIndex,
        id: SessionId,
        sequence: u64,
        command: &Bytes,
    ) -> SessionReply {
        let Some(session) = self.table.sessions.get(&id) else {
            return SessionReply::UnknownSession;
        };
        let applied = session.sequence;
        if sequence == applied && sequence > 0 {
            let mut session = session.clone();
            let reply = session.reply.clone();
            session.last_used = index;
            self.table.put(id, session);
            return SessionReply::Applied(reply);
        }
        if sequence <= applied {
            return SessionReply::TooOld { applied };
        }
        let reply = self.machine.apply(index, command);
        let session = Session {
            last_used: index,
            sequence,
            reply: reply.clone(),
        };
        self.table.put(id, session);
        SessionReply::Applied(reply)
    }
}

impl<M: StateMachine> StateMachine for Sessions<M> {
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        // Before the command: an idle session must not revive by being late.
        self.table.expire(index);
        let reply = match SessionCommand::decode(command) {
            Some(SessionCommand::Plain(command)) => {
                SessionReply::Applied(self.machine.apply(index, &command))
            }
            Some(SessionCommand::Open) => {
                let id = SessionId(index.get());
                let session = Session {
                    last_used: index,
                    sequence: 0,
                    reply: Bytes::new(),
                };
                self.table.put(id, session);
                SessionReply::Opened(id)
            }
            Some(SessionCommand::InSession {
                session,
                sequence,
                command,
            }) => self.in_session(index, session, sequence, &command),
            Some(SessionCommand::Close(session)) => {
                self.table.remove(session);
                SessionReply::Closed
            }
            None => SessionReply::Malformed,
        };
        self.table.expire(index);
        reply.encode()
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.machine.query(query)
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let table = self.table.clone();
        let machine = self.machine.snapshot();
        Box::new(move || Ok(table.encode(&machine()?)))
    }

    fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError> {
        let (table, inner) = Table::decode(snapshot)?;
        self.machine.restore(inner)?;
        self.table = table;
        Ok(())
    }
}

// ── the client ───────────────────────────────────────────────────────────────

/// A command of a session did not get a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session is not known any more, or never was. The command was not
    /// applied, and will not be. Open another session.
    #[error("the session has expired; open another one and try again")]
    Expired,
    /// The session expired while the command was tried again: **an attempt
    /// before may have applied it.** Open another session, and look at the state
    /// before trying again.
    #[error("the session has expired while the command was tried again; it may have been applied")]
    ExpiredMeanwhile,
    /// Somebody else uses the same session, and is ahead. Whether this command
    /// was applied before that is not known any more.
    #[error(
        "another client uses this session and is at number {applied}; open one for each client"
    )]
    TooOld {
        /// The number of the last command that was applied.
        applied: u64,
    },
    /// The replicas run a state machine that is not wrapped in [`Sessions`].
    #[error("the state machine does not keep sessions; wrap it in Sessions")]
    NoSessions,
    /// The proposal was refused, or its outcome is unknown even after trying
    /// again. In the latter case [`retry`](SessionClient::retry) goes on trying.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl SessionError {
    /// Whether the command may have been applied, or may still be.
    pub fn is_indeterminate(&self) -> bool {
        match self {
            Self::ExpiredMeanwhile | Self::TooOld { .. } => true,
            Self::Expired | Self::NoSessions => false,
            Self::Propose(error) => error.is_indeterminate(),
        }
    }
}

/// The pause before the first repetition; each one doubles, up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A session and the next number in it. Proposes one command after the other,
/// and tries again whatever did not get a reply, without harm: a command is
/// applied once.
///
/// A program that wants many commands under way opens a session for each; they
/// cost a few dozen bytes in the replicated state.
///
/// ```no_run
/// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::SessionError> {
/// use raft_tokio::SessionClient;
/// use std::time::Duration;
///
/// let mut client = SessionClient::open(raft, Duration::from_secs(30)).await?;
/// let applied = client.propose("increment").await?;
/// println!("{:?}", applied.reply);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SessionClient {
    raft: Raft,
    session: SessionId,
    /// The number of the latest command; zero before the first.
    sequence: u64,
    retry_timeout: Duration,
}

impl SessionClient {
    /// Opens a session through `raft`. Commands are tried again for
    /// `retry_timeout`; the last attempt may take a `proposal_timeout` beyond
    /// that.
    ///
    /// # Errors
    /// No session was opened, or nobody knows of it: one that was opened without
    /// anybody's knowledge expires.
    ///
    /// # Cancel safety
    /// Dropped while it waits, a session may be open that expires.
    pub async fn open(raft: Raft, retry_timeout: Duration) -> Result<Self, SessionError> {
        let command = SessionCommand::Open;
        match retrying(&raft, &command, retry_timeout).await?.0 {
            SessionReply::Opened(session) => Ok(Self {
                raft,
                session,
                sequence: 0,
                retry_timeout,
            }),
            _ => Err(SessionError::NoSessions),
        }
    }

    /// Goes on with a session that was opened before, whose latest command had
    /// the number `sequence`.
    pub fn resume(raft: Raft, session: SessionId, sequence: u64, retry_timeout: Duration) -> Self {
        Self {
            raft,
            session,
            sequence,
            retry_timeout,
        }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The number of the latest command; zero before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Asks another replica from now on, for instance because the one before has
    /// stopped.
    pub fn set_raft(&mut self, raft: Raft) {
        self.raft = raft;
    }

    /// Proposes a command, and tries again until there is a reply or
    /// `retry_timeout` is over. It is applied at most once, however often it is
    /// tried.
    ///
    /// # Errors
    /// [`SessionError::is_indeterminate`] says whether it may have been applied.
    /// If so, [`retry`](Self::retry) may find out; going on with another command
    /// makes sure that this one is not applied after that.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be applied, as for any outcome
    /// that is unknown.
    pub async fn propose(&mut self, command: impl Into<Bytes>) -> Result<Applied, SessionError> {
        // First, so that a command that was given up never shares its number.
        self.sequence += 1;
        self.attempt(command.into()).await
    }

    /// Proposes the latest command again, with its number. It has to be the same
    /// command: if it was applied before, the reply is that of the first time.
    ///
    /// # Errors
    /// As for [`propose`](Self::propose).
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose).
    pub async fn retry(&mut self, command: impl Into<Bytes>) -> Result<Applied, SessionError> {
        self.sequence = self.sequence.max(1);
        self.attempt(command.into())
            .await
            .map_err(|error| match error {
                // Earlier calls are attempts, too.
                SessionError::Expired => SessionError::ExpiredMeanwhile,
                SessionError::Propose(error) if !error.is_indeterminate() => {
                    SessionError::Propose(ProposeError::OutcomeUnknown)
                }
                error => error,
            })
    }

    async fn attempt(&mut self, command: Bytes) -> Result<Applied, SessionError> {
        if command.is_empty() {
            return Err(ProposeError::Empty.into());
        }
        let command = SessionCommand::InSession {
            session: self.session,
            sequence: self.sequence,
            command,
        };
        let (reply, applied, earlier) = retrying(&self.raft, &command, self.retry_timeout).await?;
        match (reply, earlier) {
            (SessionReply::Applied(reply), _) => Ok(Applied { reply, ..applied }),
            (SessionReply::TooOld { applied }, _) => Err(SessionError::TooOld { applied }),
            (SessionReply::UnknownSession, Attempts::Refused) => Err(SessionError::Expired),
            (SessionReply::UnknownSession, Attempts::Unknown) => {
                Err(SessionError::ExpiredMeanwhile)
            }
            (SessionReply::Opened(_) | SessionReply::Closed | SessionReply::Malformed, _) => {
                Err(SessionError::NoSessions)
            }
        }
    }

    /// Forgets the session everywhere.
    ///
    /// # Errors
    /// Nobody knows whether it is forgotten; if not, it expires.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the session may stay until it expires.
    pub async fn close(self) -> Result<(), SessionError> {
        let command = SessionCommand::Close(self.session);
        retrying(&self.raft, &command, self.retry_timeout).await?;
        Ok(())
    }
}

/// How the attempts before the last one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempts {
    /// None of them was applied, or can be.
    Refused,
    /// One of them may have been.
    Unknown,
}

/// Proposes until there is a reply, the time is over, or it is no use.
async fn retrying(
    raft: &Raft,
    command: &SessionCommand,
    retry_timeout: Duration,
) -> Result<(SessionReply, Applied, Attempts), SessionError> {
    let bytes = command.encode();
    let deadline = Instant::now() + retry_timeout;
    let mut pause = PAUSE_FIRST;
    let mut attempts = Attempts::Refused;
    loop {
        let error = match raft.propose(bytes.clone()).await {
            Ok(applied) => {
                let reply = SessionReply::decode(&applied.reply).ok_or(SessionError::NoSessions)?;
                return Ok((reply, applied, attempts));
            }
            Err(error) => error,
        };
        if error.is_indeterminate() {
            attempts = Attempts::Unknown;
        }
        let is_final = matches!(error, ProposeError::Stopped(_))
            || !(error.is_retryable() || error.is_indeterminate());
        if is_final || Instant::now() + pause > deadline {
            // The last attempt was refused, but one before may have been taken.
            return Err(match attempts {
                Attempts::Unknown if !error.is_indeterminate() => {
                    ProposeError::OutcomeUnknown.into()
                }
                Attempts::Unknown | Attempts::Refused => error.into(),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
