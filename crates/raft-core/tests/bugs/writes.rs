//! Writes and applications that are under way.

use raft_core::{
    AppendOutcome, AppendReceipt, AppendResponse, Body, Config, Entries, Entry, EntryId,
    MemoryStorage, RawNode, ReceiptKind, RoleKind, Round, StepError, VoteResponse,
};

use super::{answer, asynchronous, heartbeat};
use crate::support::{Cluster, Disk, command, id, index, message, plain, term};

fn acknowledged(cluster: &mut Cluster, from: u64) -> Vec<u64> {
    cluster
        .take(|m| m.from == id(from))
        .into_iter()
        .filter_map(|m| match m.body {
            Body::AppendResponse(AppendResponse::Accepted { matched }) => Some(matched.get()),
            _ => None,
        })
        .collect()
}

/// The leader repeats entries that are being written, and asks with an empty
/// append behind them. Neither is acknowledged before the first write is done.
#[test]
fn a_repeated_append_is_not_acknowledged_before_the_first_is_durable() {
    for choose in [plain, asynchronous] {
        let mut cluster = Cluster::with(3, choose);
        cluster.server_mut(2).hold_disk(Disk::Held);
        let append = |prev: u64, entries: Entries| Body::Append {
            prev: EntryId::new(term(if prev == 1 { 1 } else { 2 }), index(prev)),
            entries,
            commit: index(1),
        };
        let entry = || Entries::from(Entry::normal(term(2), index(2), command("a")));
        cluster.deliver(message(1, 2, 2, append(1, entry())));
        cluster.deliver(message(1, 2, 2, append(1, entry())));
        cluster.deliver(message(1, 2, 2, append(2, Entries::new())));
        assert_eq!(acknowledged(&mut cluster, 2), [0_u64; 0]);
        cluster.release_disk(2);
        assert_eq!(acknowledged(&mut cluster, 2), [2, 2, 2]);
    }
}

/// A leader's own write is done when it has lost its office, and its entries to
/// another leader, and won the office again. What it acknowledged in the earlier
/// term counts for nothing in the later.
#[test]
fn an_own_acknowledgement_does_not_count_in_a_later_term() {
    let conf_state = raft_core::ConfState::of_voters([id(1), id(2), id(3)]);
    let storage = MemoryStorage::with_conf_state(conf_state);
    let config = asynchronous(plain(Config::protected(id(1))));
    let mut node = RawNode::new(config, storage).expect("it starts");
    be_elected(&mut node);
    for text in ["old", "older", "oldest"] {
        node.propose(command(text)).expect("it leads");
    }
    let late: Vec<_> = write_to_others(&mut node)
        .into_iter()
        .filter(|receipt| matches!(receipt.kind(), ReceiptKind::OwnAppend { .. }))
        .collect();
    assert!(!late.is_empty());
    let later = node.term().next().get();
    let replacement = Body::Append {
        prev: EntryId::default(),
        entries: Entry::normal(term(later), index(1), command("new")).into(),
        commit: index(0),
    };
    node.step(message(2, 1, later, replacement))
        .expect("another leader");
    be_elected(&mut node);
    assert!(node.term() > term(later));
    let before = node.status().progress[0].1.matched;
    for receipt in late {
        node.persisted(receipt).expect("it is alive");
        node.check().expect("every invariant holds");
    }
    assert_eq!(node.status().progress[0].1.matched, before);
}

