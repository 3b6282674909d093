//! # Trying again
//!
//! Whether what became of an attempt calls for another one, and after which
//! pause; and if not, what is to be said of all attempts together.
//!
//! - Owns: the deadline of one command, and what its attempts may have done.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::command::SessionReply;
use crate::error::ProposeError;
use crate::replica::{Applied, Raft};

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
    /// The replicas run a state machine that is not wrapped in
    /// [`Sessions`](super::Sessions).
    #[error("the state machine does not keep sessions; wrap it in Sessions")]
    NoSessions,
    /// The proposal was refused, or its outcome is unknown even after trying
    /// again. In the latter case [`retry`](super::SessionClient::retry) goes on
    /// trying.
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

/// How the attempts before the last one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempts {
    /// None of them was applied, or can be.
    Refused,
    /// One of them may have been.
    Unknown,
}

/// The attempts at one command.
#[derive(Debug)]
pub(super) struct Retry {
    deadline: Instant,
    pause: Duration,
    attempts: Attempts,
    /// Why the last attempt was refused, if there was one.
    refusal: Option<ProposeError>,
}

impl Retry {
    pub(super) fn new(timeout: Duration) -> Self {
        Self::until(Instant::now() + timeout)
    }

    pub(super) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pause: PAUSE_FIRST,
            attempts: Attempts::Refused,
            refusal: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// An attempt at `raft` did not get a reply. Pauses if there is to be another
    /// one.
    ///
    /// # Errors
    /// There is not. The error is true of all attempts.
    pub(super) async fn after(
        &mut self,
        raft: &Raft,
        error: ProposeError,
    ) -> Result<(), ProposeError> {
        // It was applied, and every attempt gets the same reply.
        if let ProposeError::ReplyTooLong { .. } = error {
            return Err(error);
        }
        if error.is_indeterminate() {
            self.attempts = Attempts::Unknown;
        }
        let is_final = match error {
            ProposeError::Stopped(_) => true,
            // A leader that was removed is followed by another one; nobody follows
            // this server, if it is the one that was removed.
            ProposeError::NotMember => raft.status().is_removed(),
            _ => !(error.is_retryable() || error.is_indeterminate()),
        };
        if is_final || Instant::now() + self.pause > self.deadline {
            return Err(self.give_up(error));
        }
        self.refusal = Some(error);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    /// The last attempt was refused, but one before may have been taken.
    pub(super) fn give_up(&self, error: ProposeError) -> ProposeError {
        match self.attempts {
            Attempts::Unknown => ProposeError::OutcomeUnknown,
            Attempts::Refused => error,
        }
    }

    /// The time is over. Why there was no reply is what the last attempt met.
    pub(super) fn run_out(&self) -> ProposeError {
        self.give_up(self.refusal.clone().unwrap_or(ProposeError::Expired))
    }

    /// What it means that there is no such session.
    pub(super) fn expired(&self) -> SessionError {
        match self.attempts {
            Attempts::Refused => SessionError::Expired,
            Attempts::Unknown => SessionError::ExpiredMeanwhile,
        }
    }
}

/// Proposes until there is a reply, the time is over, or it is no use.
pub(super) async fn propose(
    raft: &Raft,
    command: Bytes,
    retry: &mut Retry,
) -> Result<(SessionReply, Applied), SessionError> {
    loop {
        match raft.propose(command.clone()).await {
            Ok(applied) => return read(applied),
            Err(error) => retry.after(raft, error).await?,
        }
    }
}

/// The reply in what was applied, which is without it.
pub(super) fn read(mut applied: Applied) -> Result<(SessionReply, Applied), SessionError> {
    let reply = SessionReply::decode(std::mem::take(&mut applied.reply));
    Ok((reply.ok_or(SessionError::NoSessions)?, applied))
}
