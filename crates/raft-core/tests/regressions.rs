//! # What has crashed others
//!
//! Each test is a message, an entry or a disk that makes etcd-raft panic or
//! obey an enemy. Here it is a typed error, and nothing has changed.

use bytes::Bytes;
use raft_core::{
    AppendResponse, Body, ConfChange, ConfChangeError, ConfChangeType, ConfState, Config,
    ConfigError, Entries, Entry, EntryId, EntryType, HardState, LogIndex, LostEntries,
    MemoryStorage, Message, Misbehaved, NodeId, OddMessages, Proposal, ProposeError, RawNode,
    RoleKind, Round, Snapshot, SnapshotMetadata, StartError, StepError, Term, VoteResponse,
};

use crate::support::{Cluster, Disk, command, id, index, message, term};

/// A leader of three in term 2, with three commands.
fn leader() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
    }
    cluster.deliver_all();
    cluster
}

/// Steps what must be refused, and compares everything before and after.
fn refused(cluster: &mut Cluster, message: Message) -> StepError {
    let node = cluster.server_mut(message.to.get()).node_mut();
    let before = format!("{node:?}");
    let error = node.step(message).expect_err("it must be refused");
    assert_eq!(format!("{node:?}"), before, "{error} changed something");
    node.check().expect("the invariants hold");
    error
}

fn misbehaved(cluster: &mut Cluster, message: Message) -> Misbehaved {
    match refused(cluster, message) {
        StepError::Misbehaved { why, .. } => why,
        other => panic!("another error: {other}"),
    }
}

/// What the cluster still does after the attack.
fn still_works(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("somebody leads").get();
    let before = cluster.node(leader).commit_index();
    cluster.propose(leader, command("after")).expect("it leads");
    cluster.deliver_all();
    assert!(cluster.node(leader).commit_index() > before);
}

// ── what one message or entry does to etcd ────────────────────────────────────────────

#[test]
fn a_heartbeat_that_commits_beyond_the_log_is_refused() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    let heartbeat = Body::Heartbeat {
        commit: last.next(),
        context: Bytes::new(),
    };
    let why = misbehaved(&mut cluster, message(1, 2, 2, heartbeat));
    let commit = last.next();
    assert_eq!(why, Misbehaved::CommitBeyondLog { commit, last });
    still_works(&mut cluster);
}

#[test]
fn entries_whose_indexes_lie_are_refused() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    for first in [last, index(u64::MAX), index(0)] {
        let append = Body::Append {
            prev: EntryId::new(term(2), last),
            entries: Entry::normal(term(2), first, command("x")).into(),
            commit: last,
        };
        let why = misbehaved(&mut cluster, message(1, 2, 2, append));
        let expected = last.next();
        assert_eq!(why, Misbehaved::EntriesNotAfterPrev { expected });
    }
    // Entries with a gap between them cannot even be expressed.
    let gap = vec![
        Entry::normal(term(2), index(7), Bytes::new()),
        Entry::normal(term(2), index(9), Bytes::new()),
    ];
    assert_eq!(Entries::from_batch(gap), None);
    // Nor can two with the last of all numbers.
    let twice = vec![Entry::normal(term(2), index(u64::MAX), Bytes::new()); 2];
    assert_eq!(Entries::from_batch(twice), None);
    still_works(&mut cluster);
}

#[test]
fn entries_at_the_end_of_all_numbers_are_refused() {
    let mut cluster = leader();
    for at in [u64::MAX, u64::MAX - 1, u64::MAX >> 1] {
        let append = Body::Append {
            prev: EntryId::new(term(2), index(at)),
            entries: Entry::normal(term(2), index(at.saturating_add(1)), Bytes::new()).into(),
            commit: index(u64::MAX),
        };
        let why = misbehaved(&mut cluster, message(1, 2, 2, append));
        assert_eq!(why, Misbehaved::OutOfRange);
    }
    still_works(&mut cluster);
}

#[test]
fn an_empty_proposal_is_refused() {
    let mut cluster = leader();
    let empty = Body::Propose {
        proposals: Vec::new(),
    };
    let why = misbehaved(&mut cluster, message(2, 1, 0, empty));
    assert_eq!(why, Misbehaved::EmptyProposal);
    let own = cluster.with_node(1, |node| node.propose_batch(Vec::new()));
    assert_eq!(own, Err(ProposeError::Empty));
    still_works(&mut cluster);
}

