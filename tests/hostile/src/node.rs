//! # A node among enemies
//!
//! Builds a node from bytes (any configuration, any stored log, synchronous or
//! not) and does to it what the bytes say. Nothing may make it panic; every
//! invariant holds after every step; input that is refused changes nothing.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    AppendOutcome, AppendReceipt, ApplyReceipt, Body, BrokenInvariant, Config, Entries, EntryId,
    HardState, LogIndex, LostEntries, MemoryStorage, NodeId, Protections, RawNode, ReadOnly,
    RoleKind, Round, Snapshot, SnapshotMetadata, SnapshotOutcome, StepError, StorageWrites, Term,
    VoteResponse,
};

use crate::choices::Choices;
use crate::storage::TestStorage;

/// What happened, to see that the driver gets somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a report, whose facts are independent"
)]
pub struct Outcome {
    /// The storage could be started from.
    pub started: bool,
    /// Messages that were taken.
    pub taken: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// The node led.
    pub led: bool,
    /// The node campaigned.
    pub was_candidate: bool,
    /// The node installed a snapshot.
    pub installed_snapshot: bool,
}

/// Runs one script. Panics at the first thing that must not happen.
pub fn run(bytes: &[u8]) -> Outcome {
    run_on_lies(bytes, &[])
}

/// Runs one script on a storage that answers by `lies` while there are some.
pub(crate) fn run_on_lies(bytes: &[u8], lies: &[u8]) -> Outcome {
    let mut choices = Choices::new(bytes);
    let own = NodeId::new(1).expect("1 is an id");
    let config = config(&mut choices, own);
    let storage = TestStorage::lying(storage(&mut choices), lies);
    let last = storage.last_id();
    // What cannot be started from is refused with a reason.
    let Ok(node) = RawNode::new(config, storage) else {
        return Outcome::default();
    };
    let mut victim = Victim {
        node,
        appends: VecDeque::new(),
        applies: VecDeque::new(),
        last,
        storage_is_honest: lies.is_empty(),
        outcome: Outcome {
            started: true,
            ..Outcome::default()
        },
    };
    victim.check();
    while !choices.is_exhausted() {
        victim.step(&mut choices);
        victim.check();
    }
    victim.outcome
}

fn config(choices: &mut Choices<'_>, own: NodeId) -> Config {
    let check_quorum = choices.bool();
    let asynchronous = choices.bool();
    Config {
        election_ticks: 3,
        applied: LogIndex::new(match choices.byte() {
            0..200 => 0,
            _ => choices.number(2),
        }),
        storage_writes: if asynchronous {
            StorageWrites::Asynchronous
        } else {
            StorageWrites::Synchronous
        },
        append_bytes_max: choices.one_of(&[0, 30, 1 << 20]),
        committed_bytes_max: choices.one_of(&[None, Some(0), Some(20)]),
        uncommitted_bytes_max: choices.one_of(&[u64::MAX, 0, 20]),
        inflight_messages_max: choices.one_of(&[1, 2, 256]),
        check_quorum,
        pre_vote: choices.bool(),
        read_only: if check_quorum && choices.bool() {
            ReadOnly::LeaseBased
        } else {
            ReadOnly::Safe
        },
        proposal_forwarding: choices.byte() < 200,
        conf_change_validation: choices.byte() < 128,
        step_down_on_removal: choices.bool(),
        protections: if choices.byte() < 200 {
            Protections::On
        } else {
            Protections::Off
        },
        ..Config::protected(own)
    }
}

fn storage(choices: &mut Choices<'_>) -> MemoryStorage {
    let conf_state = choices.conf_state();
    let mut storage = MemoryStorage::with_conf_state(conf_state.clone());
    let mut start = 0;
    if choices.bool() {
        start = choices.number(5);
        let snapshot = Snapshot {
            metadata: SnapshotMetadata {
                index: LogIndex::new(start),
                term: Term::new(1),
                conf_state,
            },
            data: Bytes::new(),
        };
        storage
            .apply_snapshot(snapshot)
            .expect("the storage is new");
    }
    // A gap is refused; then there are no entries.
    let _ = storage.append(choices.entries(2, start.saturating_add(1)));
    if choices.bool() {
        // What is dropped is in a snapshot; other storages break their contract.
        let to = LogIndex::new(choices.number(2));
        if storage.create_snapshot(to, None, Bytes::new()).is_ok() {
            let _ = storage.compact(to);
        }
    }
    let last = raft_core::Storage::last_index(&storage).get();
    storage.set_hard_state(if choices.byte() < 220 {
        // One that fits the log.
        let above = last.saturating_sub(start);
        let room = u8::try_from(above).unwrap_or(u8::MAX).saturating_add(1);
        HardState {
            term: Term::new(2 + u64::from(choices.below(4))),
            vote: choices.bool().then(|| choices.node()),
            commit: LogIndex::new(last.saturating_sub(u64::from(choices.below(room)))),
        }
    } else {
        HardState {
            term: Term::new(choices.number(3)),
            vote: choices.bool().then(|| choices.node()),
            commit: LogIndex::new(choices.number(start)),
        }
    });
    storage
}

