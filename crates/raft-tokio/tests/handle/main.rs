//! What the handle promises: outcomes that tell the truth, calls that end, and
//! nothing left behind. In memory, with the runtime's clock paused.

mod cancellation;
mod dropped_changes;
mod dropped_sessions;
mod ending;
mod membership;
mod outcomes;
mod pressure;
mod reads;
mod refusals;
#[path = "../support/mod.rs"]
mod support;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use raft_tokio::{Raft, Waiting};
use support::dropped::{Dropped, drop_at_await};

/// Polls a future so often, letting everybody else work in between, and drops
/// it.
async fn poll_then_drop<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn applied_commands(raft: &Raft) -> Vec<String> {
    let all = raft.query("all").await.unwrap();
    String::from_utf8(all.to_vec())
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

async fn await_nothing_waits(raft: &Raft) {
    let nothing = raft.wait_for(|status| status.waiting == Waiting::default());
    tokio::time::timeout(Duration::from_secs(60), nothing)
        .await
        .expect("nothing waits within a minute")
        .unwrap();
}
