//! Disks that others start from.

use bytes::Bytes;
use raft_core::{
    Body, ConfChangeError, ConfState, Config, ConfigError, Entries, Entry, EntryId, HardState,
    LogIndex, LostEntries, MemoryStorage, Message, RawNode, RoleKind, Round, Snapshot,
    SnapshotMetadata, StartError, VoteResponse,
};

use super::leader;
use crate::support::{id, index, message, term};

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
fn a_stored_commit_index_outside_the_log_is_refused_at_the_start() {
    let mut storage = storage();
    storage.set_hard_state(HardState {
        term: term(2),
        vote: None,
        commit: index(99),
    });
    let error = RawNode::new(Config::protected(id(1)), storage).expect_err("it is impossible");
    assert!(
        matches!(error, StartError::CommitOutOfRange { commit, .. } if commit == index(99)),
        "{error}"
    );
}

#[test]
fn applying_outside_the_log_is_refused_at_the_start() {
    for applied in [5, u64::MAX] {
        let config = Config {
            applied: index(applied),
            ..Config::protected(id(1))
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
        ..Config::protected(id(1))
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
    let error = RawNode::new(Config::protected(id(1)), storage).expect_err("2 and 3 are gone");
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
        Config::protected(id(1)),
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
        let error =
            RawNode::new(Config::protected(id(1)), storage).expect_err("the log is of term 2");
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
    let error = RawNode::new(Config::protected(id(1)), far).expect_err("no term is so late");
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
    let error = RawNode::new(Config::protected(id(1)), long).expect_err("no log is so long");
    assert!(matches!(error, StartError::OutOfRange { .. }), "{error}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_at_the_start() {
    let config = Config {
        heartbeat_ticks: 10,
        ..Config::protected(id(1))
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
