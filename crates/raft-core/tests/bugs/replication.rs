//! Replication and commitment.

use std::cell::Cell;

use raft_core::{
    AppendResponse, Body, ConfChange, ConfChangeType, Config, Entries, EntryId, Flow, InitialState,
    LogIndex, MemoryStorage, Message, Proposal, Proposed, RawNode, RoleKind, Snapshot, Storage,
    StorageError, Term,
};

use super::heartbeat;
use crate::support::{Cluster, command, id, index, message, plain, term};

/// A heartbeat tells a follower no more than it is known to have: what is
/// behind may be something else there.
#[test]
fn a_heartbeat_commits_no_more_than_its_receiver_has() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.partition(&[3], &[1, 2]);
    for text in ["a", "b"] {
        cluster.propose(1, command(text)).expect("it leads");
        cluster.deliver_all();
    }
    cluster.take(|_| true);
    cluster.heal();
    cluster.tick(1, 1);
    let matched = cluster.node(1).status().progress[2].1.matched;
    assert!(matched < cluster.node(1).commit_index());
    let sent = cluster.take(|m| m.to == id(3));
    assert!(!sent.is_empty());
    for message in sent {
        if let Body::Heartbeat { commit, .. } = message.body {
            assert!(commit <= matched, "{commit} of {matched}");
        }
    }
}

/// An append that begins before the follower's snapshot contradicts nothing:
/// the follower says how far it is, and keeps its log.
#[test]
fn an_append_that_begins_in_the_snapshot_removes_nothing() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
    }
    cluster.deliver_all();
    cluster.run(1);
    let old = Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: cluster
            .node(1)
            .storage()
            .entries(index(2), index(4), u64::MAX)
            .expect("there"),
        commit: index(2),
    };
    cluster.server_mut(2).compact(1);
    let first = cluster.node(2).first_index();
    assert!(first > index(4));
    let (last, commit) = (cluster.node(2).last_index(), cluster.node(2).commit_index());
    let in_term = cluster.node(1).term().get();
    cluster.deliver(message(1, 2, in_term, old));
    let answers = cluster.take(|m| m.from == id(2));
    let matched = commit;
    assert_eq!(
        answers.into_iter().map(|m| m.body).collect::<Vec<_>>(),
        [Body::AppendResponse(AppendResponse::Accepted { matched })]
    );
    assert_eq!(cluster.node(2).last_index(), last);
    assert_eq!(cluster.node(2).first_index(), first);
}

/// A rejection acknowledges nothing, whatever its numbers are, and never brings
/// the next entry to send down to one that is acknowledged.
#[test]
fn a_rejection_acknowledges_nothing() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.crash(2);
    cluster.partition(&[1], &[3]);
    cluster.propose(1, command("b")).expect("it leads");
    let before = cluster.node(1).status();
    let last = before.last_index;
    let in_term = cluster.node(1).term().get();
    // Upwards it streams first; downwards it probes, from right behind the match.
    for at in (0..=last.get()).chain((0..=last.get()).rev()) {
        for hint in 0..=last.get() {
            let rejected = AppendResponse::Rejected {
                at: index(at),
                hint: EntryId::new(term(in_term), index(hint)),
            };
            cluster.deliver(message(2, 1, in_term, Body::AppendResponse(rejected)));
            let progress = cluster.node(1).status().progress[1].1;
            assert_eq!(progress.matched, before.progress[1].1.matched);
            assert!(progress.next > progress.matched);
        }
    }
    assert_eq!(cluster.node(1).commit_index(), before.hard_state.commit);
}

/// A leader that hears of a later term appends nothing more, under either term.
#[test]
fn a_leader_that_steps_down_appends_nothing() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.deliver_all();
    let last = cluster.node(1).last_index();
    cluster.deliver(message(2, 1, 9, heartbeat(index(1))));
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    cluster.run(1);
    assert_eq!(cluster.node(1).last_index(), last);
    // What it is asked to propose goes to the new leader, and not into its log.
    let _ = cluster.propose(1, command("late"));
    assert_eq!(cluster.node(1).last_index(), last);
}

