//! # Several commands under way, in order
//!
//! A command takes its number when it is begun, and is proposed at once. What
//! has to be proposed again waits until everything before it has ended: so there
//! is one order, that of the numbers, and nothing is proposed in vain.
//!
//! - Owns: the session, the next number, and which commands have ended.
//! - Source: thesis §6.3.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::command::{SessionCommand, SessionId, SessionReply, in_session};
use super::retry::{Retry, SessionError, propose, read};
use super::table::WINDOW_MAX;
use crate::error::ProposeError;
use crate::replica::{Applied, Raft};

/// A session whose commands may be under way together, and take effect in the
/// order in which they were begun. Whatever did not get a reply is tried again,
/// without harm: a command is applied once, and never after one that was begun
/// later.
///
/// The session is opened with the first command, and again if it has expired.
/// Clones share it.
///
/// ```no_run
/// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::SessionError> {
/// use raft_tokio::SessionPipeline;
/// use std::time::Duration;
///
/// let pipeline = SessionPipeline::new(raft, Duration::from_secs(10));
/// let first = pipeline.propose("increment".into());
/// let second = pipeline.propose("double".into());
/// let (first, second) = tokio::join!(first, second);
/// println!("{:?}, then {:?}", first?.reply, second?.reply);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SessionPipeline {
    shared: Arc<Shared>,
}

impl fmt::Debug for SessionPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.shared.numbers();
        f.debug_struct("SessionPipeline")
            .field("session", &numbers.session)
            .field("under_way", &numbers.ended.len())
            .finish_non_exhaustive()
    }
}

struct Shared {
    raft: Raft,
    retry_timeout: Duration,
    numbers: Mutex<Numbers>,
    /// Whoever holds it opens a session; the others wait for that.
    opening: tokio::sync::Mutex<()>,
    /// Rings whenever a command has ended.
    end: Notify,
}

#[derive(Debug, Default)]
struct Numbers {
    /// `None` before the first command, and after the session has expired.
    session: Option<SessionId>,
    /// All commands up to this number have ended.
    acknowledged: u64,
    /// Whether each command behind that has ended. The first has not.
    ended: VecDeque<bool>,
}

impl SessionPipeline {
    /// Proposes through `raft`. Commands are tried again for `retry_timeout`; the
    /// last attempt may take a `proposal_timeout` beyond that.
    pub fn new(raft: Raft, retry_timeout: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                raft,
                retry_timeout,
                numbers: Mutex::default(),
                opening: tokio::sync::Mutex::default(),
                end: Notify::new(),
            }),
        }
    }

    /// Begins a command: its place is behind all that were begun before, whenever
    /// the future is polled. It is tried until there is a reply or
    /// `retry_timeout` is over.
    ///
    /// A buffer that nobody shares and that has room for
    /// [`SESSION_BYTES_MAX`](super::SESSION_BYTES_MAX) more bytes is not copied.
    /// What was begun has to be awaited or dropped: others wait for it.
    ///
    /// ```no_run
    /// # async fn example(pipeline: raft_tokio::SessionPipeline) -> Result<(), raft_tokio::SessionError> {
    /// use bytes::BytesMut;
    /// use futures::stream::{FuturesOrdered, StreamExt};
    ///
    /// let begun = ["one", "two", "three"].map(|text| pipeline.propose(BytesMut::from(text)));
    /// let mut replies: FuturesOrdered<_> = begun.into_iter().collect();
    /// while let Some(applied) = replies.next().await {
    ///     println!("{:?}", applied?.reply);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::is_indeterminate`] says whether it may have been applied.
    /// If it was not before a later command of this pipeline got its reply, it
    /// never will be.
    ///
    /// # Cancel safety
    /// Dropped before it was polled, the command is not proposed. Dropped later,
    /// it may be applied, in its place or not at all.
    pub fn propose(
        &self,
        command: BytesMut,
    ) -> impl Future<Output = Result<Applied, SessionError>> + Send + use<> {
        let place = Place::new(self.shared.clone());
        async move { place.run(command).await }
    }
}

