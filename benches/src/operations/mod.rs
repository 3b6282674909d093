//! # Operations that have a budget
//!
//! What a command costs on its way, piece by piece, so that its instructions can
//! be counted. What the kernel does for the log on the disk is not counted.
//!
//! | file | operations of |
//! |---|---|
//! | `core.rs` | synchronous nodes, with a short log and with a long one |
//! | `wire.rs` | messages as bytes |
//! | `wal.rs` | the log on the disk |
//! | `handle.rs` | `Raft`, on one thread, with everything below it in memory |
//! | `service.rs` | the Redis protocol and the state machine of raft-kv |
//!
//! - Owns: the list of operations.

mod core;
mod handle;
mod service;
mod wal;
mod wire;

pub use wire::{acknowledgement_packet, append_packet};

/// Something whose instructions are counted.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What it is called.
    pub name: &'static str,
    /// Whose budget it has to keep: its own, or that of the same operation with
    /// less in the log, if the length is not to matter.
    pub budget_name: &'static str,
    /// How often it is repeated for one count.
    pub repetitions: u32,
    run: fn(u32),
}

impl Operation {
    const fn new(name: &'static str, repetitions: u32, run: fn(u32)) -> Self {
        Self {
            name,
            budget_name: name,
            repetitions,
            run,
        }
    }

    /// It is to cost what `budget_name` costs.
    const fn within(mut self, budget_name: &'static str) -> Self {
        self.budget_name = budget_name;
        self
    }

    /// Whether its own count is the budget.
    pub fn has_own_budget(&self) -> bool {
        self.name == self.budget_name
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
pub const OPERATIONS: [Operation; 26] = [
    Operation::new("core: commit 1 x 16 B on three nodes", 2_000, |times| {
        core::commit(times, 1);
    }),
    Operation::new("core: commit 256 x 16 B on three nodes", 100, |times| {
        core::commit(times, 256);
    }),
    Operation::new("core: has_ready of an idle leader", 20_000, |times| {
        core::has_ready(times, core::SHORT_LOG);
    }),
    Operation::new("core: tick of an idle follower", 20_000, core::tick),
    Operation::new(
        "core: tick of a leader, and its heartbeats",
        2_000,
        |times| {
            core::tick_of_leader(times, core::SHORT_LOG);
        },
    ),
    Operation::new("core: a heartbeat, and its answer", 5_000, core::heartbeat),
    Operation::new("core: an answer to a heartbeat", 20_000, |times| {
        core::heartbeat_answer(times, core::SHORT_LOG);
    }),
    Operation::new(
        "core: commit 1 x 16 B, long log",
        2_000,
        core::commit_behind,
    )
    .within("core: commit 1 x 16 B on three nodes"),
    Operation::new(
        "core: has_ready of an idle leader, long log",
        20_000,
        |times| {
            core::has_ready(times, core::LONG_LOG);
        },
    )
    .within("core: has_ready of an idle leader"),
    Operation::new("core: tick of a leader, long log", 2_000, |times| {
        core::tick_of_leader(times, core::LONG_LOG);
    })
    .within("core: tick of a leader, and its heartbeats"),
    Operation::new(
        "core: an answer to a heartbeat, long log",
        20_000,
        |times| {
            core::heartbeat_answer(times, core::LONG_LOG);
        },
    )
    .within("core: an answer to a heartbeat"),
    Operation::new("wire: encode an append of 1 x 16 B", 5_000, |times| {
        wire::encode(times, &append_packet(1, 16));
    }),
    Operation::new("wire: encode an append of 256 x 16 B", 200, |times| {
        wire::encode(times, &append_packet(256, 16));
    }),
    Operation::new("wire: encode an acknowledgement", 5_000, |times| {
        wire::encode(times, &acknowledgement_packet());
    }),
    Operation::new("wire: decode an append of 1 x 16 B", 5_000, |times| {
        wire::decode(times, &append_packet(1, 16));
    }),
    Operation::new("wire: decode an append of 256 x 16 B", 200, |times| {
        wire::decode(times, &append_packet(256, 16));
    }),
    Operation::new("wire: decode an acknowledgement", 5_000, |times| {
        wire::decode(times, &acknowledgement_packet());
    }),
    Operation::new("wal: write and sync 1 x 256 B", 200, |times| {
        wal::write(times, 1);
    }),
    Operation::new("wal: write and sync 256 x 256 B", 20, |times| {
        wal::write(times, 256);
    }),
    Operation::new("handle: 1 command of 1 client, three nodes", 500, |times| {
        handle::propose(times, 1);
    }),
    Operation::new(
        "handle: 64 commands of 64 clients, three nodes",
        200,
        |times| {
            handle::propose(times, 64);
        },
    ),
    Operation::new(
        "handle: 64 queries of 64 clients, three nodes",
        200,
        |times| {
            handle::query(times, 64);
        },
    ),
    Operation::new("service: parse a SET of 64 B", 5_000, service::parse_set),
    Operation::new("service: apply a SET of 64 B", 5_000, service::apply_set),
    Operation::new("service: answer a GET of 64 B", 5_000, service::answer_get),
    Operation::new(
        "service: write a reply of 64 B",
        5_000,
        service::write_reply,
    ),
];
