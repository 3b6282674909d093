//! What the benches share: a load on three synchronous nodes, clusters of
//! replicas in this process and their runtimes, the operations that have a budget, how allocations
//! are counted, and what costs as the log grows. See `docs/PERFORMANCE.md`.

mod allocations;
mod growth;
mod operations;
mod replicas;
mod runtimes;
mod trio;

// The public interface is:
pub use allocations::{Allocations, core_allocations, handle_allocations};
pub use growth::Growth;
pub use operations::{OPERATIONS, Operation, acknowledgement_packet, append_packet};
pub use replicas::{Counter, run_clients, run_readers, start_in_memory, start_with};
pub use runtimes::{one_thread, two_threads};
pub use trio::{TRIO_APPEND_BYTES_MAX, TRIO_INFLIGHT_MESSAGES_MAX, TRIO_LOG_ENTRIES_KEPT, Trio};
