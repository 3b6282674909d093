//! What the benches share: a load on three synchronous nodes, and clusters of
//! replicas in this process, and the operations that have a budget. See `docs/PERFORMANCE.md`.

mod operations;
mod replicas;
mod trio;

// The public interface is:
pub use operations::{OPERATIONS, Operation};
pub use replicas::{Counter, run_clients, start_in_memory, start_with};
pub use trio::{TRIO_LOG_ENTRIES_KEPT, Trio};
