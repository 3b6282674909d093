//! # Operations that have a budget
//!
//! What a command costs on its way, piece by piece, so that its instructions can
//! be counted: no thread, no clock, no hash with a random state. What the kernel
//! does for the log on the disk is not counted.
//!
//! - Owns: the list of operations, and how each is repeated.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use raft_core::{
    Body, ConfState, Config, Entries, Entry, EntryId, LogIndex, MemoryStorage, Message, NodeId,
    RawNode, Ready, Term,
};
use raft_kv::resp::{RequestLimits, RequestParser};
use raft_wal::{DirectLog, Identity, OsFs, Sync, WalOptions, Write};
use raft_wire::frame::{FrameLimits, Packet, encode_packet, try_decode_frame};

use crate::Trio;

/// Something whose instructions are counted.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What it is called in the file of budgets.
    pub name: &'static str,
    /// How often it is repeated for one count.
    pub repetitions: u32,
    run: fn(u32),
}

impl Operation {
    const fn new(name: &'static str, repetitions: u32, run: fn(u32)) -> Self {
        Self {
            name,
            repetitions,
            run,
        }
    }

    /// The operation with this name.
    pub fn named(name: &str) -> Option<Self> {
        OPERATIONS
            .into_iter()
            .find(|operation| operation.name == name)
    }

    /// Does it so many times, after what it needs has been set up.
    pub fn repeat(&self, times: u32) {
        (self.run)(times);
    }
}

/// Every operation that has a budget.
pub const OPERATIONS: [Operation; 13] = [
    Operation::new("core: commit 1 x 16 B on three nodes", 2_000, |times| {
        commit(times, 1);
    }),
    Operation::new("core: commit 256 x 16 B on three nodes", 100, |times| {
        commit(times, 256);
    }),
    Operation::new("core: has_ready of an idle leader", 20_000, has_ready),
    Operation::new("core: tick of an idle follower", 20_000, tick),
    Operation::new("core: a heartbeat, and its answer", 5_000, heartbeat),
    Operation::new("core: an answer to a heartbeat", 20_000, heartbeat_answer),
    Operation::new("wire: encode an append of 1 x 16 B", 5_000, |times| {
        encode(times, &append(1, 16));
    }),
    Operation::new("wire: encode an append of 256 x 16 B", 200, |times| {
        encode(times, &append(256, 16));
    }),
    Operation::new("wire: decode an append of 1 x 16 B", 5_000, |times| {
        decode(times, &append(1, 16));
    }),
    Operation::new("wire: decode an append of 256 x 16 B", 200, |times| {
        decode(times, &append(256, 16));
    }),
    Operation::new("wal: write and sync 1 x 256 B", 200, |times| {
        write(times, 1);
    }),
    Operation::new("wal: write and sync 256 x 256 B", 20, |times| {
        write(times, 256);
    }),
    Operation::new("service: parse a SET of 64 B", 5_000, parse_set),
];

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

fn commit(times: u32, batch: usize) {
    let mut trio = Trio::default();
    for _ in 0..times {
        trio.commit(batch, 16);
    }
    let entries = u64::from(times) * batch as u64;
    assert_eq!(trio.applied(), [entries; 3], "a command was lost");
}

fn has_ready(times: u32) {
    let mut trio = Trio::default();
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

fn tick(times: u32) {
    let mut node = follower();
    for _ in 0..times {
        black_box(&mut node).tick().expect("the node lives");
    }
    assert!(!node.has_ready(), "an idle follower has nothing to do");
}

fn heartbeat(times: u32) {
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

fn heartbeat_answer(times: u32) {
    let mut trio = Trio::default();
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

fn append(count: u64, payload_bytes: usize) -> Packet {
    let payload = Bytes::from(vec![7; payload_bytes]);
    let entries = (100_000..100_000 + count)
        .map(|index| Entry::normal(Term::new(3), LogIndex::new(index), payload.clone()))
        .collect();
    Packet::Raft {
        group: 1,
        message: Message {
            to: id(2),
            from: id(1),
            term: Term::new(3),
            body: Body::Append {
                prev: EntryId::new(Term::new(3), LogIndex::new(99_999)),
                entries: Entries::from_batch(entries).expect("consecutive"),
                commit: LogIndex::new(99_000),
            },
        },
    }
}

fn encode(times: u32, packet: &Packet) {
    let mut out = BytesMut::with_capacity(1 << 20);
    for _ in 0..times {
        out.clear();
        encode_packet(black_box(packet), &mut out).expect("it fits a frame");
    }
}

fn decode(times: u32, packet: &Packet) {
    let limits = FrameLimits::default();
    let mut encoded = BytesMut::new();
    encode_packet(packet, &mut encoded).expect("it fits a frame");
    for _ in 0..times {
        let mut received = BytesMut::from(&encoded[..]);
        let frame = try_decode_frame(black_box(&mut received), &limits).expect("a frame");
        assert!(frame.is_some(), "the frame is whole");
    }
}

/// Writes batches to a log on the disk, in one segment, as the log's thread does:
/// records are encoded with their checksums, written at once and synced.
fn write(times: u32, count: u64) {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let identity = Identity {
        cluster_id: 1,
        node_id: id(1),
    };
    let mut log =
        DirectLog::open(OsFs, folder.path(), identity, WalOptions::default()).expect("a new log");
    let payload = Bytes::from(vec![7; 256]);
    let mut next = 1;
    for _ in 0..times {
        let entries = (next..next + count)
            .map(|index| Entry::normal(Term::new(1), LogIndex::new(index), payload.clone()))
            .collect();
        next += count;
        let mut write = Write::new(1, Sync::Required);
        write.entries = Entries::from_batch(entries).expect("consecutive");
        log.write(black_box(write)).expect("the disk takes it");
    }
}

fn parse_set(times: u32) {
    let input = format!(
        "*3\r\n$3\r\nSET\r\n$8\r\nkey:1234\r\n$64\r\n{}\r\n",
        "v".repeat(64)
    );
    let mut parser = RequestParser::new(RequestLimits::default());
    for _ in 0..times {
        let request = parser.parse(black_box(input.as_bytes()));
        assert!(request.expect("well-formed").is_some(), "it is whole");
    }
}
