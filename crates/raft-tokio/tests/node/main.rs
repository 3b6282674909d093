//! The node's loop, gate by gate, with the clock paused.

mod cluster;
mod ending;
mod proposals;
mod readys;
mod support;
mod traffic;
