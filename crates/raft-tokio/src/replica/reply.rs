//! # Replies
//!
//! How the caller of one command or read hears what became of it: once, through a
//! channel whose two ends are here.
//!
//! - Owns: nothing; the sending end waits with the command, the receiving end is
//!   the caller's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use raft_core::{LogIndex, Term};
use tokio::sync::oneshot;

use crate::error::ProposeError;

/// What sends an answer, once. Dropped, it says that none will come.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// The answer to come. Dropped, it says that nobody waits any more.
pub(super) type Answer<T> = oneshot::Receiver<T>;

/// Both ends of one answer.
pub(super) fn answer_channel<T>() -> (Reply<T>, Answer<T>) {
    oneshot::channel()
}

/// The reply of a command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What [`StateMachine::apply`](crate::StateMachine::apply) returned.
    pub reply: Bytes,
    /// Where the command stands in the log.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
}

/// A proposal that the replica has, and whose reply is to come.
///
/// # Cancel safety
/// Dropping it stops the wait, not the command. A command that still waits in
/// front of the loop when it is dropped is not proposed.
#[derive(Debug)]
#[must_use = "the reply says whether the command was applied"]
pub struct PendingReply {
    answer: Answer<Result<Applied, ProposeError>>,
}

impl Future for PendingReply {
    type Output = Result<Applied, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            // Whoever had to answer is gone, and may have proposed it before.
            answer.unwrap_or(Err(ProposeError::OutcomeUnknown))
        })
    }
}

pub(super) type ProposeReply = Reply<Result<Applied, ProposeError>>;

/// Both ends of one command's reply.
pub(super) fn reply_channel() -> (ProposeReply, PendingReply) {
    let (reply, answer) = answer_channel();
    (reply, PendingReply { answer })
}
