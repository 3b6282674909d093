//! # Operations of the handle
//!
//! Replicas and clients share one thread, so tasks run in nearly the same order
//! every time. Ticks come by the clock, and are the little that differs between
//! two counts.

use crate::{one_thread, run_clients, run_readers, start_in_memory};

const MEMBERS: u64 = 3;

/// Each of the clients proposes `times` commands.
pub(super) fn propose(times: u32, clients: u64) {
    one_thread().block_on(async {
        let rafts = start_in_memory(MEMBERS).await;
        run_clients(&rafts[0], clients, times.into()).await;
    });
}

/// Each of the clients asks `times` times, linearizably.
pub(super) fn query(times: u32, clients: u64) {
    one_thread().block_on(async {
        let rafts = start_in_memory(MEMBERS).await;
        run_readers(&rafts[0], clients, times.into()).await;
    });
}
