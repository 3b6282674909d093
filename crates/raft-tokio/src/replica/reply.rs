//! # Replies
//!
//! How the caller of one command hears what became of it: once, through a channel
//! whose two ends are here.
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
    answer: oneshot::Receiver<Result<Applied, ProposeError>>,
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

/// Where a command's reply goes. Dropped, it says that none will come.
pub(super) type ProposeReply = oneshot::Sender<Result<Applied, ProposeError>>;

/// Both ends of one command's reply.
pub(super) fn reply_channel() -> (ProposeReply, PendingReply) {
    let (reply, answer) = oneshot::channel();
    (reply, PendingReply { answer })
}
