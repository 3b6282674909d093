//! What the benches share: a load on three synchronous nodes, clusters of
//! replicas in this process, the operations that have a budget, and how
//! allocations are counted. See `docs/PERFORMANCE.md`.

mod allocations;
mod operations;
mod replicas;
mod trio;

// The public interface is:
pub use allocations::{Allocations, core_allocations, handle_allocations};
pub use operations::{OPERATIONS, Operation};
pub use replicas::{Counter, run_clients, start_in_memory, start_with};
pub use trio::{TRIO_APPEND_BYTES_MAX, TRIO_INFLIGHT_MESSAGES_MAX, TRIO_LOG_ENTRIES_KEPT, Trio};
