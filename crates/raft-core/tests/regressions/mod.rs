//! # What has crashed others
//!
//! Each test is a message, an entry or a disk that makes etcd-raft panic or
//! obey an enemy. Here it is a typed error, and nothing has changed.

mod changes;
mod disks;
mod messages;
mod proposals;

use std::fmt;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, Message, Misbehaved, RawNode, Snapshot, SnapshotMetadata, StepError,
};

use crate::support::{Cluster, SlowStorage, command, index, term};

/// A leader of three in term 2, with three commands.
fn leader() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
    }
    cluster.deliver_all();
    cluster
}

/// Steps what must be refused, and compares everything before and after.
fn refused(cluster: &mut Cluster, message: Message) -> StepError {
    refused_by(cluster, message.to.get(), message)
}

/// The same at a server that the message need not be for.
fn refused_by(cluster: &mut Cluster, number: u64, message: Message) -> StepError {
    let node = cluster.server_mut(number).node_mut();
    let before = format!("{node:?}");
    let error = node.step(message).expect_err("it must be refused");
    assert_eq!(format!("{node:?}"), before, "{error} changed something");
    node.check().expect("the invariants hold");
    error
}

/// Does what must be an error, and compares everything before and after.
fn fails<T: fmt::Debug, E: fmt::Display>(
    cluster: &mut Cluster,
    number: u64,
    action: impl FnOnce(&mut RawNode<SlowStorage>) -> Result<T, E>,
) -> E {
    let node = cluster.server_mut(number).node_mut();
    let before = format!("{node:?}");
    let error = action(node).expect_err("it cannot be done");
    assert_eq!(format!("{node:?}"), before, "{error} changed something");
    error
}

fn misbehaved(cluster: &mut Cluster, message: Message) -> Misbehaved {
    match refused(cluster, message) {
        StepError::Misbehaved { why, .. } => why,
        other => panic!("another error: {other}"),
    }
}

/// What the cluster still does after the attack.
fn still_works(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("somebody leads").get();
    let before = cluster.node(leader).commit_index();
    cluster.propose(leader, command("after")).expect("it leads");
    cluster.deliver_all();
    assert!(cluster.node(leader).commit_index() > before);
}

fn snapshot_at(at: u64, in_term: u64, conf_state: ConfState) -> Body {
    Body::Snapshot(Box::new(Snapshot {
        metadata: SnapshotMetadata {
            index: index(at),
            term: term(in_term),
            conf_state,
        },
        data: Bytes::new(),
    }))
}
