//! The invariants must be able to fail: each test shows a history that must
//! not happen.

use bytes::Bytes;
use raft_core::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryId, Flow, HardState, LogIndex, NodeId,
    ProgressState, ReadOnly, ReadState, RoleKind, Snapshot, SnapshotMetadata, Term,
};

use super::*;
use crate::script::Command;

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

fn entry(term: u64, index: u64, data: &'static str) -> Entry {
    let data = Bytes::from_static(data.as_bytes());
    Entry::normal(Term::new(term), LogIndex::new(index), data)
}

fn conf_state() -> ConfState {
    ConfState::of_voters([1, 2, 3].map(id))
}

/// A voter of three that follows, with these entries on its disk.
fn follower(number: u64, term: u64, entries: &[Entry], commit: u64) -> Sighting {
    let hard_state = HardState {
        term: Term::new(term),
        vote: None,
        commit: LogIndex::new(commit),
    };
    let log = Log {
        before: EntryId::default(),
        entries: entries.to_vec(),
    };
    Sighting {
        node: id(number),
        role: RoleKind::Follower,
        hard_state,
        stored: hard_state,
        conf_state: conf_state(),
        durable: log.clone(),
        log,
        handed_out: HandedOut::All,
        state: Snapshot::default(),
        progress: Vec::new(),
        read_only: ReadOnly::Safe,
        reads: Vec::new(),
    }
}

fn leader(number: u64, term: u64, entries: &[Entry], commit: u64) -> Sighting {
    Sighting {
        role: RoleKind::Leader,
        ..follower(number, term, entries, commit)
    }
}

fn applied(sighting: Sighting, index: u64, data: &'static str) -> Sighting {
    let metadata = SnapshotMetadata {
        index: LogIndex::new(index),
        term: Term::new(1),
        conf_state: conf_state(),
    };
    let data = Bytes::from_static(data.as_bytes());
    Sighting {
        state: Snapshot { metadata, data },
        ..sighting
    }
}

/// Sees a cluster at rest, then `next`.
fn seen_after(first: &[Sighting], next: &[Sighting]) -> Violation {
    let mut history = History::new();
    history.see(first).expect("so far all is well");
    history.see(next).expect_err("this must be noticed")
}

fn quiet() -> Vec<Sighting> {
    (1..=3).map(|n| follower(n, 0, &[], 0)).collect()
}

fn command(line: &str) -> Command {
    Command::parse(line, "").expect("it is a command")
}

#[test]
fn a_sound_history_passes() {
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    let mut history = History::new();
    history.see(&quiet()).expect("nothing has happened");
    let all = [
        applied(leader(1, 1, &log, 2), 2, "ab"),
        applied(follower(2, 1, &log, 1), 1, "a"),
        follower(3, 1, &log[..1], 0),
    ];
    history.see(&all).expect("two of three have everything");
    history.see(&all).expect("nothing has changed");
}

#[test]
fn two_leaders_of_a_term_are_noticed() {
    let seen = seen_after(&[leader(1, 2, &[], 0)], &[leader(2, 2, &[], 0)]);
    assert!(matches!(seen, Violation::TwoLeaders { .. }), "{seen}");
}

#[test]
fn a_second_vote_is_noticed_on_disk_and_in_memory() {
    let voting = |candidate| {
        let mut voter = follower(1, 2, &[], 0);
        voter.hard_state.vote = Some(id(candidate));
        voter
    };
    let stored = |candidate| Sighting {
        stored: voting(candidate).hard_state,
        ..follower(1, 2, &[], 0)
    };
    let seen = seen_after(&[voting(2)], &[voting(3)]);
    assert!(matches!(seen, Violation::TwoVotes { .. }), "{seen}");
    let seen = seen_after(&[stored(2)], &[stored(3)]);
    assert!(matches!(seen, Violation::TwoVotes { .. }), "{seen}");
}

#[test]
fn two_contents_of_one_entry_are_noticed() {
    let seen = seen_after(
        &[follower(1, 1, &[entry(1, 1, "a")], 0)],
        &[follower(2, 1, &[entry(1, 1, "b")], 0)],
    );
    assert!(matches!(seen, Violation::LogMatching { .. }), "{seen}");
}

#[test]
fn two_pasts_of_one_entry_are_noticed() {
    let last = entry(3, 2, "b");
    let seen = seen_after(
        &[follower(1, 3, &[entry(1, 1, "a"), last.clone()], 0)],
        &[follower(2, 3, &[entry(2, 1, "a"), last], 0)],
    );
    assert!(matches!(seen, Violation::LogMatching { .. }), "{seen}");
}