#[test]
fn a_configuration_change_that_cannot_be_read_is_refused() {
    let mut cluster = leader();
    for entry_type in [EntryType::ConfChange, EntryType::ConfChangeV2] {
        let garbage = Proposal {
            entry_type,
            data: Bytes::from_static(&[0xff; 3]),
        };
        let proposals = vec![Proposal::normal(command("x")), garbage];
        let forwarded = message(
            2,
            1,
            0,
            Body::Propose {
                proposals: proposals.clone(),
            },
        );
        let why = misbehaved(&mut cluster, forwarded);
        assert!(matches!(why, Misbehaved::MalformedConfChange(_)), "{why}");
        let own = cluster.with_node(1, |node| node.propose_batch(proposals));
        assert!(matches!(own, Err(ProposeError::Malformed(_))), "{own:?}");
    }
    still_works(&mut cluster);
}

#[test]
fn an_impossible_change_that_was_committed_is_void_everywhere() {
    let mut cluster = leader();
    let everybody = ConfChange {
        changes: (1..=3)
            .map(|n| raft_core::ConfChangeSingle::new(ConfChangeType::RemoveNode, id(n)))
            .collect(),
        ..ConfChange::default()
    };
    let before = cluster.node(1).membership().clone();
    cluster.change(1, &everybody).expect("it is appended");
    cluster.deliver_all();
    cluster.run(2);
    for number in 1..=3 {
        let node = cluster.node(number);
        assert_eq!(node.applied_index(), node.last_index());
        assert_eq!(*node.membership(), before);
        let again = cluster.with_node(number, |node| node.apply_conf_change(&everybody));
        assert_eq!(again, Err(ConfChangeError::NoVotersLeft));
        let leave = cluster.with_node(number, |node| {
            node.apply_conf_change(&ConfChange::leave_joint())
        });
        assert_eq!(leave, Err(ConfChangeError::NotJoint));
    }
    still_works(&mut cluster);
}

#[test]
fn garbage_that_was_committed_as_a_change_is_void_everywhere() {
    // An enemy who leads can have anything committed.
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    let garbage = Entry::new(
        term(2),
        last.next(),
        EntryType::ConfChangeV2,
        Bytes::from_static(&[0xff]),
    );
    assert!(garbage.conf_change().is_err());
    let append = Body::Append {
        prev: EntryId::new(term(2), last),
        entries: garbage.into(),
        commit: last.next(),
    };
    let before = cluster.node(2).membership().clone();
    cluster.deliver(message(1, 2, 2, append));
    assert_eq!(cluster.node(2).applied_index(), last.next());
    assert_eq!(*cluster.node(2).membership(), before);
}

#[test]
fn a_snapshot_with_an_impossible_configuration_is_refused() {
    let mut cluster = leader();
    let learner_votes = ConfState {
        learners: vec![id(2)],
        ..ConfState::of_voters([id(1), id(2)])
    };
    let staged_for_nothing = ConfState {
        learners_next: vec![id(1)],
        ..ConfState::of_voters([id(2)])
    };
    let twice = ConfState::of_voters([id(1), id(2), id(2)]);
    for conf_state in [learner_votes, staged_for_nothing, twice] {
        let snapshot = snapshot_at(100, 2, conf_state);
        let why = misbehaved(&mut cluster, message(1, 2, 2, snapshot));
        assert_eq!(why, Misbehaved::BadConfState);
    }
    still_works(&mut cluster);
}

fn snapshot_at(at: u64, in_term: u64, conf_state: ConfState) -> Body {
    Body::Snapshot(Box::new(Snapshot {
        metadata: SnapshotMetadata {
            index: index(at),
            term: term(in_term),
            conf_state,
        },
        data: Bytes::new(),
    }))
}