/// An entry is written, replaced by another leader's, and put back by a third
/// one, while all three writes are under way. The receipt of the first says
/// nothing about the third: the second is still to come, and until then nobody
/// may take the entry from the disk.
#[test]
fn a_receipt_of_an_entry_that_was_replaced_and_put_back_does_not_count() {
    let mut cluster = Cluster::with(3, |config| asynchronous(plain(config)));
    cluster.server_mut(2).hold_disk(Disk::Held);
    let write = |in_term: u64, text: &str| Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: Entry::normal(term(in_term), index(2), command(text)).into(),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, write(2, "first")));
    cluster.deliver(message(3, 2, 3, write(3, "second")));
    cluster.deliver(message(1, 2, 4, write(2, "first")));
    // The first write and its receipt, then the second.
    cluster.complete_write(2);
    cluster.complete_write(2);
    cluster.deliver(message(1, 2, 4, heartbeat(index(2))));
    assert!(!cluster.server(2).has_apply());
    cluster.release_disk(2);
    assert_eq!(cluster.server(2).commands(), [command("first")]);
}

/// An enemy sends entries, then a snapshot that contradicts them, then the same
/// entries behind it. The receipt of the first write says nothing about the
/// last: the snapshot between them is still being written.
#[test]
fn a_receipt_from_before_a_snapshot_does_not_count_behind_it() {
    for choose in [plain, asynchronous] {
        let conf_state = raft_core::ConfState::of_voters([id(1), id(2), id(3)]);
        let storage = MemoryStorage::with_conf_state(conf_state.clone());
        let mut node =
            RawNode::new(choose(plain(Config::protected(id(1)))), storage).expect("it starts");
        let entries = |prev: EntryId, commit: u64| Body::Append {
            prev,
            entries: Entries::from_batch(
                (prev.index.get() + 1..=3)
                    .map(|at| Entry::normal(term(4), index(at), command("x")))
                    .collect(),
            )
            .expect("in order"),
            commit: index(commit),
        };
        node.step(message(2, 1, 4, entries(EntryId::default(), 0)))
            .expect("it is taken");
        let ready = node.ready().expect("there is something to write");
        let snapshot = Body::Snapshot(Box::new(raft_core::Snapshot {
            metadata: raft_core::SnapshotMetadata {
                index: index(1),
                term: term(3),
                conf_state,
            },
            data: bytes::Bytes::new(),
        }));
        node.step(message(2, 1, 4, snapshot)).expect("it is taken");
        let behind = EntryId::new(term(3), index(1));
        node.step(message(2, 1, 4, entries(behind, 3)))
            .expect("it is taken");
        let append = ready.append.expect("there is something to write");
        node.storage_mut().append(append.entries).expect("in order");
        for outcome in append.responses {
            if let AppendOutcome::Receipt(receipt) = outcome {
                node.persisted(receipt).expect("it is alive");
            }
        }
        node.advance().expect("it is alive");
        node.check().expect("every invariant holds");
        assert_eq!(node.last_index(), index(3));
    }
}

/// Wins an election by the vote of server 2; of the writes only those that the
/// election needs are acknowledged.
fn be_elected(node: &mut RawNode<MemoryStorage>) {
    node.campaign().expect("it is alive");
    for receipt in write_to_others(node) {
        if matches!(receipt.kind(), ReceiptKind::OwnVote { .. }) {
            node.persisted(receipt).expect("it is alive");
        }
    }
    let vote = answer(Round::Vote, VoteResponse::Granted);
    let in_term = node.term().get();
    node.step(message(2, 1, in_term, vote)).expect("a vote");
    assert_eq!(node.role(), RoleKind::Leader);
}

/// Receipts that come back in another order, as from one thread per write,
/// prove no more than that their own writes are done; none makes the log
/// forget what it still has to remember.
#[test]
fn receipts_in_another_order_move_nothing_back() {
    let mut node = leader_of_itself();
    let mut receipts: Vec<Vec<AppendReceipt>> = Vec::new();
    for text in ["a", "b", "c"] {
        node.propose(command(text)).expect("it leads");
        receipts.push(write(&mut node));
    }
    let last = node.last_index();
    let mut commit = node.commit_index();
    for receipts in receipts.into_iter().rev() {
        for receipt in receipts {
            node.persisted(receipt).expect("it is alive");
            node.check().expect("every invariant holds");
            assert!(node.commit_index() >= commit);
            commit = node.commit_index();
            assert_eq!(node.last_index(), last);
        }
    }
    assert_eq!(node.commit_index(), last);
}