struct Victim {
    node: RawNode<TestStorage>,
    appends: VecDeque<PendingAppend>,
    applies: VecDeque<(Entries, Option<ApplyReceipt>)>,
    /// The last entry that went into the log, as far as one can see.
    last: EntryId,
    /// Whoever is lied to about its log may be wrong about it, and may break
    /// invariants. It still may not panic.
    storage_is_honest: bool,
    outcome: Outcome,
}

/// Like etcd, an exact node remembers where a refused change would have stood.
fn is_exact(node: &RawNode<TestStorage>) -> bool {
    node.config().protections == Protections::Off
}

struct PendingAppend {
    hard_state: Option<HardState>,
    entries: Entries,
    snapshot: Option<Snapshot>,
    receipts: Vec<AppendReceipt>,
    then_apply: Entries,
}

impl Victim {
    fn check(&mut self) {
        match self.node.check() {
            Ok(()) => {}
            // Like etcd, an exact node believes in acknowledgements of entries
            // that it does not have yet.
            Err(BrokenInvariant::Progress { .. }) if is_exact(&self.node) => {}
            Err(_) if !self.storage_is_honest => {}
            Err(broken) => panic!("{broken}: {:?}", self.node.status()),
        }
        match self.node.role() {
            RoleKind::Leader => self.outcome.led = true,
            RoleKind::Candidate | RoleKind::PreCandidate => self.outcome.was_candidate = true,
            RoleKind::Follower => {}
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(20) {
            0..8 => self.receive(choices),
            8 => self.be_elected(),
            9 => {
                let _ = self.node.tick();
            }
            10 => {
                let _ = self.node.campaign();
            }
            11 => self.command(choices),
            12 => self.report(choices),
            13..16 => self.take_ready(),
            16 | 17 => self.complete_append(),
            18 => self.complete_apply(),
            _ => {
                // A change that cannot be made changes nothing.
                let before = self.node.membership().clone();
                if self.node.apply_conf_change(&choices.conf_change()).is_err() {
                    assert_eq!(*self.node.membership(), before);
                }
            }
        }
    }

    fn receive(&mut self, choices: &mut Choices<'_>) {
        let node = &mut self.node;
        let message = choices.message(node.id(), node.term(), self.last, node.commit_index());
        // All state there is, generators and queues included.
        let before = format!("{node:?}");
        let status = node.status();
        let is_snapshot = matches!(message.body, Body::Snapshot(_));
        match node.step(message.clone()) {
            Ok(()) => {
                self.outcome.taken += 1;
                self.outcome.installed_snapshot |=
                    is_snapshot && node.commit_index() > status.hard_state.commit;
            }
            Err(StepError::Halted(_)) => assert!(node.failure().is_some()),
            Err(refused) => {
                self.outcome.refused += 1;
                if self.storage_is_honest {
                    assert_eq!(node.status(), status, "{refused}: {message:?}");
                    if !is_exact(node) {
                        assert_eq!(format!("{node:?}"), before, "{refused}: {message:?}");
                    }
                }
            }
        }
    }

    /// Enemies that vote for the node make it a leader among enemies.
    fn be_elected(&mut self) {
        let _ = self.node.campaign();
        for round in [Round::PreVote, Round::Vote] {
            self.take_ready();
            self.complete_append();
            let term = match (round, self.node.role()) {
                (Round::PreVote, RoleKind::PreCandidate) => self.node.term().next(),
                _ => self.node.term(),
            };
            for from in self.node.membership().voters().ids() {
                if from != self.node.id() {
                    let vote = VoteResponse::Granted;
                    let message = raft_core::Message {
                        to: self.node.id(),
                        from,
                        term,
                        body: Body::VoteResponse { round, vote },
                    };
                    let _ = self.node.step(message);
                    self.check();
                }
            }
        }
    }

    fn command(&mut self, choices: &mut Choices<'_>) {
        let node = &mut self.node;
        let before = format!("{node:?}");
        let unchanged = match choices.below(4) {
            0 => {
                let proposals = (0..choices.below(3)).map(|_| choices.proposal()).collect();
                node.propose_batch(proposals).is_err()
            }
            1 => node.propose_conf_change(&choices.conf_change()).is_err(),
            2 => node.read_index(choices.bytes()).is_err(),
            _ => {
                let to = choices.node();
                let _ = node.transfer_leadership(to);
                false
            }
        };
        if unchanged && self.storage_is_honest && node.failure().is_none() && !is_exact(node) {
            assert_eq!(
                format!("{node:?}"),
                before,
                "a refused command changed something"
            );
        }
    }

    fn report(&mut self, choices: &mut Choices<'_>) {
        let id = choices.node();
        match choices.below(7) {
            0 => self.node.report_unreachable(id),
            1 => self.node.report_snapshot(id, SnapshotOutcome::Arrived),
            2 => self.node.report_snapshot(id, SnapshotOutcome::Failed),
            3 => self.node.forget_leader(),
            4 => self.node.quarantine(LostEntries {
                acknowledged: LogIndex::new(choices.number(9)),
                last: self.node.last_index(),
            }),
            5 => {
                let _ = self.node.entries_available();
            }
            _ => {
                self.node
                    .set_randomized_election_timeout(u32::from(choices.byte()));
            }
        }
    }

    fn take_ready(&mut self) {
        if !self.node.has_ready() || self.node.is_ready_outstanding() {
            return;
        }
        let Ok(ready) = self.node.ready() else {
            assert!(self.node.failure().is_some());
            return;
        };
        let asynchronous = self.node.config().storage_writes == StorageWrites::Asynchronous;
        let append = ready.append.unwrap_or_default();
        if let Some(snapshot) = &append.snapshot {
            self.last = snapshot.metadata.id();
        }
        if let Some(last) = append.entries.last_id() {
            self.last = last;
        }
        let (entries, receipt) = match ready.apply {
            Some(apply) => (apply.entries, apply.receipt),
            None => (Entries::new(), None),
        };
        let receipts = append
            .responses
            .into_iter()
            .filter_map(|outcome| match outcome {
                AppendOutcome::Receipt(receipt) => Some(receipt),
                AppendOutcome::Send(_) => None,
            });
        self.appends.push_back(PendingAppend {
            hard_state: append.hard_state,
            entries: append.entries,
            snapshot: append.snapshot,
            receipts: receipts.collect(),
            then_apply: if asynchronous {
                Entries::new()
            } else {
                entries.clone()
            },
        });
        if asynchronous && receipt.is_some() {
            self.applies.push_back((entries, receipt));
        }
    }

    fn complete_append(&mut self) {
        let Some(append) = self.appends.pop_front() else {
            return;
        };
        let storage = &mut self.node.storage_mut().honest;
        if let Some(snapshot) = append.snapshot {
            let stored = storage.apply_snapshot(snapshot);
            assert!(
                stored.is_ok() || !self.storage_is_honest,
                "a node takes no older snapshot"
            );
        }
        let stored = storage.append(append.entries);
        assert!(
            stored.is_ok() || !self.storage_is_honest,
            "a node leaves no gap in its log"
        );
        if let Some(hard_state) = append.hard_state {
            storage.set_hard_state(hard_state);
        }
        for receipt in append.receipts {
            let _ = self.node.persisted(receipt);
        }
        if self.node.is_ready_outstanding() {
            self.apply(&append.then_apply);
            let _ = self.node.advance();
        }
    }

    fn complete_apply(&mut self) {
        if let Some((entries, receipt)) = self.applies.pop_front() {
            self.apply(&entries);
            if let Some(receipt) = receipt {
                let _ = self.node.applied(receipt);
            }
        }
    }

    fn apply(&mut self, entries: &Entries) {
        for entry in entries.iter() {
            if let Ok(Some(change)) = entry.conf_change() {
                let _ = self.node.apply_conf_change(&change);
            }
        }
    }
}
