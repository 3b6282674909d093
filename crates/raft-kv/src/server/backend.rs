//! # Who does what clients ask for
//!
//! The line between the Redis protocol and the replica. The replica stands
//! behind it in `replica.rs`, and simpler things do in tests.

use std::future::Future;

use bytes::{Bytes, BytesMut};

use crate::resp::write;

/// Does batches of operations ([`crate::machine::Batch`]) of one client and
/// answers with their replies, one after the other.
pub trait Backend: Send + Sync + 'static {
    /// Replicates a batch and does it. Batches are done in the order of the
    /// calls, or not at all.
    fn write(
        &self,
        batch: BytesMut,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static;

    /// Answers a batch of questions with what is true at some time between the
    /// call and the answer: the replies to its first operations, and how many these
    /// are, which is at least one.
    fn read(
        &self,
        batch: Bytes,
    ) -> impl Future<Output = Result<(Bytes, usize), Refusal>> + Send + 'static;

    /// What `INFO` says: lines of `name:value` in sections, without the end of
    /// the last line.
    fn info(&self) -> String;
}

/// Why a batch was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It was not done, and may be asked for again at once.
    #[error("TRYAGAIN {0}; nothing was changed")]
    TryAgain(String),
    /// It was not done: there is no leader to do it.
    #[error("CLUSTERDOWN {0}; nothing was changed")]
    NoLeader(String),
    /// It was not done, and will not be if it is asked for again.
    #[error("ERR {0}; nothing was changed")]
    Never(String),
    /// Whether it was, or will be, done is unknown.
    #[error("UNCERTAIN {0}; the write may or may not have been made, read before you repeat it")]
    Uncertain(String),
}

impl Refusal {
    /// The replies to a batch of `operations` that was refused.
    pub(super) fn replies(&self, operations: usize) -> Bytes {
        let mut one = BytesMut::new();
        write::error(&mut one, &self.to_string());
        one.repeat(operations).into()
    }
}
