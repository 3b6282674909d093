//! # Allocations per entry
//!
//! How many allocations an entry costs on each of three nodes, once everything
//! has the room that it needs.
//!
//! - Owns: how they are counted. The process has to run on the allocator that
//!   is handed in.

use std::alloc::System;

use stats_alloc::{Region, StatsAlloc};

use crate::{Trio, one_thread, run_clients, start_in_memory};

const MEMBERS: u64 = 3;
const ENTRIES: u64 = 30_000;

/// Allocations and reallocations, per entry and node.
#[derive(Clone, Copy, Debug)]
pub struct Allocations {
    /// New pieces of memory.
    pub allocated: f64,
    /// Pieces that grew.
    pub reallocated: f64,
}

impl Allocations {
    fn of(allocated: u64, reallocated: u64, entries: u64) -> Self {
        Self {
            allocated: per(allocated, MEMBERS * entries),
            reallocated: per(reallocated, MEMBERS * entries),
        }
    }

    /// Both together.
    pub fn sum(self) -> f64 {
        self.allocated + self.reallocated
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people, far below 2^52"
)]
fn per(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

/// What the core needs for batches of `batch` entries. Making the payload is the
/// caller's allocation, and is not counted.
pub fn core_allocations(allocator: &StatsAlloc<System>, batch: usize) -> Allocations {
    let mut trio = Trio::default();
    let entries = batch as u64;
    let batches = ENTRIES / entries;
    for _ in 0..batches {
        trio.commit(batch, 16);
    }
    let region = Region::new(allocator);
    for _ in 0..batches {
        trio.commit(batch, 16);
    }
    let change = region.change();
    let entries = entries * batches;
    Allocations::of(
        change.allocations as u64 - entries,
        change.reallocations as u64,
        entries,
    )
}

/// What `propose().await` needs with so many clients, their tasks included.
///
/// # Panics
/// If there is no runtime to be had.
pub fn handle_allocations(allocator: &StatsAlloc<System>, clients: u64) -> Allocations {
    let runtime = one_thread();
    let commands_each = ENTRIES / clients;
    let change = runtime.block_on(async {
        let rafts = start_in_memory(MEMBERS).await;
        run_clients(&rafts[0], clients, commands_each).await;
        let region = Region::new(allocator);
        run_clients(&rafts[0], clients, commands_each).await;
        region.change()
    });
    Allocations::of(
        change.allocations as u64,
        change.reallocations as u64,
        clients * commands_each,
    )
}
