//! # The task
//!
//! Spawns an event loop, and tells everybody who waits for it how it ended: when
//! it was stopped, and when it panicked.
//!
//! - Owns: the reason why the loop ended, and the list of the tasks that work
//!   for it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use raft_core::NodeId;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::event_loop::{Cleanup, EventLoop, Host};

/// How long the end of a node waits for its workers, and as long for its
/// transport. Only a state machine that does not return takes longer, and nobody
/// can stop that one.
const WORKERS_PATIENCE: Duration = Duration::from_secs(5);

/// Why a node no longer runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to stop, or every handle is gone.
    #[error("it was shut down")]
    Shutdown,
    /// Its storage failed. Restart the process; what was acknowledged is safe.
    #[error("its storage failed: {0}")]
    Storage(String),
    /// Its state machine failed.
    #[error("its state machine failed: {0}")]
    StateMachine(String),
    /// It panicked: a bug, here or in the user's code.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// The node no longer runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped: {reason}")]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
}

/// Stops a task, and knows how it ended.
#[derive(Clone, Debug)]
pub(crate) struct TaskControl {
    node: NodeId,
    stop: CancellationToken,
    done: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
    workers: TaskTracker,
}

impl TaskControl {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            stop: CancellationToken::new(),
            done: CancellationToken::new(),
            reason: Arc::new(OnceLock::new()),
            workers: TaskTracker::new(),
        }
    }

    /// Asks the loop to end. Idempotent.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Who is to be waited for when the loop has ended.
    pub(crate) fn workers(&self) -> &TaskTracker {
        &self.workers
    }

    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Gives the reason, unless there is one already.
    pub(crate) fn set_reason(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.is_cancelled()
    }

    /// How the loop ended, once it has.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn stopped(&self) -> Stopped {
        self.done.cancelled().await;
        self.stopped_now()
    }

    /// How the loop ended, or ends.
    pub(crate) fn stopped_now(&self) -> Stopped {
        Stopped {
            reason: self.reason(),
        }
    }

    /// Why the loop ends, or has ended.
    pub(crate) fn reason(&self) -> StopReason {
        self.reason.get().cloned().unwrap_or(StopReason::Shutdown)
    }

    /// Waits until the workers have noticed that the loop is gone.
    async fn await_workers(&self) {
        // A node without workers may run without a clock.
        if self.workers.is_empty() {
            return;
        }
        let finished = timeout(WORKERS_PATIENCE, self.workers.wait());
        if finished.await.is_err() {
            tracing::error!(
                node = %self.node, tasks = self.workers.len(),
                "the state machine does not return, so its task is left behind"
            );
        }
    }

    /// Runs the loop to its end on the current runtime, and then `at_end`, when
    /// the workers have ended or will not. A panic in it is caught, and becomes the
    /// reason that its callers get.
    pub(crate) fn spawn<H: Host>(
        &self,
        event_loop: EventLoop<H>,
        at_end: impl FnOnce() + Send + 'static,
    ) {
        let control = self.clone();
        tokio::spawn(async move {
            match AssertUnwindSafe(event_loop.run()).catch_unwind().await {
                Ok(None) => {}
                Ok(Some(cleanup)) => {
                    let Cleanup { work, elsewhere } = cleanup;
                    if let Err(error) = tokio::task::spawn_blocking(work).await {
                        tracing::error!(node = %control.node, %error, "closing failed");
                    }
                    if timeout(WORKERS_PATIENCE, elsewhere).await.is_err() {
                        tracing::error!(node = %control.node, "the transport does not stop, so it is left behind");
                    }
                }
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    tracing::error!(node = %control.node, error = %text, "the event loop panicked");
                    control.set_reason(StopReason::Panicked(text));
                }
            }
            control.set_reason(StopReason::Shutdown);
            control.workers.close();
            control.await_workers().await;
            at_end();
            control.done.cancel();
        });
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