#[test]
fn an_acknowledgement_beyond_the_log_is_refused() {
    let mut cluster = leader();
    let last = cluster.node(1).last_index();
    for acked in [last.next(), index(u64::MAX)] {
        let ack = Body::AppendResponse(AppendResponse::Accepted { matched: acked });
        let why = misbehaved(&mut cluster, message(2, 1, 2, ack));
        assert_eq!(why, Misbehaved::AckBeyondLog { index: acked, last });
    }
    still_works(&mut cluster);
}

#[test]
fn a_message_without_a_term_is_not_obeyed() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    let bodies = [
        Body::Heartbeat {
            commit: last,
            context: Bytes::new(),
        },
        Body::Append {
            prev: EntryId::new(term(2), last),
            entries: Entry::normal(term(2), last.next(), command("forged")).into(),
            commit: last.next(),
        },
        snapshot_at(100, 2, ConfState::of_voters([id(1), id(2), id(3)])),
        Body::TimeoutNow,
        Body::ForgetLeader,
        Body::RequestVote {
            round: Round::Vote,
            last: EntryId::new(term(9), index(99)),
            transfer: true,
        },
    ];
    for body in bodies {
        let why = misbehaved(&mut cluster, message(3, 2, 0, body));
        assert_eq!(why, Misbehaved::TermZero);
    }
    still_works(&mut cluster);
}

#[test]
fn a_proposal_or_a_read_with_a_term_is_refused() {
    let mut cluster = leader();
    let bodies = [
        Body::Propose {
            proposals: vec![Proposal::normal(command("x"))],
        },
        Body::ReadIndex {
            context: command("r"),
        },
    ];
    for body in bodies {
        let why = misbehaved(&mut cluster, message(2, 1, 7, body));
        assert_eq!(why, Misbehaved::UnexpectedTerm { term: term(7) });
    }
    still_works(&mut cluster);
}

#[test]
fn nobody_speaks_for_a_storage_thread() {
    // etcd takes what comes from these two numbers for its own disk.
    for number in [0, u64::MAX, u64::MAX - 1] {
        assert_eq!(NodeId::new(number), None);
        assert!(NodeId::try_from(number).is_err());
    }
    assert!(NodeId::new(NodeId::MAX).is_some());
}

#[test]
fn nobody_answers_in_the_name_of_the_node_itself() {
    let mut cluster = leader();
    let last = cluster.node(1).last_index();
    let bodies = [
        Body::AppendResponse(AppendResponse::Accepted { matched: last }),
        Body::VoteResponse {
            round: Round::Vote,
            vote: VoteResponse::Granted,
        },
        Body::HeartbeatResponse {
            context: Bytes::new(),
        },
    ];
    for body in bodies {
        let why = misbehaved(&mut cluster, message(1, 1, 2, body));
        assert_eq!(why, Misbehaved::FromSelf);
    }
}

#[test]
fn a_stored_commit_index_outside_the_log_is_refused_at_the_start() {
    let mut storage = storage();
    storage.set_hard_state(HardState {
        term: term(2),
        vote: None,
        commit: index(99),
    });
    let error = RawNode::new(Config::new(id(1)), storage).expect_err("it is impossible");
    assert!(
        matches!(error, StartError::CommitOutOfRange { commit, .. } if commit == index(99)),
        "{error}"
    );
}

// ── etcd.md §1.4 ─────────────────────────────────────────────────────────────

#[test]
fn a_heartbeat_answer_with_a_short_or_unknown_round_is_refused() {
    let mut cluster = leader();
    let contexts = [
        Bytes::from_static(&[1]),
        Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7]),
        Bytes::from_static(&[0; 9]),
        Bytes::copy_from_slice(&u64::MAX.to_le_bytes()),
        Bytes::copy_from_slice(&1_u64.to_le_bytes()),
    ];
    for context in contexts {
        let why = misbehaved(
            &mut cluster,
            message(2, 1, 2, Body::HeartbeatResponse { context }),
        );
        assert_eq!(why, Misbehaved::UnknownReadRound);
    }
    still_works(&mut cluster);
}

#[test]
fn a_read_without_a_context_or_from_nowhere_is_only_a_read() {
    let mut cluster = leader();
    let read = Body::ReadIndex {
        context: Bytes::new(),
    };
    // From a stranger, and in the name of the leader itself.
    cluster.history_mut().asks_to_read(Bytes::new());
    cluster.deliver(message(9, 1, 0, read.clone()));
    cluster.deliver(message(1, 1, 0, read));
    cluster.deliver_all();
    assert_eq!(cluster.server(1).reads().len(), 1);
    still_works(&mut cluster);
}

