//! # Where the tasks of a transport live
//!
//! Every task of a transport is counted here and ends with it, so that whoever
//! stops it can wait until nothing of it runs any more.
//!
//! - Owns: the count of the tasks, and the word that ends them.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one transport. Clones are the same scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Scope {
    /// Runs `task` until it ends or this scope does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Like [`spawn`](Self::spawn), for whoever is outside of the runtime.
    pub(super) fn spawn_on(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.within(task);
        runtime.spawn(async move {
            task.await;
        });
    }

    /// Does `work` until it ends or this scope does, wherever it is polled.
    pub(super) fn within<T, W: Future<Output = T>>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + use<T, W> {
        let stop = self.stop.clone();
        self.tasks
            .track_future(async move { stop.run_until_cancelled(work).await })
    }

    /// Runs `task` to its end, for which the end of this scope waits.
    pub(super) fn spawn_to_the_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends with this scope, or before.
    pub(super) fn part(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Ends what runs.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Waits until nothing runs any more. Only after [`stop`](Self::stop).
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }
}
