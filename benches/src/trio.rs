//! # Three synchronous nodes
//!
//! One leader, two followers, in one thread, on memory: a batch is proposed,
//! then effects are carried out and messages delivered until nothing moves.
//!
//! - Owns: the nodes, the messages between them, how many commands each applied.

use std::mem;

use bytes::Bytes;
use raft_core::{
    AppendOutcome, ConfState, Config, EntryType, LogIndex, MemoryStorage, Message, NodeId,
    Proposal, RawNode, Ready, RoleKind,
};

/// Entries that stay in a log when it is compacted.
pub const TRIO_LOG_ENTRIES_KEPT: u64 = 10_000;

/// Bytes of entries in one append message.
pub const TRIO_APPEND_BYTES_MAX: u64 = 1024 * 1024;
/// Append messages on their way to one follower.
pub const TRIO_INFLIGHT_MESSAGES_MAX: usize = 256;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// A cluster of three nodes that is driven by calls.
#[derive(Debug)]
pub struct Trio {
    nodes: Vec<RawNode<MemoryStorage>>,
    applied: [u64; 3],
    messages: Vec<Message>,
    ready: Ready,
    template: Vec<u8>,
    log_entries_max: u64,
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

impl Default for Trio {
    fn default() -> Self {
        Self::elected(2 * TRIO_LOG_ENTRIES_KEPT)
    }
}

impl Trio {
    /// A cluster whose first node leads. Its logs are compacted to half of
    /// `log_entries_max` whenever they have that many.
    ///
    /// # Panics
    /// If the core breaks its own contract.
    pub fn elected(log_entries_max: u64) -> Self {
        let nodes = (1..=3)
            .map(|number| {
                let config = Config {
                    append_bytes_max: TRIO_APPEND_BYTES_MAX,
                    inflight_messages_max: TRIO_INFLIGHT_MESSAGES_MAX,
                    ..Config::protected(id(number))
                };
                let voters = ConfState::of_voters((1..=3).map(id));
                RawNode::new(config, MemoryStorage::with_conf_state(voters)).expect("a node")
            })
            .collect();
        let mut trio = Self {
            nodes,
            applied: [0; 3],
            messages: Vec::new(),
            ready: Ready::default(),
            template: vec![7; PAYLOAD_BYTES_MAX],
            log_entries_max,
        };
        trio.nodes[0].campaign().expect("the node lives");
        trio.settle();
        assert_eq!(trio.nodes[0].role(), RoleKind::Leader);
        trio
    }

    /// How many commands each node has applied.
    pub fn applied(&self) -> [u64; 3] {
        self.applied
    }

    /// The leader.
    pub fn leader(&mut self) -> &mut RawNode<MemoryStorage> {
        &mut self.nodes[0]
    }

    /// Proposes `batch` commands at once and carries everything out. Each has a
    /// payload of its own, which is allocated here.
    ///
    /// # Panics
    /// If the payload is longer than 64 KiB.
    pub fn commit(&mut self, batch: usize, payload_bytes: usize) {
        let payload = &self.template[..payload_bytes];
        if batch == 1 {
            let data = Bytes::copy_from_slice(payload);
            self.nodes[0].propose(data).expect("a leader");
        } else {
            let proposals = (0..batch)
                .map(|_| Proposal::normal(Bytes::copy_from_slice(payload)))
                .collect();
            self.nodes[0].propose_batch(proposals).expect("a leader");
        }
        self.settle();
    }

    /// Carries effects out and delivers messages until nothing moves.
    ///
    /// # Panics
    /// If the core breaks its own contract.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            for place in 0..self.nodes.len() {
                while self.nodes[place].has_ready() {
                    self.carry_out(place);
                    moved = true;
                }
            }
            for message in &mut self.messages {
                let to = usize::try_from(message.to.get()).expect("a place") - 1;
                let node = &mut self.nodes[to];
                node.step_in_place(message).expect("the message is taken");
                moved = true;
            }
            self.messages.clear();
            if !moved {
                return;
            }
        }
    }

    fn carry_out(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let ready = &mut self.ready;
        node.ready_into(ready).expect("nothing is outstanding");
        if self.messages.is_empty() {
            mem::swap(&mut self.messages, &mut ready.messages);
        } else {
            self.messages.append(&mut ready.messages);
        }
        if let Some(append) = &mut ready.append {
            let storage = node.storage_mut();
            let entries = mem::take(&mut append.entries);
            storage.append(entries).expect("no gap");
            if let Some(hard_state) = append.hard_state {
                storage.set_hard_state(hard_state);
            }
            for outcome in append.responses.drain(..) {
                match outcome {
                    AppendOutcome::Send(message) => self.messages.push(message),
                    AppendOutcome::Receipt(receipt) => node.persisted(receipt).expect("a member"),
                }
            }
        }
        if let Some(apply) = &ready.apply {
            for entry in apply.entries.slices().flatten() {
                if entry.entry_type() == EntryType::Normal && !entry.data().is_empty() {
                    self.applied[place] += 1;
                }
            }
        }
        node.advance().expect("the node lives");
        let applied = node.applied_index().get();
        if applied.saturating_sub(node.first_index().get()) >= self.log_entries_max {
            let compact_to = LogIndex::new(applied - self.log_entries_max / 2);
            node.storage_mut().compact(compact_to).expect("in the log");
        }
    }
}