#[test]
fn two_committed_entries_at_one_index_are_noticed() {
    let seen = seen_after(
        &[follower(1, 2, &[entry(1, 1, "a")], 1)],
        &[follower(2, 2, &[entry(2, 1, "b")], 1)],
    );
    assert!(matches!(seen, Violation::TwoCommitted { .. }), "{seen}");
}

#[test]
fn a_commit_behind_the_log_is_noticed() {
    let seen = seen_after(&quiet(), &[follower(1, 1, &[], 1)]);
    assert!(
        matches!(seen, Violation::CommitWithoutEntry { .. }),
        "{seen}"
    );
}

#[test]
fn a_leader_without_what_was_committed_is_noticed() {
    let log = [entry(1, 1, "a")];
    let first = [
        leader(1, 1, &log, 1),
        follower(2, 1, &log, 0),
        follower(3, 1, &[], 0),
    ];
    let seen = seen_after(&first, &[leader(3, 2, &[entry(2, 1, "")], 0)]);
    assert!(matches!(seen, Violation::LeaderIncomplete { .. }), "{seen}");
}

#[test]
fn a_late_commit_that_a_newer_leader_lacks_is_noticed() {
    let log = [entry(1, 1, "a")];
    let all = |commit| {
        [
            leader(1, 1, &log, commit),
            follower(2, 1, &log, 0),
            leader(3, 2, &[entry(2, 1, "")], 0),
        ]
    };
    let seen = seen_after(&all(0), &all(1));
    assert!(matches!(seen, Violation::LeaderIncomplete { .. }), "{seen}");
}

#[test]
fn a_commit_without_a_quorum_of_disks_is_noticed() {
    let log = [entry(1, 1, "a")];
    let mut unwritten = follower(2, 1, &log, 0);
    unwritten.durable = Log::default();
    let all = [leader(1, 1, &log, 1), unwritten, follower(3, 1, &[], 0)];
    let seen = seen_after(&quiet(), &all);
    assert!(matches!(seen, Violation::NotDurable { .. }), "{seen}");
}

#[test]
fn a_commit_is_judged_as_the_leader_of_its_term_counted() {
    // Committed by 1 and 3 in term 1. Nobody saw it before node 1 led again,
    // with a configuration in which 2 counts and 3 does not.
    let old = [entry(1, 1, "a")];
    let new = [entry(1, 1, "a"), entry(2, 2, "")];
    let mut before = follower(1, 1, &old, 1);
    before.conf_state.voters = [1, 2].map(id).to_vec();
    before.handed_out = HandedOut::NotAll;
    let mut again = leader(1, 2, &new, 1);
    again.conf_state = before.conf_state.clone();
    let mut history = History::new();
    history.see(&quiet()).expect("nothing has happened");
    history
        .see(&[before, follower(2, 1, &[], 0), follower(3, 1, &old, 0)])
        .expect("two of three have it");
    history
        .see(&[again, follower(2, 1, &[], 0), follower(3, 1, &old, 0)])
        .expect("it was committed before");
}

#[test]
fn a_commit_needs_both_majorities_of_a_joint_configuration() {
    let log = [entry(1, 1, "a")];
    let joint = |mut sighting: Sighting| {
        sighting.conf_state = ConfState {
            voters: [1, 2].map(id).to_vec(),
            voters_outgoing: [1, 3].map(id).to_vec(),
            ..ConfState::default()
        };
        sighting
    };
    let first = [1, 2, 3].map(|n| joint(follower(n, 0, &[], 0)));
    let all = [
        leader(1, 1, &log, 1),
        follower(2, 1, &log, 0),
        follower(3, 1, &[], 0),
    ]
    .map(joint);
    let seen = seen_after(&first, &all);
    assert!(matches!(seen, Violation::NotDurable { .. }), "{seen}");
}

#[test]
fn a_commit_counts_in_a_configuration_that_a_command_only_came_through() {
    let change = |index, change_type, node| {
        let proposal = ConfChange::single(change_type, id(node)).to_proposal();
        Entry::new(
            Term::new(1),
            LogIndex::new(index),
            proposal.entry_type,
            proposal.data,
        )
    };
    let log = [
        change(1, ConfChangeType::RemoveNode, 3),
        entry(1, 2, "a"),
        change(3, ConfChangeType::AddNode, 5),
    ];
    let of = |voters: &[u64], mut sighting: Sighting| {
        sighting.conf_state = ConfState::of_voters(voters.iter().copied().map(id));
        sighting
    };
    let first = [1, 2, 3, 4].map(|n| of(&[1, 2, 3, 4], follower(n, 0, &[], 0)));
    // Two of four have it, before as well as now, and two of three between.
    let come = |index: u64| {
        let mut last = of(&[1, 2, 4, 5], leader(1, 1, &log, 3));
        last.state.metadata.index = LogIndex::new(index);
        [
            last,
            of(&[1, 2, 3, 4], follower(2, 1, &log, 0)),
            of(&[1, 2, 3, 4], follower(3, 1, &[], 0)),
            of(&[1, 2, 3, 4], follower(4, 1, &[], 0)),
        ]
    };
    let seen = seen_after(&first, &come(0));
    assert!(matches!(seen, Violation::NotDurable { .. }), "{seen}");
    let mut history = History::new();
    history.see(&first).expect("nothing has happened");
    history.see(&come(3)).expect("two of three had it");
}

