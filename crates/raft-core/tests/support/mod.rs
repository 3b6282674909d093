//! # What the tests share
//!
//! A cluster without clocks, threads or sockets ([`Cluster`]), and an observer
//! that knows the whole history and tolerates no break of safety ([`History`]).

mod cluster;
mod history;
mod machine;
mod server;
mod slow_storage;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, Config, LogIndex, Message, NodeId, Snapshot, SnapshotMetadata, Term,
};

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

/// A message of a server to another.
pub(crate) fn message(from: u64, to: u64, in_term: u64, body: Body) -> Message {
    Message {
        to: id(to),
        from: id(from),
        term: term(in_term),
        body,
    }
}

/// A leader's heartbeat that commits up to `commit` and asks nothing.
pub(crate) fn heartbeat(commit: LogIndex) -> Body {
    Body::Heartbeat {
        commit,
        context: Bytes::new(),
    }
}

/// A snapshot of a server that applied seven commands, of the voters 1, 2 and 3.
pub(crate) fn snapshot(at: u64, in_term: u64) -> Body {
    Body::Snapshot(Box::new(Snapshot {
        metadata: SnapshotMetadata {
            index: index(at),
            term: term(in_term),
            conf_state: ConfState::of_voters([id(1), id(2), id(3)]),
        },
        data: Bytes::copy_from_slice(&7_u64.to_le_bytes()),
    }))
}

/// The paper's own protocol: no pre-vote, no check of the quorum.
pub(crate) fn plain(mut config: Config) -> Config {
    config.check_quorum = false;
    config.pre_vote = false;
    config
}