#[test]
fn an_answer_from_a_stranger_does_not_count() {
    let mut cluster = leader();
    let vote = Body::VoteResponse {
        round: Round::Vote,
        vote: VoteResponse::Granted,
    };
    let error = refused(&mut cluster, message(9, 1, 99, vote));
    assert!(matches!(error, StepError::PeerNotFound(from) if from == id(9)));
}

#[test]
fn a_message_for_another_server_is_refused() {
    let mut cluster = leader();
    let mut misdirected = message(
        1,
        3,
        2,
        Body::Heartbeat {
            commit: index(1),
            context: Bytes::new(),
        },
    );
    let node = cluster.server_mut(2).node_mut();
    let error = node.step(misdirected.clone()).expect_err("it is for 3");
    assert!(
        matches!(error, StepError::Misbehaved { why: Misbehaved::NotForUs { to }, .. } if to == id(3))
    );
    misdirected.to = id(2);
    node.step(misdirected).expect("now it is for 2");
}

#[test]
fn a_term_at_the_end_of_all_numbers_is_refused() {
    // After it a candidate could vote twice in the last term.
    let mut cluster = leader();
    for last_term in [u64::MAX, u64::MAX - 1, Term::MAX.get() + 1] {
        let vote = Body::RequestVote {
            round: Round::Vote,
            last: EntryId::new(term(2), index(99)),
            transfer: true,
        };
        let why = misbehaved(&mut cluster, message(3, 1, last_term, vote));
        assert_eq!(why, Misbehaved::OutOfRange);
    }
    still_works(&mut cluster);
}

#[test]
fn a_snapshot_at_the_end_of_all_numbers_or_of_nothing_is_refused() {
    let mut cluster = leader();
    let conf_state = || ConfState::of_voters([id(1), id(2), id(3)]);
    let far = snapshot_at(u64::MAX, 2, conf_state());
    let why = misbehaved(&mut cluster, message(1, 2, 2, far));
    assert_eq!(why, Misbehaved::OutOfRange);
    let empty = snapshot_at(0, 0, conf_state());
    let why = misbehaved(&mut cluster, message(1, 2, 2, empty));
    assert_eq!(why, Misbehaved::EmptySnapshot);
    let later = snapshot_at(50, 3, conf_state());
    let why = misbehaved(&mut cluster, message(1, 2, 2, later));
    assert_eq!(why, Misbehaved::EntryTermOutOfOrder { index: index(50) });
    still_works(&mut cluster);
}

#[test]
fn entries_of_impossible_terms_are_refused() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    // Later than the leader's own, and earlier than the entry before.
    for entry_term in [3, 1, 0] {
        let append = Body::Append {
            prev: EntryId::new(term(2), last),
            entries: Entry::normal(term(entry_term), last.next(), Bytes::new()).into(),
            commit: last,
        };
        let why = misbehaved(&mut cluster, message(1, 2, 2, append));
        let index = last.next();
        assert_eq!(why, Misbehaved::EntryTermOutOfOrder { index });
    }
    still_works(&mut cluster);
}

#[test]
fn a_refused_forwarded_proposal_changes_nothing() {
    let mut cluster = leader();
    cluster.transfer(1, 2).expect("it is alive");
    let proposals = vec![ConfChange::single(ConfChangeType::AddNode, id(4)).to_proposal()];
    let error = refused(&mut cluster, message(3, 1, 0, Body::Propose { proposals }));
    assert!(matches!(
        error,
        StepError::Propose(ProposeError::TransferInProgress { to }) if to == id(2)
    ));
}

/// A snapshot in the leader's place makes `to` take `from` for the leader.
fn take_for_the_leader(cluster: &mut Cluster, to: u64, from: u64) {
    let conf_state = ConfState::of_voters([1, 2, 3].map(id));
    let old = snapshot_at(1, 1, conf_state);
    cluster.deliver(message(from, to, 2, old));
    assert_eq!(cluster.node(to).leader(), Some(id(from)));
}

