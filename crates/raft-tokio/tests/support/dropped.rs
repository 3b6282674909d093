//! Calls that are dropped while they wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// When a call is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// As soon as it waits.
    Waiting,
    /// When what it waited for is there, before it looks.
    Woken,
}

/// Drops a call at its first, second, ... await. Its outcome, if it has one
/// before.
pub(crate) async fn drop_at_await<F: Future>(
    awaits: usize,
    when: Dropped,
    call: F,
) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut waited = 0;
    poll_fn(move |context| {
        if waited == awaits {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        waited += 1;
        if waited == awaits && when == Dropped::Waiting {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}
