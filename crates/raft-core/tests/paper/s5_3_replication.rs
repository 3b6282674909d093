//! Raft §5.3: log replication.

use bytes::Bytes;
use raft_core::{AppendResponse, Body, Config, Entry, EntryId, Flow};

use super::{message, plain};
use crate::support::{Cluster, Disk, Memory, command, id, index, term};

/// An entry is committed once a majority has it, and then applied.
#[test]
fn an_entry_on_a_majority_is_committed_and_applied() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1, 2], &[3]);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    for number in [1, 2] {
        assert_eq!(cluster.server(number).commands(), [command("a")]);
    }
    assert!(cluster.server(3).commands().is_empty());
}

/// An entry on a minority is not.
#[test]
fn an_entry_on_a_minority_is_not_committed() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    let before = cluster.node(1).commit_index();
    cluster.partition(&[1, 2], &[3, 4, 5]);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.node(1).commit_index(), before);
}

/// Followers learn of the commit index from the leader's next message.
#[test]
fn followers_apply_what_the_leader_says_is_committed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    for number in 1..=3 {
        assert_eq!(cluster.server(number).commands(), [command("a")]);
    }
}

/// Lets the leader write and apply, and delivers what comes of it.
fn complete_everything_but_reads(cluster: &mut Cluster) {
    cluster.deliver_all();
    while cluster.server(1).has_write() || cluster.server(1).has_apply() {
        cluster.complete_write(1);
        if cluster.server(1).has_apply() {
            cluster.complete_apply(1);
        }
        cluster.deliver_all();
    }
}

/// A leader that has to read what a follower lacks goes on with everybody else,
/// sends no snapshot, and asks for the entries once.
#[test]
fn a_follower_whose_entries_are_being_read_holds_nobody_up() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.server_mut(1).hold_in_memory(Memory::Unapplied);
    cluster.crash(3);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
        cluster.deliver_all();
    }
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.restart(3);
    for _ in 0..5 {
        cluster.run(1);
        assert!(!cluster.is_sending(|body| matches!(body, Body::Snapshot(_))));
    }
    assert!(cluster.server(3).commands().is_empty());

    cluster.propose(1, command("d")).expect("it leads");
    complete_everything_but_reads(&mut cluster);
    assert_eq!(cluster.server(2).commands().last(), Some(&command("d")));
    assert!(cluster.server(3).commands().is_empty());

    let mut reads = 0;
    while cluster.complete_read(1, 2) {
        reads += 1;
        complete_everything_but_reads(&mut cluster);
    }
    assert!(reads <= 4, "{reads} reads of two entries each");
    cluster.run(2);
    assert_eq!(cluster.server(3).state(), cluster.server(2).state());
}

/// A leader sends again and again until everybody has everything, also after
/// it has answered its client.
#[test]
fn a_follower_that_was_away_catches_up() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.crash(3);
    for text in ["a", "b", "c"] {
        cluster.propose(1, command(text)).expect("it leads");
        cluster.deliver_all();
    }
    cluster.restart(3);
    cluster.run(5);
    assert_eq!(cluster.server(3).state(), cluster.server(1).state());
}

/// A leader counts itself only when its own disk has the entry.
#[test]
fn a_leader_counts_itself_only_when_durable() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let before = cluster.node(1).commit_index();
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.partition(&[1, 2], &[3]);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    // Server 2 has it; the leader's own disk is the second of three.
    assert_eq!(cluster.node(1).commit_index(), before);
    cluster.release_disk(1);
    assert!(cluster.node(1).commit_index() > before);
}

/// A follower acknowledges only what its disk has.
#[test]
fn a_follower_acknowledges_only_what_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.crash(3);
    cluster.server_mut(2).hold_disk(Disk::Held);
    let before = cluster.node(1).commit_index();
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.node(1).commit_index(), before);
    cluster.release_disk(2);
    cluster.deliver_all();
    assert!(cluster.node(1).commit_index() > before);
}

