//! Messages that make others panic or obey an enemy.

use bytes::Bytes;
use raft_core::{
    AppendResponse, Body, ConfState, Config, Entries, Entry, EntryId, Misbehaved, NodeId, Round,
    StepError, Term, VoteResponse,
};

use super::{leader, misbehaved, refused, refused_by, snapshot_at, still_works};
use crate::support::{Cluster, Disk, command, heartbeat, id, index, message, term};

#[test]
fn a_heartbeat_that_commits_beyond_the_log_is_refused() {
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    let why = misbehaved(&mut cluster, message(1, 2, 2, heartbeat(last.next())));
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
fn an_entry_with_the_last_of_all_numbers_counts() {
    let last = Entry::normal(term(2), index(u64::MAX), Bytes::new());
    let before = Entry::normal(term(2), index(u64::MAX - 1), Bytes::new());
    let one = Entries::from(last.clone());
    assert_eq!((one.len(), one.count()), (1, 1));
    let two = Entries::from_batch(vec![before, last]).unwrap();
    assert_eq!((two.len(), two.count()), (2, 2));
    assert_eq!(two.iter().count(), 2);
    assert_eq!(two.last_id(), Some(EntryId::new(term(2), index(u64::MAX))));
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
        heartbeat(last),
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
    let mut misdirected = message(1, 3, 2, heartbeat(index(1)));
    let error = refused_by(&mut cluster, 2, misdirected.clone());
    assert!(
        matches!(error, StepError::Misbehaved { why: Misbehaved::NotForUs { to }, .. } if to == id(3))
    );
    misdirected.to = id(2);
    let node = cluster.server_mut(2).node_mut();
    node.step(misdirected).expect("now it is for 2");
    still_works(&mut cluster);
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
    // Of different terms in one batch, and in batches of one term each.
    for (entry_terms, refused) in [([2, 1], 2), ([1, 2], 1), ([2, 3], 2)] {
        let entry = |(at, entry_term)| Entry::normal(term(entry_term), at, Bytes::new());
        let places = [last.next(), last.next().next()];
        let batch: Vec<Entry> = places.into_iter().zip(entry_terms).map(entry).collect();
        let mut batches = Entries::from(batch[0].clone());
        batches.extend(Entries::from(batch[1].clone()));
        for entries in [Entries::from_batch(batch).unwrap(), batches] {
            let append = Body::Append {
                prev: EntryId::new(term(2), last),
                entries,
                commit: last,
            };
            let why = misbehaved(&mut cluster, message(1, 2, 2, append));
            let index = last.plus(refused);
            assert_eq!(why, Misbehaved::EntryTermOutOfOrder { index });
        }
    }
    still_works(&mut cluster);
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
