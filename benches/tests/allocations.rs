//! What an entry in steady state costs in allocations on each node, on the
//! memory path: less than one, even with one client, whose command shares nothing
//! with another's.

use std::alloc::System;

use raft_benches::{core_allocations, handle_allocations};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, since the allocator counts for all threads of the process.
#[test]
fn an_entry_costs_few_allocations_on_each_node() {
    // The batch, shared by all three nodes.
    let alone = core_allocations(ALLOCATOR, 1);
    assert!(alone.sum() < 0.35, "core, batches of 1: {alone:?}");
    let together = core_allocations(ALLOCATOR, 256);
    assert!(together.sum() < 0.02, "core, batches of 256: {together:?}");
    for clients in [1, 64, 1024] {
        let handle = handle_allocations(ALLOCATOR, clients);
        assert!(handle.sum() < 1.0, "handle, {clients} clients: {handle:?}");
    }
}