#[test]
fn what_was_passed_on_to_a_follower_goes_no_further() {
    let mut cluster = leader();
    take_for_the_leader(&mut cluster, 3, 2);
    take_for_the_leader(&mut cluster, 2, 3);
    cluster.take(|_| true);
    let requests = |cluster: &mut Cluster| {
        cluster.propose(2, command("round and round"))?;
        cluster.read(2).expect("it knows a leader");
        cluster.transfer(2, 1).expect("it is alive");
        Ok::<_, ProposeError>(cluster.take(|message| message.to == id(3)))
    };
    let passed_on = requests(&mut cluster).expect("it knows a leader");
    assert_eq!(passed_on.len(), 3);
    for request in passed_on {
        let is_proposal = matches!(request.body, Body::Propose { .. });
        let taken = cluster.with_node(3, |node| node.step(request));
        assert_eq!(taken.is_err(), is_proposal);
    }
    assert_eq!(cluster.in_flight(), []);

    // As etcd has it, they come back.
    for number in [2, 3] {
        cluster.reconfigure(number, |config| Config {
            odd_messages: OddMessages::Take,
            ..config
        });
    }
    take_for_the_leader(&mut cluster, 3, 2);
    take_for_the_leader(&mut cluster, 2, 3);
    cluster.take(|_| true);
    let mut passed_on = requests(&mut cluster).expect("it knows a leader");
    for number in [3, 2, 3, 2] {
        for request in passed_on {
            cluster
                .with_node(number, |node| node.step(request))
                .expect("it knows a leader");
        }
        let other = id(5 - number);
        passed_on = cluster.take(|message| message.to == other);
        assert_eq!(passed_on.len(), 3);
    }
}

#[test]
fn a_candidate_asks_for_votes_once_its_log_and_its_term_are_durable() {
    use raft_core::StorageWrites;
    for storage_writes in [StorageWrites::Synchronous, StorageWrites::Asynchronous] {
        let mut cluster = Cluster::with(3, |config| Config {
            storage_writes,
            pre_vote: false,
            ..config
        });
        let asks = |body: &Body| matches!(body, Body::RequestVote { .. });
        cluster.server_mut(3).hold_disk(Disk::Held);
        cluster.campaign(3);
        // Without its write it may come back and campaign in the same term with
        // another log.
        assert!(!cluster.is_sending(asks), "{storage_writes:?}");
        cluster.complete_write(3);
        assert!(cluster.is_sending(asks), "{storage_writes:?}");
    }
}

#[test]
fn a_change_that_is_over_the_quota_is_not_waited_for() {
    let mut cluster = Cluster::with(1, |config| Config {
        uncommitted_bytes_max: 4,
        storage_writes: raft_core::StorageWrites::Asynchronous,
        ..config
    });
    cluster.elect(1);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster
        .propose(1, command("large command"))
        .expect("the first goes in");
    let change = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    let before = format!("{:?}", cluster.node(1));
    let error = cluster
        .server_mut(1)
        .node_mut()
        .propose_conf_change(&change);
    assert_eq!(error, Err(ProposeError::QuotaExceeded { bytes_max: 4 }));
    assert_eq!(format!("{:?}", cluster.node(1)), before);
    cluster.release_disk(1);
    let taken = cluster.change(1, &change).expect("the quota is free again");
    assert!(matches!(
        taken,
        raft_core::Proposed::Appended { refused: None, .. }
    ));
}

// ── disks ────────────────────────────────────────────────────────────────────

fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::with_conf_state(ConfState::of_voters([id(1), id(2), id(3)]));
    let entries = (1..=5).map(|at| Entry::normal(term(2), index(at), Bytes::new()));
    let entries = Entries::from_batch(entries.collect()).expect("they are consecutive");
    storage.append(entries).expect("the log is empty");
    storage.set_hard_state(HardState {
        term: term(2),
        vote: None,
        commit: index(4),
    });
    storage
}

