//! A replicated key-value service that speaks the Redis protocol, and its
//! command line.
//!
//! ```text
//! client ── resp ── server ── replica ── raft-tokio ── machine
//! ```
//!
//! | what | where |
//! |---|---|
//! | the Redis protocol, as pure functions of bytes | [`resp`] |
//! | connections, and what requests mean | [`server`] |
//! | keys, values, snapshots | [`machine`] |
//! | what all clients together may take up | [`memory`] |
//! | one node: listeners, log, transport, replica | [`serve`] |
//! | a cluster of child processes on loopback | [`cluster`] |
//! | a load, a killed leader, and a check that nothing is lost | [`demo`] |
//! | throughput and latency | [`mod@bench`] |
//! | what whoever runs a cluster asks of it | [`operate`] |
//! | the command line | [`cli`] |

pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod machine;
pub mod memory;
pub mod operate;
mod replica;
pub mod resp;
pub mod serve;
pub mod server;
mod units;
