//! # A client with one command under way
//!
//! - Owns: the number of the latest command.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::command::{SessionCommand, SessionId, SessionReply};
use super::retry::{Retry, SessionError, propose};
use crate::error::ProposeError;
use crate::replica::{Applied, Raft};

/// A session and the next number in it. Proposes one command after the other,
/// and tries again whatever did not get a reply, without harm: a command is
/// applied once.
///
/// A program that wants several commands under way uses a [`SessionPipeline`]
/// if they must keep their order, and opens a session for each if not; a session
/// costs a few dozen bytes in the replicated state.
///
/// [`SessionPipeline`]: super::SessionPipeline
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
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::SessionError> {
    /// use raft_tokio::SessionClient;
    /// use std::time::Duration;
    ///
    /// let client = SessionClient::open(raft, Duration::from_secs(30)).await?;
    /// println!("{:?}", client.session());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No session was opened, or nobody knows of it: one that was opened without
    /// anybody's knowledge expires.
    ///
    /// # Cancel safety
    /// Dropped while it waits, a session may be open that expires.
    pub async fn open(raft: Raft, retry_timeout: Duration) -> Result<Self, SessionError> {
        let mut retry = Retry::new(retry_timeout);
        let opened = propose(&raft, SessionCommand::Open.encode(), &mut retry).await?;
        match opened.0 {
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
    /// the number `sequence`. Both have to be kept before the command is proposed:
    /// [`retry`](Self::retry) then finds out what became of it.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::SessionError> {
    /// use raft_tokio::SessionClient;
    /// use std::time::Duration;
    ///
    /// let mut client = SessionClient::open(raft.clone(), Duration::from_secs(30)).await?;
    /// let (session, sequence) = (client.session(), client.sequence() + 1);
    /// // Keep both, and propose; after a crash of this process go on with them.
    /// let _ = client.propose("increment").await;
    /// let mut again = SessionClient::resume(raft, session, sequence, Duration::from_secs(30));
    /// println!("{:?}", again.retry("increment").await?.reply);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```no_run
    /// # async fn example(mut client: raft_tokio::SessionClient, other: raft_tokio::Raft) -> Result<(), raft_tokio::SessionError> {
    /// client.set_raft(other);
    /// client.propose("increment").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_raft(&mut self, raft: Raft) {
        self.raft = raft;
    }

    /// Proposes a command, and tries again until there is a reply or
    /// `retry_timeout` is over. It is applied at most once, however often it is
    /// tried.
    ///
    /// ```no_run
    /// # async fn example(mut client: raft_tokio::SessionClient) -> Result<(), raft_tokio::SessionError> {
    /// match client.propose("increment").await {
    ///     Ok(applied) => println!("{:?} at {}", applied.reply, applied.index),
    ///     Err(error) if error.is_indeterminate() => println!("ask again with retry: {error}"),
    ///     Err(error) => println!("it did not happen: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::is_indeterminate`] says whether it may have been applied.
    /// If so, [`retry`](Self::retry) may find out; going on with another command
    /// makes sure that this one is not applied after that.
    ///
    /// # Cancel safety
    /// Dropped before it was polled, the command is not applied unless
    /// [`retry`](Self::retry) proposes it; dropped later, it may be, as for any
    /// outcome that is unknown. It has its number as soon as this is called, so in
    /// either case `retry` goes on with this command, and no later one shares its
    /// number.
    pub fn propose(
        &mut self,
        command: impl Into<Bytes>,
    ) -> impl Future<Output = Result<Applied, SessionError>> {
        self.sequence += 1;
        self.attempt(command.into())
    }

    /// Proposes the latest command again, with its number. It has to be the same
    /// command: if it was applied before, the reply is that of the first time.
    ///
    /// ```no_run
    /// # async fn example(mut client: raft_tokio::SessionClient) -> Result<(), raft_tokio::SessionError> {
    /// let applied = match client.propose("increment").await {
    ///     Err(error) if error.is_indeterminate() => client.retry("increment").await?,
    ///     outcome => outcome?,
    /// };
    /// println!("{:?}, once", applied.reply);
    /// # Ok(())
    /// # }
    /// ```
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
            // Whatever came before was answered, or given up.
            acknowledged: self.sequence - 1,
            command,
        };
        let mut retry = Retry::new(self.retry_timeout);
        let (reply, applied) = propose(&self.raft, command.encode(), &mut retry).await?;
        match reply {
            SessionReply::Applied(reply) => Ok(Applied { reply, ..applied }),
            SessionReply::TooOld { applied } => Err(SessionError::TooOld { applied }),
            SessionReply::UnknownSession => Err(retry.expired()),
            SessionReply::TooEarly { .. }
            | SessionReply::Opened(_)
            | SessionReply::Closed
            | SessionReply::Malformed => Err(SessionError::NoSessions),
        }
    }

    /// Forgets the session everywhere.
    ///
    /// ```no_run
    /// # async fn example(client: raft_tokio::SessionClient) -> Result<(), raft_tokio::SessionError> {
    /// client.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nobody knows whether it is forgotten; if not, it expires.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the session may stay until it expires.
    pub async fn close(self) -> Result<(), SessionError> {
        let command = SessionCommand::Close(self.session).encode();
        propose(&self.raft, command, &mut Retry::new(self.retry_timeout)).await?;
        Ok(())
    }
}