#[test]
fn applying_outside_the_log_is_refused_at_the_start() {
    for applied in [5, u64::MAX] {
        let config = Config {
            applied: index(applied),
            ..Config::new(id(1))
        };
        let error = RawNode::new(config, storage()).expect_err("only 4 are committed");
        assert!(
            matches!(error, StartError::AppliedOutOfRange { .. }),
            "{error}"
        );
    }
    let mut compacted = storage();
    compacted.compact(index(3)).expect("it is in the log");
    let config = Config {
        applied: index(2),
        ..Config::new(id(1))
    };
    let error = RawNode::new(config, compacted).expect_err("entry 3 is gone");
    assert!(
        matches!(error, StartError::AppliedOutOfRange { .. }),
        "{error}"
    );
}

#[test]
fn a_commit_index_before_the_log_is_refused_at_the_start() {
    let mut storage = storage();
    storage.compact(index(3)).expect("it is in the log");
    storage.set_hard_state(HardState {
        term: term(2),
        vote: None,
        commit: index(1),
    });
    let error = RawNode::new(Config::new(id(1)), storage).expect_err("2 and 3 are gone");
    assert!(
        matches!(error, StartError::CommitOutOfRange { .. }),
        "{error}"
    );
}

#[test]
fn an_impossible_stored_configuration_is_refused_at_the_start() {
    let conf_state = ConfState {
        learners: vec![id(1)],
        ..ConfState::of_voters([id(1)])
    };
    let error = RawNode::new(
        Config::new(id(1)),
        MemoryStorage::with_conf_state(conf_state),
    )
    .expect_err("a learner does not vote");
    assert!(
        matches!(error, StartError::ConfState(ConfChangeError::LearnerVotes(who)) if who == id(1)),
        "{error}"
    );
}

#[test]
fn a_lost_hard_state_is_noticed_at_the_start() {
    for lost in [0, 1] {
        let mut storage = storage();
        storage.set_hard_state(HardState {
            term: term(lost),
            vote: None,
            commit: index(0),
        });
        let error = RawNode::new(Config::new(id(1)), storage).expect_err("the log is of term 2");
        assert!(
            matches!(error, StartError::TermBehindLog { last, .. } if last == term(2)),
            "{error}"
        );
    }
}

#[test]
fn a_disk_at_the_end_of_all_numbers_is_refused_at_the_start() {
    let mut far = storage();
    far.set_hard_state(HardState {
        term: term(u64::MAX),
        vote: Some(id(2)),
        commit: index(4),
    });
    let error = RawNode::new(Config::new(id(1)), far).expect_err("no term is so late");
    assert!(matches!(error, StartError::OutOfRange { .. }), "{error}");
    let mut long = MemoryStorage::new();
    long.apply_snapshot(Snapshot {
        metadata: SnapshotMetadata {
            index: index(u64::MAX),
            term: term(1),
            conf_state: ConfState::of_voters([id(1)]),
        },
        data: Bytes::new(),
    })
    .expect("the storage is empty");
    let error = RawNode::new(Config::new(id(1)), long).expect_err("no log is so long");
    assert!(matches!(error, StartError::OutOfRange { .. }), "{error}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_at_the_start() {
    let config = Config {
        heartbeat_ticks: 10,
        ..Config::new(id(1))
    };
    let error = RawNode::new(config, storage()).expect_err("followers would campaign");
    assert!(matches!(
        error,
        StartError::Config(ConfigError::ElectionNotLongerThanHeartbeat)
    ));
}

#[test]
fn a_quarantined_node_neither_votes_nor_campaigns() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    cluster.with_node(2, |node| {
        node.quarantine(LostEntries {
            acknowledged: last.next(),
            last,
        });
    });
    cluster.campaign(2);
    assert_eq!(cluster.node(2).role(), RoleKind::Follower);
    cluster.tick(2, 100);
    assert_eq!(cluster.node(2).role(), RoleKind::Follower);
    let vote = Body::RequestVote {
        round: Round::Vote,
        last: EntryId::new(term(2), LogIndex::new(99)),
        transfer: true,
    };
    cluster.take(|_| true);
    cluster.deliver(message(3, 2, 3, vote));
    let answers = cluster.take(|message| message.from == id(2));
    assert!(matches!(
        answers.as_slice(),
        [Message {
            body: Body::VoteResponse {
                vote: VoteResponse::Rejected,
                ..
            },
            ..
        }]
    ));
    assert!(cluster.node(2).status().lost_entries.is_some());
}
