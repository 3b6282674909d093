//! # The load on a handle
//!
//! Clients that each await the applied result before they send the next
//! command, on a cluster in this process. The same tasks, threads and clock for
//! every library.
//!
//! - Owns: the runtimes, the clients, the clock.
//! - Emits: commands per second.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

/// What every command carries. Made once: cloning it allocates nothing.
pub const PAYLOAD: Bytes = Bytes::from_static(&[7; 16]);

pub const CLIENTS: [usize; 5] = [1, 64, 256, 1024, 4096];

/// Which threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Clients and replicas on one runtime with two threads.
    Shared,
    /// Clients on a runtime with one thread, replicas on one with two, as in
    /// openraft's own benchmark.
    Split,
}

impl Layout {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "one runtime, 2 threads",
            Self::Split => "clients 1 thread, replicas 2",
        }
    }
}

/// The runtimes of one run. Dropped with everything that runs on them.
pub struct Runtimes {
    pub servers: Runtime,
    clients: Option<Runtime>,
}

impl Runtimes {
    pub fn new(layout: Layout) -> Self {
        let build = |threads| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build()
                .expect("a runtime")
        };
        Self {
            servers: build(2),
            clients: (layout == Layout::Split).then(|| build(1)),
        }
    }

    fn clients(&self) -> &Runtime {
        self.clients.as_ref().unwrap_or(&self.servers)
    }

    /// Commands per second that `clients` clients get through.
    pub fn drive<F, Fut>(&self, clients: usize, time: Duration, command: F) -> f64
    where
        F: Fn() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Arc<Vec<AtomicU64>> = Arc::new((0..clients).map(|_| AtomicU64::new(0)).collect());
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let (stop, done, command) = (stop.clone(), done.clone(), command.clone());
                self.clients().spawn(async move {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        command().await;
                        count += 1;
                        done[client].store(count, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let sum = || -> u64 { done.iter().map(|count| count.load(Ordering::Relaxed)).sum() };
        // This thread only sleeps and counts.
        std::thread::sleep(time / 4);
        let (begin, before) = (Instant::now(), sum());
        std::thread::sleep(time);
        let (elapsed, after) = (begin.elapsed(), sum());
        stop.store(true, Ordering::Relaxed);
        self.clients().block_on(async {
            for task in tasks {
                task.await.expect("a client gets its answers");
            }
        });
        (after - before) as f64 / elapsed.as_secs_f64()
    }
}
