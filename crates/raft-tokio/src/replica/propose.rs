//! # Proposing
//!
//! What users call to have commands applied, and how they hear what became of
//! them: applied, refused, or unknown.
//!
//! - Owns: nothing; it puts requests into the loop's channel.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use raft_core::Term;
use tokio::sync::OwnedSemaphorePermit;

use super::handle::Raft;
use super::reply::{Applied, PendingReply, ProposeReply, reply_channel};
use super::request::{
    Claim, ClientRequest, ClientRequestKind, Condition, ProposalBatch, SpecialProposal, Waiter,
};
use crate::error::{NotTaken, ProposeError, ReadError};
use crate::queue::{self, TrySendError};
use crate::task::Stopped;

/// Room for one command, kept until it is used or dropped. See
/// [`Raft::reserve`].
#[must_use = "the permit keeps room that others could use"]
pub struct Permit<'a> {
    raft: &'a Raft,
    slot: queue::Permit<ClientRequest>,
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("id", &self.raft.id())
            .finish()
    }
}

impl Permit<'_> {
    /// Hands a command over, without waiting: from here on the replica has it.
    /// Await what is returned for the reply.
    ///
    /// # Errors
    /// The command goes back if it is empty or too large, or if it is so large
    /// that its bytes count (see
    /// [`requests_bytes_max`](crate::RaftConfig::requests_bytes_max)) and there
    /// is no room for them. If the replica has stopped since the permit was given,
    /// the reply says so.
    pub fn propose(self, command: impl Into<Bytes>) -> Result<PendingReply, NotTaken> {
        let command = command.into();
        let room = self.raft.try_admit(&command);
        let room = match room {
            Ok(room) => room,
            Err(error) => return Err(NotTaken { command, error }),
        };
        let (reply, pending) = reply_channel();
        let kind = proposal(command, reply, room);
        if let Err(request) = self.slot.send(self.raft.request(kind)) {
            self.raft.refuse_late(request);
        }
        Ok(pending)
    }
}

/// Asks for a command. One that takes up room is large, and seldom.
fn proposal(
    command: Bytes,
    reply: ProposeReply,
    room: Option<OwnedSemaphorePermit>,
) -> ClientRequestKind {
    if room.is_some() {
        return special(command, reply, None, room);
    }
    let reply = Waiter::Local(reply);
    ClientRequestKind::Propose { command, reply }
}

fn special(
    command: Bytes,
    reply: ProposeReply,
    condition: Option<Condition>,
    room: Option<OwnedSemaphorePermit>,
) -> ClientRequestKind {
    ClientRequestKind::ProposeSpecial(Box::new(SpecialProposal {
        command,
        reply: Waiter::Local(reply),
        condition,
        _room: room,
    }))
}

