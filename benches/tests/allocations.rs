//! What an entry in steady state costs in allocations on each node, on the
//! memory path: at most two wherever several are under way. A client that waits
//! for each command alone costs more, since nothing is shared.

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
    for (clients, at_most) in [(1, 4.5), (64, 2.0), (1024, 2.0)] {
        let handle = handle_allocations(ALLOCATOR, clients);
        assert!(
            handle.sum() <= at_most,
            "handle, {clients} clients: {handle:?}, and {at_most} are allowed"
        );
    }
}