/// One change of a batch is refused; the batch is appended in its order, and
/// whoever proposed the change is told.
#[test]
fn a_refused_change_keeps_its_place_in_the_batch() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    let change = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    cluster.change(1, &change).expect("it is the first");
    let last = cluster.node(1).last_index();
    let batch = vec![
        Proposal::normal(command("before")),
        change.to_proposal(),
        Proposal::normal(command("behind")),
    ];
    let proposed = cluster
        .with_node(1, |node| node.propose_batch(batch))
        .expect("it leads");
    let Proposed::Appended { first, refused, .. } = proposed else {
        panic!("a leader appends: {proposed:?}");
    };
    assert_eq!(first, last.next());
    assert!(refused.is_some());
    let entries = cluster
        .node(1)
        .storage()
        .entries(last.next(), last.plus(4), u64::MAX)
        .expect("they are there");
    let data: Vec<_> = entries.iter().map(|e| e.data().clone()).collect();
    assert_eq!(data, [command("before"), command(""), command("behind")]);
}

/// A storage that fails to read from some point on.
#[derive(Debug)]
struct Failing {
    memory: MemoryStorage,
    fails: Cell<bool>,
}

impl Failing {
    fn read<T>(&self, read: Result<T, StorageError>) -> Result<T, StorageError> {
        if self.fails.get() {
            return Err(StorageError::Failed("the disk is broken".into()));
        }
        read
    }
}

impl Storage for Failing {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.read(self.memory.initial_state())
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.read(self.memory.entries(low, high, bytes_max))
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.read(self.memory.term(index))
    }

    fn first_index(&self) -> LogIndex {
        self.memory.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.memory.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.read(self.memory.snapshot())
    }
}

/// A leader that cannot read its log stops. It does not send what it could read
/// as if the rest were not there.
#[test]
fn a_leader_that_cannot_read_its_log_sends_nothing_of_it() {
    let mut cluster = Cluster::of_logs(2, |_| &[1, 1, 1]);
    cluster.crash(2);
    let memory: MemoryStorage = (**cluster.node(1).storage()).clone();
    let storage = Failing {
        memory,
        fails: Cell::new(false),
    };
    let mut node = RawNode::new(plain(Config::protected(id(1))), storage).expect("it starts");
    let carry_out = |node: &mut RawNode<Failing>| -> Vec<Message> {
        let mut sent = Vec::new();
        while node.has_ready() {
            let Ok(ready) = node.ready() else { break };
            sent.extend(ready.messages);
            if let Some(append) = ready.append {
                let memory = &mut node.storage_mut().memory;
                memory.append(append.entries).expect("in order");
                if let Some(hard_state) = append.hard_state {
                    memory.set_hard_state(hard_state);
                }
            }
            if node.advance().is_err() {
                break;
            }
        }
        sent
    };
    node.campaign().expect("it is alive");
    carry_out(&mut node);
    let in_term = node.term().get();
    let vote = super::answer(raft_core::Round::Vote, raft_core::VoteResponse::Granted);
    node.step(message(2, 1, in_term, vote)).expect("a vote");
    carry_out(&mut node);
    assert_eq!(node.role(), RoleKind::Leader);

    node.storage().fails.set(true);
    let rejected = Body::AppendResponse(AppendResponse::Rejected {
        at: index(3),
        hint: EntryId::new(Term::ZERO, index(0)),
    });
    let stepped = node.step(message(2, 1, in_term, rejected));
    let sent = carry_out(&mut node);
    assert!(
        !sent.iter().any(|m| matches!(m.body, Body::Append { .. })),
        "{sent:?}"
    );
    assert!(stepped.is_err() || node.failure().is_some());
    assert!(node.failure().is_some());
    assert!(node.tick().is_err(), "a node that has failed is told so");
}

/// Sent messages are forgotten when the follower's answer shows that they were
/// lost; the match stays what it was.
#[test]
fn a_follower_that_lost_messages_is_probed_from_its_match() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
    }
    cluster.take(|m| m.to == id(2));
    cluster.deliver_all();
    let matched = cluster.node(1).status().progress[1].1.matched;
    cluster.with_node(1, |node| node.report_unreachable(id(2)));
    let progress = cluster.node(1).status().progress[1].1;
    assert_eq!(progress.flow, Flow::Probe);
    assert_eq!((progress.matched, progress.next), (matched, matched.next()));
    cluster.run(3);
    assert_eq!(cluster.server(2).state(), cluster.server(1).state());
}
