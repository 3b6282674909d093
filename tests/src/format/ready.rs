//! # A Ready in etcd's words
//!
//! - Owns: nothing.
//! - Source: etcd `DescribeReady`.

use std::fmt::Write as _;

use raft_core::{AppendOutcome, NodeId, Ready, StorageWrites};

use super::message::{Described, describe_append, describe_apply, describe_message};
use super::words::{self, entries, hard_state, read_states, soft_state};

/// Everything a node wants done.
pub fn ready(node: NodeId, ready: &Ready, writes: StorageWrites) -> String {
    let mut text = String::new();
    if let Some(state) = ready.soft_state {
        let _ = writeln!(text, "{}", soft_state(state));
    }
    if let Some(state) = ready.hard_state() {
        let _ = writeln!(text, "HardState {}", hard_state(state));
    }
    if !ready.read_states.is_empty() {
        let _ = writeln!(text, "ReadStates {}", read_states(&ready.read_states));
    }
    if !ready.entries().is_empty() {
        let _ = write!(text, "Entries:\n{}", entries(&ready.entries()));
    }
    if let Some(snapshot) = ready.snapshot() {
        let _ = writeln!(text, "Snapshot {}", words::snapshot(snapshot));
    }
    if !ready.committed_entries().is_empty() {
        let committed = entries(&ready.committed_entries());
        let _ = write!(text, "CommittedEntries:\n{committed}");
    }
    let messages = ready_messages(node, ready, writes);
    if !messages.is_empty() {
        text.push_str("Messages:\n");
        for message in messages {
            let _ = writeln!(text, "{}", message.text());
        }
    }
    if text.is_empty() {
        return "<empty Ready>".to_owned();
    }
    format!("Ready MustSync={}:\n{text}", ready.must_sync)
}

/// Where writing is asynchronous, etcd sends the work to the storage threads as
/// messages. Else what waits for the write follows the other messages.
fn ready_messages(node: NodeId, ready: &Ready, writes: StorageWrites) -> Vec<Described> {
    let mut messages: Vec<Described> = ready.messages.iter().map(describe_message).collect();
    match writes {
        StorageWrites::Synchronous => {
            let append = ready.append.iter();
            for outcome in append.flat_map(|append| &append.responses) {
                if let AppendOutcome::Send(message) = outcome {
                    messages.push(describe_message(message));
                }
            }
        }
        StorageWrites::Asynchronous => {
            messages.extend(ready.append.iter().map(|work| describe_append(node, work)));
            messages.extend(ready.apply.iter().map(|work| describe_apply(node, work)));
        }
    }
    messages
}
