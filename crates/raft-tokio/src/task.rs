//! # The task
//!
//! Spawns an event loop, and tells everybody who waits for it how it ended: when
//! it was stopped, and when it panicked.
//!
//! - Owns: the reason why the loop ended.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::event_loop::{EventLoop, Host};

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
    stop: CancellationToken,
    done: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl TaskControl {
    pub(crate) fn new() -> Self {
        Self {
            stop: CancellationToken::new(),
            done: CancellationToken::new(),
            reason: Arc::new(OnceLock::new()),
        }
    }

    /// Asks the loop to end. Idempotent.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
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

    fn stopped_now(&self) -> Stopped {
        Stopped {
            reason: self.reason(),
        }
    }

    /// Why the loop ends, or has ended.
    pub(crate) fn reason(&self) -> StopReason {
        self.reason.get().cloned().unwrap_or(StopReason::Shutdown)
    }

    /// Runs the loop to its end on the current runtime. A panic in it is caught,
    /// and becomes the reason that its callers get.
    pub(crate) fn spawn<H: Host>(&self, event_loop: EventLoop<H>) {
        let control = self.clone();
        tokio::spawn(async move {
            match AssertUnwindSafe(event_loop.run()).catch_unwind().await {
                Ok(None) => {}
                Ok(Some(cleanup)) => {
                    if let Err(error) = tokio::task::spawn_blocking(cleanup).await {
                        tracing::error!(%error, "closing failed");
                    }
                }
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    tracing::error!(panic = %text, "the event loop panicked");
                    control.set_reason(StopReason::Panicked(text));
                }
            }
            control.set_reason(StopReason::Shutdown);
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
