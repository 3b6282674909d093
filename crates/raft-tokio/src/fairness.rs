//! A busy task lets the others of its runtime run.

use std::future::poll_fn;
use std::task::Poll;

/// Goes to the end of the runtime's queue once. Unlike
/// [`yield_now`](tokio::task::yield_now) it does not wait until the thread has
/// nothing else to do, which under load is a long time.
pub(crate) async fn let_others_run() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
