//! # Cost as the log grows
//!
//! What the same calls cost with more and more entries in the log, of which none
//! is compacted.
//!
//! - Owns: which calls are timed, and how the log is filled before.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use raft_core::{Body, Message, NodeId};

use crate::Trio;

const BATCH: usize = 256;
const PAYLOAD_BYTES: usize = 16;

/// Nanoseconds, for a log of one length.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// For each entry and all three nodes, proposed one at a time.
    pub commit_alone: f64,
    /// For each entry and all three nodes, 256 proposed at once.
    pub commit_together: f64,
    /// Of an idle leader.
    pub has_ready: f64,
    /// Of a leader, with the heartbeats that it sends and their answers.
    pub tick: f64,
    /// Of a leader that gets the answer to a heartbeat.
    pub step: f64,
}

impl Growth {
    /// Fills logs with `log_entries` entries and measures.
    ///
    /// # Panics
    /// If the core breaks its own contract.
    pub fn measure(log_entries: usize) -> Self {
        let mut together = filled(log_entries, BATCH);
        let commit_together =
            nanos_each(100, || together.commit(BATCH, PAYLOAD_BYTES)) / to_float(BATCH);
        drop(together);

        // As many runs as entries, which is the most there can be.
        let mut trio = filled(log_entries, 1);
        let commit_alone = nanos_each(5_000, || trio.commit(1, PAYLOAD_BYTES));
        let has_ready = nanos_each(100_000, || {
            black_box(black_box(&*trio.leader()).has_ready());
        });
        let tick = nanos_each(5_000, || {
            trio.leader().tick().expect("the node lives");
            trio.settle();
        });
        let (to, term) = (trio.leader().id(), trio.leader().term());
        let from = NodeId::new(2).expect("a node id");
        let step = nanos_each(20_000, || {
            let answer = Message {
                to,
                from,
                term,
                body: Body::HeartbeatResponse {
                    context: Bytes::new(),
                },
            };
            let stepped = trio.leader().step(black_box(answer));
            stepped.expect("a leader takes it");
        });
        Self {
            commit_alone,
            commit_together,
            has_ready,
            tick,
            step,
        }
    }

    /// The figures in the order of their columns.
    pub fn columns(&self) -> [f64; 5] {
        [
            self.commit_alone,
            self.commit_together,
            self.has_ready,
            self.tick,
            self.step,
        ]
    }
}

/// Three nodes that have `log_entries` entries, in batches of at most `batch`.
fn filled(log_entries: usize, batch: usize) -> Trio {
    let mut trio = Trio::elected(u64::MAX);
    let mut left = log_entries;
    while left > 0 {
        let now = left.min(batch);
        trio.commit(now, PAYLOAD_BYTES);
        left -= now;
    }
    trio
}

fn nanos_each(times: usize, mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    for _ in 0..times {
        run();
    }
    begin.elapsed().as_secs_f64() * 1e9 / to_float(times)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people, far below 2^52"
)]
fn to_float(count: usize) -> f64 {
    count as f64
}