impl Raft {
    /// Proposes a command, and waits for the state machine's reply: the command
    /// is then on the disks of a quorum, and applied here or at the leader. On a
    /// follower it goes to the leader, and its reply comes back.
    ///
    /// While nobody leads the command waits, at most `proposal_timeout`.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ProposeError> {
    /// let applied = match raft.propose("increment").await {
    ///     Ok(applied) => applied,
    ///     // It did not happen, and may be proposed again.
    ///     Err(error) if error.is_retryable() => raft.propose("increment").await?,
    ///     // It may have happened, or never can.
    ///     Err(error) => return Err(error),
    /// };
    /// println!("{:?} at {}", applied.reply, applied.index);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ProposeError::is_retryable`] says whether it certainly did not happen
    /// and may be tried again; [`ProposeError::is_indeterminate`] whether it may
    /// have happened, or may still. One of them is true unless the command
    /// itself is at fault.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, the command is not proposed.
    /// Dropped later, it may be applied all the same: dropping stops the wait,
    /// not the command. Use [`reserve`](Self::reserve) to know which.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<Applied, ProposeError> {
        // There nearly always is room, and then there is nothing to wait for. What
        // seldom waits is boxed, here and below: thousands of callers are that much
        // smaller, and the more of them stay in the cache.
        let pending = match self.try_propose(command) {
            Ok(pending) => pending,
            Err(NotTaken { command, .. }) => Box::pin(self.propose_later(command)).await?,
        };
        pending.await
    }

    /// Hands over a command that could not go at once: waits for room if that is
    /// what it lacks, and for the reason if the replica has stopped.
    async fn propose_later(&self, command: Bytes) -> Result<PendingReply, ProposeError> {
        let room = self.admit(&command).await?;
        let (reply, pending) = reply_channel();
        self.enqueue(proposal(command, reply, room)).await?;
        Ok(pending)
    }

    /// Proposes a command if there is room for it now, without waiting. Await
    /// what is returned for the reply.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), Box<dyn std::error::Error>> {
    /// match raft.try_propose("increment") {
    ///     Ok(reply) => println!("applied at {}", reply.await?.index),
    ///     Err(not_taken) => println!("{:?} goes elsewhere", not_taken.command),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The command goes back, with [`ProposeError::QueueFull`] if too many
    /// requests are waiting. The reply's errors are those of
    /// [`propose`](Self::propose).
    pub fn try_propose(&self, command: impl Into<Bytes>) -> Result<PendingReply, NotTaken> {
        let command = command.into();
        let room = match self.try_admit(&command) {
            Ok(room) => room,
            Err(error) => return Err(NotTaken { command, error }),
        };
        let (reply, pending) = reply_channel();
        let sent = (self.inner.propc).try_send_with((command, room), |(command, room)| {
            self.request(proposal(command, reply, room))
        });
        match sent {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full((command, _))) => Err(NotTaken {
                command,
                error: ProposeError::QueueFull,
            }),
            Err(TrySendError::Closed((command, _))) => Err(NotTaken {
                command,
                error: self.inner.control.stopped_now().into(),
            }),
        }
    }

    /// Waits for room for one command, for callers who make the command only
    /// when it can go, or must not lose it: what [`Permit::propose`] takes is
    /// with the replica.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), Box<dyn std::error::Error>> {
    /// let permit = raft.reserve().await?;
    /// let reply = permit.propose("increment")?;
    /// println!("applied at {}", reply.await?.index);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Cancel safe; only the place in the queue is lost. Permits that are kept
    /// take room from everybody.
    pub async fn reserve(&self) -> Result<Permit<'_>, Stopped> {
        match self.inner.propc.reserve().await {
            Some(slot) => Ok(Permit { raft: self, slot }),
            None => Err(self.inner.control.stopped().await),
        }
    }

    /// Proposes several commands at once, in order, and waits for all replies.
    /// On the leader they become one append, unless there is no room for all;
    /// then each that has none is refused.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ProposeError> {
    /// let commands = vec!["one".into(), "two".into()];
    /// for outcome in raft.propose_batch(commands).await {
    ///     println!("{:?}", outcome?.reply);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// One result per command, as for [`propose`](Self::propose): each is its
    /// own proposal, and one may be refused where another is applied.
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose), for all of them together.
    pub async fn propose_batch(&self, commands: Vec<Bytes>) -> Vec<Result<Applied, ProposeError>> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut taken = Vec::with_capacity(commands.len());
        let mut replies = Vec::with_capacity(commands.len());
        let mut bytes = 0_usize;
        for command in commands {
            outcomes.push(match self.check(&command) {
                Ok(()) => {
                    let (reply, pending) = reply_channel();
                    bytes = bytes.saturating_add(command.len());
                    taken.push(command);
                    replies.push(reply);
                    Ok(pending)
                }
                Err(error) => Err(error),
            });
        }
        let mut refusal = None;
        if !taken.is_empty() {
            let enqueued = match self.admit_bytes(bytes).await {
                Ok(room) => {
                    let batch = Box::new(ProposalBatch {
                        commands: taken,
                        replies,
                        _room: room,
                    });
                    let kind = ClientRequestKind::ProposeBatch(batch);
                    self.enqueue(kind).await.map_err(Into::into)
                }
                Err(error) => Err(error),
            };
            refusal = enqueued.err();
        }
        let mut results = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            results.push(match (outcome, &refusal) {
                (Err(error), _) => Err(error),
                (Ok(_), Some(error)) => Err(error.clone()),
                (Ok(pending), None) => pending.await,
            });
        }
        results
    }

    /// Proposes a command only if this server leads in `term` when it takes it,
    /// for callers whose command rests on what they saw as that leader.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ProposeError> {
    /// let term = raft.status().term;
    /// // What is proposed rests on what this leader has seen.
    /// match raft.propose_in_term(term, "grant the lock to alice").await {
    ///     Ok(applied) => println!("applied at {}", applied.index),
    ///     Err(error) => println!("look again: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ProposeError::OtherTerm`] if it does not; else as for
    /// [`propose`](Self::propose). It is never passed on.
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose).
    pub async fn propose_in_term(
        &self,
        term: Term,
        command: impl Into<Bytes>,
    ) -> Result<Applied, ProposeError> {
        let command = command.into();
        let room = self.admit(&command).await?;
        let (reply, pending) = reply_channel();
        let kind = special(command, reply, Some(Condition::InTerm(term)), room);
        self.enqueue(kind).await?;
        pending.await
    }

    /// Proposes a command with a deadline of its own, which is exact and may be
    /// shorter than `proposal_timeout`. A longer one does not prolong that.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ProposeError> {
    /// use std::time::Duration;
    ///
    /// let applied = raft.propose_timeout("increment", Duration::from_millis(250)).await?;
    /// println!("{:?}", applied.reply);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the deadline passes, [`ProposeError::NotLeader`] or
    /// [`ProposeError::Expired`] if the replica had not taken the command, which
    /// it then never does, and [`ProposeError::OutcomeUnknown`] if it had. Else
    /// as for [`propose`](Self::propose).
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose).
    pub async fn propose_timeout(
        &self,
        command: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Applied, ProposeError> {
        let command = command.into();
        let claim = Claim::default();
        let attempt = async {
            let room = self.admit(&command).await?;
            let (reply, pending) = reply_channel();
            let condition = Some(Condition::Claimed(claim.clone()));
            let kind = special(command, reply, condition, room);
            self.enqueue(kind).await?;
            pending.await
        };
        if let Ok(result) = tokio::time::timeout(timeout, attempt).await {
            return result;
        }
        if !claim.take() {
            return Err(ProposeError::OutcomeUnknown);
        }
        let leader = self.inner.status.borrow().leader;
        Err(match leader {
            Some(_) => ProposeError::Expired,
            None => ProposeError::NotLeader { leader },
        })
    }

    fn check(&self, command: &Bytes) -> Result<(), ProposeError> {
        let (bytes, bytes_max) = (command.len(), self.inner.command_bytes_max);
        if bytes == 0 {
            return Err(ProposeError::Empty);
        }
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    async fn admit(&self, command: &Bytes) -> Result<Option<OwnedSemaphorePermit>, ProposeError> {
        self.check(command)?;
        self.admit_bytes(command.len()).await
    }

    async fn admit_bytes(
        &self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ProposeError> {
        let room = &self.inner.room;
        if room.passes(bytes) {
            return Ok(None);
        }
        let acquire = async {
            match room.acquire(bytes).await {
                Ok(permit) => Ok(Some(permit)),
                Err(_) => Err(self.inner.control.stopped().await.into()),
            }
        };
        Box::pin(acquire).await
    }

    fn try_admit(&self, command: &Bytes) -> Result<Option<OwnedSemaphorePermit>, ProposeError> {
        self.check(command)?;
        let room = &self.inner.room;
        if room.passes(command.len()) {
            return Ok(None);
        }
        let permit = room.try_acquire(command.len());
        permit.map(Some).map_err(|_| ProposeError::QueueFull)
    }

    /// The loop has ended since there was room for this.
    #[cold]
    fn refuse_late(&self, request: ClientRequest) {
        let stopped = self.inner.control.stopped_now();
        let read_error = ReadError::Stopped(stopped.clone());
        request.refuse(stopped.into(), read_error, |waiter, error| {
            if let Waiter::Local(reply) = waiter {
                // Whoever asked may have given up.
                let _ = reply.send(Err(error));
            }
        });
    }
}