impl Shared {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // Nothing that is done under the lock can panic half way.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, opened if there is none.
    async fn open(&self, retry: &mut Retry) -> Result<SessionId, SessionError> {
        let _opening = self.opening.lock().await;
        if let Some(session) = self.numbers().session {
            return Ok(session);
        }
        // What became of a session that nobody knows is no concern of the
        // command's: it expires.
        let mut attempts = Retry::until(retry.deadline());
        let opened = propose(&self.raft, SessionCommand::Open.encode(), &mut attempts).await;
        match opened {
            Ok((SessionReply::Opened(session), _)) => {
                self.numbers().session = Some(session);
                Ok(session)
            }
            Ok(_) => Err(SessionError::NoSessions),
            Err(SessionError::Propose(ProposeError::OutcomeUnknown)) => {
                Err(retry.give_up(ProposeError::Expired).into())
            }
            Err(SessionError::Propose(error)) => Err(retry.give_up(error).into()),
            Err(error) => Err(error),
        }
    }

    /// The session has expired; whoever notices first says so.
    fn forget(&self, expired: SessionId) {
        let mut numbers = self.numbers();
        if numbers.session == Some(expired) {
            numbers.session = None;
        }
    }

    /// Waits until all commands up to `number` have ended; whether they did
    /// before `deadline`.
    async fn ended(&self, number: u64, deadline: Instant) -> bool {
        loop {
            let mut end = pin!(self.end.notified());
            // From here on no end is missed.
            end.as_mut().enable();
            if self.numbers().acknowledged >= number {
                return true;
            }
            if timeout_at(deadline, end).await.is_err() {
                return false;
            }
        }
    }
}

/// The place of a command among the others, until it has ended.
struct Place {
    shared: Arc<Shared>,
    sequence: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut numbers = self.shared.numbers();
        let at = self.sequence.saturating_sub(numbers.acknowledged + 1);
        if let Ok(at) = usize::try_from(at)
            && let Some(ended) = numbers.ended.get_mut(at)
        {
            *ended = true;
        }
        while numbers.ended.front() == Some(&true) {
            numbers.ended.pop_front();
            numbers.acknowledged += 1;
        }
        drop(numbers);
        self.shared.end.notify_waiters();
    }
}

impl Place {
    fn new(shared: Arc<Shared>) -> Self {
        let mut numbers = shared.numbers();
        numbers.ended.push_back(false);
        let under_way = u64::try_from(numbers.ended.len()).unwrap_or(u64::MAX);
        let sequence = numbers.acknowledged + under_way;
        drop(numbers);
        Self { shared, sequence }
    }

    async fn run(&self, command: BytesMut) -> Result<Applied, SessionError> {
        if command.is_empty() {
            return Err(ProposeError::Empty.into());
        }
        let shared = &*self.shared;
        let mut retry = Retry::new(shared.retry_timeout);
        let before = self.sequence - 1;
        // More than the others remember is not proposed yet.
        let window = self.sequence.saturating_sub(WINDOW_MAX);
        if shared.numbers().acknowledged < window && !shared.ended(window, retry.deadline()).await {
            return Err(ProposeError::Expired.into());
        }
        let command_len = command.len();
        let (mut session, mut bytes) = self.seal(command, &mut retry).await?;
        loop {
            let error = match shared.raft.propose(bytes.clone()).await {
                Ok(applied) => {
                    let (reply, applied) = read(applied)?;
                    match reply {
                        SessionReply::Applied(reply) => return Ok(Applied { reply, ..applied }),
                        SessionReply::TooOld { applied } => {
                            return Err(SessionError::TooOld { applied });
                        }
                        SessionReply::UnknownSession => {
                            shared.forget(session);
                            if let error @ SessionError::ExpiredMeanwhile = retry.expired() {
                                return Err(error);
                            }
                            None
                        }
                        SessionReply::TooEarly { .. } => None,
                        SessionReply::Opened(_)
                        | SessionReply::Closed
                        | SessionReply::Malformed => return Err(SessionError::NoSessions),
                    }
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                retry.after(&shared.raft, error).await?;
            }
            let is_its_turn = shared.ended(before, retry.deadline()).await;
            if !is_its_turn || retry.is_over() {
                return Err(retry.run_out().into());
            }
            // Another session perhaps, and in any case fewer before this one.
            let command = BytesMut::from(&bytes[..command_len]);
            (session, bytes) = self.seal(command, &mut retry).await?;
        }
    }

    /// What is to be proposed, and in which session.
    async fn seal(
        &self,
        command: BytesMut,
        retry: &mut Retry,
    ) -> Result<(SessionId, Bytes), SessionError> {
        let (session, acknowledged) = {
            let numbers = self.shared.numbers();
            (numbers.session, numbers.acknowledged)
        };
        let session = match session {
            Some(session) => session,
            None => self.shared.open(retry).await?,
        };
        let bytes = in_session(command, session, self.sequence, acknowledged);
        Ok((session, bytes))
    }
}
