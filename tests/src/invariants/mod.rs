//! # Invariants of a cluster
//!
//! What must hold over all nodes and over all time, whatever is lost, delayed or
//! restarted. Looks at the nodes after each command; what it sees of a node is a
//! [`Sighting`], so that tests can also show it things that must not happen.
//!
//! | what | file |
//! |---|---|
//! | what is seen of a node | `sighting.rs` |
//! | all that has happened, and what must hold of it | `history.rs` |
//! | what must not happen | `violation.rs` |

mod history;
mod sighting;
mod violation;

pub use history::History;
pub use sighting::{HandedOut, Log, Sighting};
pub use violation::Violation;

#[cfg(test)]
mod tests;
