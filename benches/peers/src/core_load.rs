//! # The load on a synchronous core
//!
//! Three nodes in one thread: a batch is proposed to the leader, then every
//! node's effects are carried out and its messages delivered until nothing
//! moves. Who runs it, and how long, is decided here; how a batch is driven is
//! each library's own file.
//!
//! - Owns: the rows, the clock.
//! - Emits: nanoseconds per entry, for all three nodes together.

use std::time::{Duration, Instant};

/// What the nodes are set to: on every side what ours are in our own benches.
pub use raft_benches::{
    TRIO_APPEND_BYTES_MAX as APPEND_BYTES_MAX, TRIO_INFLIGHT_MESSAGES_MAX as INFLIGHT_MESSAGES_MAX,
    TRIO_LOG_ENTRIES_KEPT as LOG_ENTRIES_KEPT,
};

/// What is proposed at once, and how large each of it is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub batch: usize,
    pub payload_bytes: usize,
}

/// The rows of the table, and how many times better than raft-rs ours is to be.
pub const LOADS: [(Load, Option<f64>); 6] = [
    (Load::new(1, 16), Some(3.0)),
    (Load::new(16, 16), None),
    (Load::new(256, 16), Some(5.0)),
    (Load::new(1024, 16), None),
    (Load::new(256, 256), None),
    (Load::new(256, 1024), Some(4.0)),
];

impl Load {
    const fn new(batch: usize, payload_bytes: usize) -> Self {
        Self {
            batch,
            payload_bytes,
        }
    }

    pub fn name(self) -> String {
        format!("{} x {} B", self.batch, self.payload_bytes)
    }
}

/// Three nodes of one library, with a leader.
pub trait Trio {
    fn elected() -> Self;

    /// Proposes a batch and carries everything out.
    fn commit(&mut self, load: Load);

    /// How many commands each of the three has applied.
    fn applied(&self) -> [u64; 3];
}

/// Runs a load for `time`; nanoseconds per entry.
///
/// # Panics
/// If not every node has applied every command: then the figure means nothing.
pub fn measure<T: Trio>(load: Load, time: Duration) -> f64 {
    let mut trio = T::elected();
    let mut batches = 0_u64;
    run(&mut trio, load, time / 5, &mut batches);
    let warm_up = batches;
    let elapsed = run(&mut trio, load, time, &mut batches);
    let entries = batches * load.batch as u64;
    assert_eq!(trio.applied(), [entries; 3], "a command was lost");
    let measured = (batches - warm_up) * load.batch as u64;
    elapsed.as_nanos() as f64 / measured as f64
}

fn run<T: Trio>(trio: &mut T, load: Load, time: Duration, batches: &mut u64) -> Duration {
    let begin = Instant::now();
    loop {
        // Asking for the time costs as much as a small batch.
        for _ in 0..64 {
            trio.commit(load);
            *batches += 1;
        }
        let elapsed = begin.elapsed();
        if elapsed >= time {
            return elapsed;
        }
    }
}
