//! # What the tests share
//!
//! A cluster without clocks, threads or sockets ([`Cluster`]), and an observer
//! that knows the whole history and tolerates no break of safety ([`History`]).

mod cluster;
mod history;
mod server;
mod slow_storage;

use bytes::Bytes;
use raft_core::{LogIndex, NodeId, Term};

pub(crate) use cluster::Cluster;
pub(crate) use history::History;
pub(crate) use server::{Disk, Memory, Server};
pub(crate) use slow_storage::SlowStorage;

/// The server with this number.
pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("tests name servers by valid numbers")
}

/// The term with this number.
pub(crate) fn term(number: u64) -> Term {
    Term::new(number)
}

/// The index with this number.
pub(crate) fn index(number: u64) -> LogIndex {
    LogIndex::new(number)
}

/// A command.
pub(crate) fn command(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