#[test]
fn a_state_machine_that_computes_otherwise_is_noticed() {
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    let first = [
        applied(leader(1, 1, &log, 2), 2, "ab"),
        follower(2, 1, &log, 0),
    ];
    for (index, data) in [(2, "ba"), (1, "b")] {
        let next = [applied(follower(2, 1, &log, 2), index, data)];
        let seen = seen_after(&first, &next);
        assert!(matches!(seen, Violation::OtherState { .. }), "{seen}");
    }
    let mut other = applied(follower(2, 1, &log, 2), 2, "ab");
    other.state.metadata.conf_state.voters.pop();
    let seen = seen_after(&first, &[other]);
    assert!(matches!(seen, Violation::OtherState { .. }), "{seen}");
}

#[test]
fn applying_what_is_not_committed_is_noticed() {
    let log = [entry(1, 1, "a")];
    let seen = seen_after(&quiet(), &[applied(follower(1, 1, &log, 0), 1, "a")]);
    assert!(
        matches!(seen, Violation::AppliedUncommitted { .. }),
        "{seen}"
    );
}

#[test]
fn terms_and_commits_that_go_back_are_noticed() {
    let log = [entry(1, 1, "a")];
    for (next, number) in [
        (follower(1, 1, &log, 1), "stored term"),
        (follower(1, 2, &log, 0), "stored commit index"),
    ] {
        match seen_after(&[follower(1, 2, &log, 1)], &[next]) {
            Violation::WentBack { what, .. } => assert_eq!(what, number),
            other => panic!("{other}"),
        }
    }
    let in_memory = |term, commit| {
        let mut sighting = follower(1, term, &log, commit);
        sighting.stored = HardState::EMPTY;
        sighting
    };
    for (next, number) in [(in_memory(1, 1), "term"), (in_memory(2, 0), "commit index")] {
        match seen_after(&[in_memory(2, 1)], &[next]) {
            Violation::WentBack { what, .. } => assert_eq!(what, number),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_restart_must_begin_with_what_is_on_disk() {
    let mut ahead = follower(1, 2, &[], 0);
    ahead.stored.term = Term::new(1);
    let mut history = History::new();
    history.see(&[ahead.clone()]).expect("a write is under way");
    history.before(&command("restart 1"));
    let seen = history
        .see(&[ahead.clone()])
        .expect_err("it was not written");
    assert!(
        matches!(seen, Violation::RestartedOtherwise { .. }),
        "{seen}"
    );
    ahead.hard_state = ahead.stored;
    history.see(&[ahead]).expect("the disk has this");
}

#[test]
fn stale_and_invented_reads_are_noticed() {
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    let reader = |index| Sighting {
        reads: vec![ReadState {
            index: LogIndex::new(index),
            context: Bytes::from_static(b"r1"),
        }],
        ..follower(2, 1, &log, 2)
    };
    let mut history = History::new();
    history
        .see(&[leader(1, 1, &log, 2), follower(2, 1, &log, 0)])
        .expect("so far all is well");
    let seen = history.see(&[reader(2)]).expect_err("nobody asked");
    assert!(matches!(seen, Violation::UnknownRead { .. }), "{seen}");
    history.before(&command("read-index 2 r1"));
    let seen = history.see(&[reader(1)]).expect_err("2 was committed");
    assert!(matches!(seen, Violation::StaleRead { .. }), "{seen}");
    history.see(&[reader(2)]).expect("this sees everything");
}

#[test]
fn a_leader_that_counts_on_too_much_is_noticed() {
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    let counting = |matched: u64| Sighting {
        progress: vec![(
            id(2),
            ProgressState {
                matched: LogIndex::new(matched),
                next: LogIndex::new(matched + 1),
                flow: Flow::Replicate,
                paused: false,
                recent_active: true,
                is_silent: false,
                is_learner: false,
                inflight_messages: 0,
                inflight_bytes: 0,
                inflight_full: false,
            },
        )],
        ..leader(1, 1, &log, 0)
    };
    let mut history = History::new();
    let short = follower(2, 1, &log[..1], 0);
    history
        .see(&[counting(1), short.clone()])
        .expect("it has the first");
    let seen = history
        .see(&[counting(2), short])
        .expect_err("it has not the second");
    assert!(matches!(seen, Violation::MatchedTooMuch { .. }), "{seen}");
}