/// Figure 7: followers with missing, extra and contradicting entries all end
/// with the leader's log.
#[test]
fn the_logs_of_figure_7_become_the_leaders() {
    let figures: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let mut cluster = Cluster::of_logs(7, |number| match number {
        1 => leader,
        other => figures[usize::try_from(other).expect("small") - 2],
    });
    cluster.campaign(1);
    cluster.deliver_all();
    // Server 5 is in a later term and has more; its vote is not needed.
    if cluster.leader() != Some(id(1)) {
        cluster.elect(1);
    }
    cluster.run(3);
    let expected = cluster.server(1).terms();
    assert!(expected.starts_with(leader));
    for number in 2..=7 {
        assert_eq!(cluster.server(number).terms(), expected, "server {number}");
    }
}

/// A follower refuses entries behind one that it does not have.
#[test]
fn an_append_behind_a_gap_is_rejected_with_a_hint() {
    let mut cluster = Cluster::with(3, plain);
    let append = Body::Append {
        prev: EntryId::new(term(2), index(9)),
        entries: Entry::normal(term(2), index(10), Bytes::new()).into(),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, append));
    let answer = cluster.take(|_| true).pop().expect("it answers");
    assert_eq!(
        answer.body,
        Body::AppendResponse(AppendResponse::Rejected {
            at: index(9),
            hint: EntryId::new(term(1), index(1)),
        })
    );
}

/// Entries that are there already stay: an old or repeated message removes
/// nothing behind them.
#[test]
fn an_old_append_removes_nothing() {
    let mut cluster = Cluster::with(3, plain);
    let entries: Vec<Entry> = (2..=4)
        .map(|at| Entry::normal(term(2), index(at), Bytes::new()))
        .collect();
    let append = |count: usize| Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: raft_core::Entries::from_batch(entries[..count].to_vec()).expect("in order"),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, append(3)));
    // The shorter one was sent first and arrives last.
    cluster.deliver(message(1, 2, 2, append(1)));
    cluster.deliver(message(1, 2, 2, append(0)));
    assert_eq!(cluster.node(2).last_index(), index(4));
    assert_eq!(cluster.server(2).terms(), [2, 2, 2]);
}

/// Only a contradiction removes entries: the contradicting one and those
/// behind it.
#[test]
fn a_contradiction_removes_the_rest_of_the_log() {
    let mut cluster = Cluster::with(3, plain);
    let old = (2..=4).map(|at| Entry::normal(term(2), index(at), Bytes::new()));
    let append = Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: raft_core::Entries::from_batch(old.collect()).expect("in order"),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, append));
    let new = Body::Append {
        prev: EntryId::new(term(2), index(2)),
        entries: Entry::normal(term(3), index(3), Bytes::new()).into(),
        commit: index(1),
    };
    cluster.deliver(message(3, 2, 3, new));
    assert_eq!(cluster.server(2).terms(), [2, 3]);
}

/// A follower commits no more than the message proves to match.
#[test]
fn a_follower_commits_only_what_the_message_covers() {
    let mut cluster = Cluster::with(3, plain);
    let stale = (2..=4).map(|at| Entry::normal(term(2), index(at), Bytes::new()));
    let append = Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: raft_core::Entries::from_batch(stale.collect()).expect("in order"),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, append));
    let later = Body::Append {
        prev: EntryId::new(term(1), index(1)),
        entries: Entry::normal(term(2), index(2), Bytes::new()).into(),
        commit: index(4),
    };
    cluster.deliver(message(3, 2, 3, later));
    assert_eq!(cluster.node(2).commit_index(), index(2));
}