/// The state machine's reports in another order: the later one covers the
/// earlier.
#[test]
fn applications_in_another_order_move_nothing_back() {
    let mut node = leader_of_itself();
    let mut applies = Vec::new();
    for text in ["a", "b", "c"] {
        node.propose(command(text)).expect("it leads");
        for receipt in write(&mut node) {
            node.persisted(receipt).expect("it is alive");
        }
        let ready = node.ready().expect("there is something to apply");
        applies.push(
            ready
                .apply
                .and_then(|apply| apply.receipt)
                .expect("asynchronous"),
        );
    }
    let commit = node.commit_index();
    for receipt in applies.into_iter().rev() {
        node.applied(receipt).expect("it is alive");
        assert_eq!(node.applied_index(), commit);
        node.check().expect("every invariant holds");
    }
}

/// The only voter, which has applied everything so far.
fn leader_of_itself() -> RawNode<MemoryStorage> {
    let conf_state = raft_core::ConfState::of_voters([id(1)]);
    let storage = MemoryStorage::with_conf_state(conf_state);
    let config = asynchronous(Config::protected(id(1)));
    let mut node = RawNode::new(config, storage).expect("it starts");
    node.campaign().expect("it is alive");
    while node.has_ready() {
        for receipt in write(&mut node) {
            node.persisted(receipt).expect("it is alive");
        }
    }
    assert_eq!(node.role(), RoleKind::Leader);
    node
}

/// Carries a Ready out, and returns the receipts of its write.
fn write(node: &mut RawNode<MemoryStorage>) -> Vec<AppendReceipt> {
    let ready = node.ready().expect("there is something to do");
    let mut receipts = Vec::new();
    if let Some(append) = ready.append {
        node.storage_mut().append(append.entries).expect("in order");
        if let Some(hard_state) = append.hard_state {
            node.storage_mut().set_hard_state(hard_state);
        }
        for outcome in append.responses {
            match outcome {
                AppendOutcome::Receipt(receipt) => receipts.push(receipt),
                AppendOutcome::Send(message) => panic!("there is nobody else: {message:?}"),
            }
        }
    }
    if let Some(receipt) = ready.apply.and_then(|apply| apply.receipt) {
        node.applied(receipt).expect("it is alive");
    }
    receipts
}

/// A write of a server that was removed meanwhile is not an acknowledgement.
#[test]
fn an_acknowledgement_of_a_removed_leader_does_not_count() {
    let mut node = leader_of_itself();
    node.apply_conf_change(&raft_core::ConfChange::single(
        raft_core::ConfChangeType::AddNode,
        id(2),
    ))
    .expect("it can be added");
    node.propose(command("a")).expect("it leads");
    let receipts = write_to_others(&mut node);
    node.apply_conf_change(&raft_core::ConfChange::single(
        raft_core::ConfChangeType::RemoveNode,
        id(1),
    ))
    .expect("it can be removed");
    let commit = node.commit_index();
    for receipt in receipts {
        let own = matches!(
            receipt.kind(),
            ReceiptKind::OwnAppend { .. } | ReceiptKind::OwnVote { .. }
        );
        let result = node.persisted(receipt);
        assert_eq!(
            matches!(result, Err(StepError::PeerNotFound(from)) if from == id(1)),
            own
        );
    }
    assert_eq!(node.commit_index(), commit);
}

fn write_to_others(node: &mut RawNode<MemoryStorage>) -> Vec<AppendReceipt> {
    let ready = node.ready().expect("there is something to do");
    let append = ready.append.expect("there is something to write");
    node.storage_mut().append(append.entries).expect("in order");
    append
        .responses
        .into_iter()
        .filter_map(|outcome| match outcome {
            AppendOutcome::Receipt(receipt) => Some(receipt),
            AppendOutcome::Send(_) => None,
        })
        .collect()
}
