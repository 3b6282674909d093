//! # raft-rs under the core load
//!
//! Carried out as its `single_mem_node` example does: `ready`, store,
//! `advance`, the light Ready, `advance_apply`.
//!
//! - Owns: three nodes on `MemStorage`, the messages between them.
//! - Source: raft-rs 0.7 `examples/`.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use crate::core_load::{APPEND_BYTES_MAX, INFLIGHT_MESSAGES_MAX, LOG_ENTRIES_KEPT, Load, Trio};

/// How a batch is proposed.
pub trait Proposing {
    fn propose(node: &mut RawNode<MemStorage>, load: Load, payload: &[u8]);
}

/// `RawNode::propose` for each command, with `batch_append`, which merges the
/// appends that follow. The documented way.
pub struct OneByOne;

impl Proposing for OneByOne {
    fn propose(node: &mut RawNode<MemStorage>, load: Load, payload: &[u8]) {
        for _ in 0..load.batch {
            node.propose(Vec::new(), payload.to_vec())
                .expect("a leader");
        }
    }
}

/// One `MsgPropose` with all commands, as a follower passes proposals on. Not
/// the documented way, but the cheapest there is.
pub struct InOneMessage;

impl Proposing for InOneMessage {
    fn propose(node: &mut RawNode<MemStorage>, load: Load, payload: &[u8]) {
        let entries: Vec<Entry> = (0..load.batch)
            .map(|_| Entry {
                data: payload.to_vec().into(),
                ..Entry::default()
            })
            .collect();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = 1;
        message.set_entries(entries.into());
        node.step(message).expect("a leader");
    }
}

pub struct RaftRs<P> {
    nodes: Vec<RawNode<MemStorage>>,
    applied: [u64; 3],
    messages: VecDeque<Message>,
    payload: Vec<u8>,
    proposing: std::marker::PhantomData<P>,
}

impl<P> RaftRs<P> {
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for place in 0..self.nodes.len() {
                while self.nodes[place].has_ready() {
                    self.carry_out(place);
                    moved = true;
                }
            }
            while let Some(message) = self.messages.pop_front() {
                let to = usize::try_from(message.to).expect("a place") - 1;
                self.nodes[to].step(message).expect("the message is taken");
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn carry_out(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let mut ready = node.ready();
        self.messages.extend(ready.take_messages());
        let mut applied = count(&ready.take_committed_entries());
        {
            // One lock for the whole write.
            let mut store = node.raft.raft_log.store.wl();
            if !ready.entries().is_empty() {
                store.append(ready.entries()).expect("no gap");
            }
            if let Some(hard_state) = ready.hs() {
                store.set_hardstate(hard_state.clone());
            }
        }
        self.messages.extend(ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.raft
                .raft_log
                .store
                .wl()
                .mut_hard_state()
                .set_commit(commit);
        }
        self.messages.extend(light.take_messages());
        applied += count(&light.take_committed_entries());
        node.advance_apply();
        self.applied[place] += applied;
        let log = &node.raft.raft_log;
        let last = log.applied;
        if last.saturating_sub(log.first_index()) >= 2 * LOG_ENTRIES_KEPT {
            log.store
                .wl()
                .compact(last - LOG_ENTRIES_KEPT)
                .expect("in the log");
        }
    }
}

fn count(entries: &[Entry]) -> u64 {
    entries
        .iter()
        .filter(|entry| entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty())
        .count() as u64
}

impl<P: Proposing> Trio for RaftRs<P> {
    fn elected() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let nodes = (1..=3)
            .map(|id| {
                let config = Config {
                    id,
                    max_size_per_msg: APPEND_BYTES_MAX,
                    max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
                    batch_append: true,
                    ..Config::default()
                };
                let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
                RawNode::new(&config, storage, &logger).expect("a node")
            })
            .collect();
        let mut trio = Self {
            nodes,
            applied: [0; 3],
            messages: VecDeque::new(),
            payload: vec![7; 4096],
            proposing: std::marker::PhantomData,
        };
        trio.nodes[0].campaign().expect("it campaigns");
        trio.settle();
        assert_eq!(trio.nodes[0].raft.state, StateRole::Leader);
        trio
    }

    fn commit(&mut self, load: Load) {
        let payload = &self.payload[..load.payload_bytes];
        P::propose(&mut self.nodes[0], load, payload);
        self.settle();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}
