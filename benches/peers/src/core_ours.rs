//! # raft-core under the core load
//!
//! - Owns: three nodes on `MemoryStorage`, the messages between them.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use raft_core::{
    AppendOutcome, ConfState, Config, EntryType, MemoryStorage, Message, NodeId, Proposal, RawNode,
    Ready, RoleKind,
};

use crate::core_load::{APPEND_BYTES_MAX, INFLIGHT_MESSAGES_MAX, LOG_ENTRIES_KEPT, Load, Trio};

pub struct Ours {
    nodes: Vec<RawNode<MemoryStorage>>,
    applied: [u64; 3],
    messages: VecDeque<Message>,
    ready: Ready,
    payload: Vec<u8>,
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

impl Ours {
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
                let to = usize::try_from(message.to.get()).expect("a place") - 1;
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
        let ready = &mut self.ready;
        node.ready_into(ready).expect("nothing is outstanding");
        self.messages.extend(ready.messages.drain(..));
        if let Some(append) = &mut ready.append {
            let storage = node.storage_mut();
            let entries = mem::take(&mut append.entries);
            storage.append(entries).expect("no gap");
            if let Some(hard_state) = append.hard_state {
                storage.set_hard_state(hard_state);
            }
            for outcome in append.responses.drain(..) {
                match outcome {
                    AppendOutcome::Send(message) => self.messages.push_back(message),
                    AppendOutcome::Receipt(receipt) => node.persisted(receipt).expect("a member"),
                }
            }
        }
        if let Some(apply) = ready.apply.take() {
            for entry in apply.entries.slices().flatten() {
                if entry.entry_type() == EntryType::Normal && !entry.data().is_empty() {
                    self.applied[place] += 1;
                }
            }
        }
        node.advance().expect("the node lives");
        let last = node.applied_index();
        if last.get().saturating_sub(node.first_index().get()) >= 2 * LOG_ENTRIES_KEPT {
            let keep_from = raft_core::LogIndex::new(last.get() - LOG_ENTRIES_KEPT);
            node.storage_mut().compact(keep_from).expect("in the log");
        }
    }
}

impl Trio for Ours {
    fn elected() -> Self {
        let nodes = (1..=3)
            .map(|number| {
                let config = Config {
                    append_bytes_max: APPEND_BYTES_MAX,
                    inflight_messages_max: INFLIGHT_MESSAGES_MAX,
                    ..Config::protected(id(number))
                };
                let voters = ConfState::of_voters((1..=3).map(id));
                RawNode::new(config, MemoryStorage::with_conf_state(voters)).expect("a node")
            })
            .collect();
        let mut trio = Self {
            nodes,
            applied: [0; 3],
            messages: VecDeque::new(),
            ready: Ready::default(),
            payload: vec![7; 4096],
        };
        trio.nodes[0].campaign().expect("the node lives");
        trio.settle();
        assert_eq!(trio.nodes[0].role(), RoleKind::Leader);
        trio
    }

    fn commit(&mut self, load: Load) {
        let payload = &self.payload[..load.payload_bytes];
        if load.batch == 1 {
            let data = Bytes::copy_from_slice(payload);
            self.nodes[0].propose(data).expect("a leader");
        } else {
            let batch = (0..load.batch)
                .map(|_| Proposal::normal(Bytes::copy_from_slice(payload)))
                .collect();
            self.nodes[0].propose_batch(batch).expect("a leader");
        }
        self.settle();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}