/// Messages may be lost, repeated and reordered; the logs still become equal.
#[test]
fn reordered_and_repeated_messages_do_no_harm() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for number in 0..5 {
        cluster
            .propose(1, command(&number.to_string()))
            .expect("it leads");
    }
    let mut messages = cluster.take(|_| true);
    messages.reverse();
    for message in messages {
        cluster.send(message.clone());
        cluster.send(message);
    }
    cluster.deliver_all();
    cluster.run(2);
    for number in 1..=3 {
        assert_eq!(cluster.server(number).commands().len(), 5);
    }
}

/// Thesis §10.2.1: the leader pipelines, within the window; a full window waits
/// for an answer.
#[test]
fn a_full_window_waits_and_an_answer_opens_it() {
    let mut cluster = Cluster::with(3, |config| Config {
        inflight_messages_max: 2,
        ..config
    });
    cluster.elect(1);
    for number in 0..6 {
        cluster
            .propose(1, command(&number.to_string()))
            .expect("it leads");
    }
    let sent = cluster.take(|m| m.to == id(2) && matches!(m.body, Body::Append { .. }));
    assert_eq!(sent.len(), 2);
    for message in sent {
        cluster.deliver(message);
    }
    cluster.deliver_all();
    assert_eq!(cluster.server(2).state(), cluster.server(1).state());
}

/// An answer to a heartbeat is no acknowledgement, but shows that a follower
/// whose messages were lost is there.
#[test]
fn a_heartbeat_answer_resumes_a_full_window() {
    let mut cluster = Cluster::with(3, |config| Config {
        inflight_messages_max: 1,
        ..config
    });
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.propose(1, command("b")).expect("it leads");
    cluster.take(|m| m.to == id(2));
    let matched = cluster.node(1).status().progress[1].1.matched;
    cluster.tick(1, 1);
    cluster.deliver_all();
    cluster.run(2);
    assert!(cluster.node(1).status().progress[1].1.matched > matched);
    assert_eq!(cluster.server(2).state(), cluster.server(1).state());
}

/// An old acknowledgement moves nothing back.
#[test]
fn the_match_never_goes_back() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    let before = cluster.node(1).status().progress[1].1;
    let in_term = cluster.node(1).term().get();
    for body in [
        Body::AppendResponse(AppendResponse::Accepted { matched: index(1) }),
        Body::AppendResponse(AppendResponse::Rejected {
            at: index(1),
            hint: EntryId::default(),
        }),
    ] {
        cluster.deliver(message(2, 1, in_term, body));
        let after = cluster.node(1).status().progress[1].1;
        assert_eq!((after.matched, after.next), (before.matched, before.next));
        assert_eq!(after.flow, Flow::Replicate);
    }
}

/// What is not applied yet is limited in bytes; the limit frees itself.
#[test]
fn the_quota_refuses_and_recovers() {
    let mut cluster = Cluster::with(3, |config| Config {
        uncommitted_bytes_max: 8,
        ..config
    });
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    cluster
        .propose(1, command("12345678"))
        .expect("the first goes in");
    assert!(cluster.propose(1, command("9")).is_err());
    cluster.heal();
    cluster.run(2);
    cluster.propose(1, command("9")).expect("it is free again");
}

/// Committed entries are handed out in order, each once, however small the
/// portions are.
#[test]
fn small_portions_leave_no_gap() {
    // What comes in one message is applied in several portions, and the other
    // way round.
    for (committed_bytes_max, append_bytes_max) in [(0, 1 << 20), (30, 1 << 20), (1, 0), (30, 0)] {
        let mut cluster = Cluster::with(3, |config| Config {
            committed_bytes_max: Some(committed_bytes_max),
            append_bytes_max,
            ..config
        });
        cluster.elect(1);
        for number in 0..10 {
            cluster
                .propose(1, command(&number.to_string()))
                .expect("it leads");
        }
        // All are lost, so that they come together the next time.
        cluster.take(|_| true);
        cluster.run(30);
        // The machine itself refuses a gap or a repetition.
        assert_eq!(cluster.server(2).commands().len(), 10);
    }
}
