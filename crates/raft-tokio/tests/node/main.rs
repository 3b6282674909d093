//! The node's loop, gate by gate, with the clock paused.

mod cancellation;
mod cluster;
#[path = "../support/dropped.rs"]
mod dropped;
mod ending;
mod proposals;
mod readys;
mod support;
#[path = "../support/traces.rs"]
mod traces;
mod traffic;
