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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

/// What one client holds: a handle of its own, cloned once, as in a task of a
/// service and in openraft's own benchmark.
pub trait Client: Clone + Send + Sync + 'static {
    /// Sends one command, and awaits its result.
    fn command(&self) -> impl Future<Output = ()> + Send;
}

/// How many commands one client is through. Alone in its lines of the cache, so
/// that the clients' threads share nothing but what is measured.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

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
    pub fn drive(&self, clients: usize, time: Duration, client: &impl Client) -> f64 {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Arc<Vec<Count>> = Arc::new((0..clients).map(|_| Count::default()).collect());
        let tasks: Vec<_> = (0..clients)
            .map(|place| {
                let (stop, done, client) = (stop.clone(), done.clone(), client.clone());
                self.clients().spawn(async move {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        client.command().await;
                        count += 1;
                        done[place].0.store(count, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let sum = || -> u64 {
            let counts = done.iter();
            counts.map(|count| count.0.load(Ordering::Relaxed)).sum()
        };
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
