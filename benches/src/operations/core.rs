//! # Operations of synchronous nodes

use std::hint::black_box;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, Config, LogIndex, MemoryStorage, Message, NodeId, RawNode, Ready, Term,
};

use crate::Trio;

/// Entries in the log before anything is counted, in batches of [`FILLING`].
pub(super) const SHORT_LOG: usize = 0;
pub(super) const LONG_LOG: usize = 100_000;
/// So that the log has as many runs as a service's would have.
const FILLING: usize = 250;

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

/// Three nodes that have so many entries and keep them all.
fn trio_behind(entries: usize) -> Trio {
    let mut trio = Trio::elected(u64::MAX);
    for _ in 0..entries / FILLING {
        trio.commit(FILLING, 16);
    }
    trio
}

pub(super) fn commit(times: u32, batch: usize) {
    let mut trio = Trio::default();
    for _ in 0..times {
        trio.commit(batch, 16);
    }
    let entries = u64::from(times) * batch as u64;
    assert_eq!(trio.applied(), [entries; 3], "a command was lost");
}

/// One command at a time, behind a long log.
pub(super) fn commit_behind(times: u32) {
    let mut trio = trio_behind(LONG_LOG);
    for _ in 0..times {
        trio.commit(1, 16);
    }
    let entries = LONG_LOG as u64 + u64::from(times);
    assert_eq!(trio.applied(), [entries; 3], "a command was lost");
}

pub(super) fn has_ready(times: u32, log_entries: usize) {
    let mut trio = trio_behind(log_entries);
    let leader = trio.leader();
    let ready = (0..times)
        .filter(|_| black_box(&*leader).has_ready())
        .count();
    assert_eq!(ready, 0, "an idle leader has nothing to do");
}

fn follower() -> RawNode<MemoryStorage> {
    let config = Config {
        // It is not to campaign while it is looked at.
        election_ticks: 1_000_000,
        ..Config::protected(id(1))
    };
    let voters = ConfState::of_voters((1..=3).map(id));
    RawNode::new(config, MemoryStorage::with_conf_state(voters)).expect("a node")
}

pub(super) fn tick(times: u32) {
    let mut node = follower();
    for _ in 0..times {
        black_box(&mut node).tick().expect("the node lives");
    }
    assert!(!node.has_ready(), "an idle follower has nothing to do");
}

/// The heartbeats that it sends, and the answers, included.
pub(super) fn tick_of_leader(times: u32, log_entries: usize) {
    let mut trio = trio_behind(log_entries);
    for _ in 0..times {
        trio.leader().tick().expect("the node lives");
        trio.settle();
    }
}

pub(super) fn heartbeat(times: u32) {
    let mut node = follower();
    let mut ready = Ready::default();
    let mut answers = 0;
    for _ in 0..times {
        let heartbeat = Message {
            to: id(1),
            from: id(2),
            term: Term::new(1),
            body: Body::Heartbeat {
                commit: LogIndex::ZERO,
                context: Bytes::new(),
            },
        };
        node.step(black_box(heartbeat))
            .expect("a follower takes it");
        node.ready_into(&mut ready).expect("nothing is outstanding");
        answers += ready.messages.len();
        node.advance().expect("the node lives");
    }
    assert_eq!(answers, times as usize, "one answer each");
}

pub(super) fn heartbeat_answer(times: u32, log_entries: usize) {
    let mut trio = trio_behind(log_entries);
    let leader = trio.leader();
    let (to, term) = (leader.id(), leader.term());
    for _ in 0..times {
        let answer = Message {
            to,
            from: id(2),
            term,
            body: Body::HeartbeatResponse {
                context: Bytes::new(),
            },
        };
        leader.step(black_box(answer)).expect("a leader takes it");
    }
}
