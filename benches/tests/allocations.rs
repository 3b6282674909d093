//! What an entry in steady state costs in allocations on each of three nodes, on
//! the memory path. The limits are so close above what is needed that one more
//! allocation for each command, or for each batch, on a single node is too much.

use std::alloc::System;

use raft_benches::{core_allocations, handle_allocations};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, since the allocator counts for all threads of the process.
#[test]
fn an_entry_costs_few_allocations_on_each_node() {
    // The batch, shared by all three nodes; of several commands also their list.
    for (batch, limit) in [(1, 0.35), (16, 0.07), (256, 0.0045)] {
        let cost = core_allocations(ALLOCATOR, batch);
        assert!(cost.sum() < limit, "core, batches of {batch}: {cost:?}");
    }
    // The batch and the channel for the reply; with many clients a batch is shared.
    for (clients, limit) in [(1, 0.70), (64, 0.40), (1024, 0.40)] {
        let cost = handle_allocations(ALLOCATOR, clients);
        assert!(cost.sum() < limit, "handle, {clients} clients: {cost:?}");
    }
}
