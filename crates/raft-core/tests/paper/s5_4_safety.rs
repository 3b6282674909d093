//! Raft §5.4: safety.

use raft_core::{Body, EntryId, Round, VoteResponse};

use super::{message, plain};
use crate::support::{Cluster, command, index, term};

fn asked_by(last: EntryId) -> Body {
    Body::RequestVote {
        round: Round::Vote,
        last,
        transfer: false,
    }
}

/// §5.4.1: a server votes only for a log at least as up to date as its own:
/// the later last term first, then the longer log.
#[test]
fn a_vote_goes_to_logs_that_are_at_least_as_up_to_date() {
    let cases = [
        (EntryId::new(term(3), index(1)), true),
        (EntryId::new(term(2), index(3)), true),
        (EntryId::new(term(2), index(9)), true),
        (EntryId::new(term(2), index(2)), false),
        (EntryId::new(term(1), index(99)), false),
    ];
    for (last, expected) in cases {
        let mut cluster = Cluster::of_logs(3, |_| &[1, 2, 2]);
        cluster.deliver(message(2, 1, 9, asked_by(last)));
        let answer = cluster.take(|_| true).pop().expect("it answers");
        let granted = matches!(
            answer.body,
            Body::VoteResponse {
                vote: VoteResponse::Granted,
                ..
            }
        );
        assert_eq!(granted, expected, "{last:?}");
    }
}

/// So whoever is elected has everything that is committed (Leader
/// Completeness).
#[test]
fn whoever_lacks_a_committed_entry_is_not_elected() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.partition(&[1, 2], &[3]);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.crash(1);
    cluster.heal();
    cluster.campaign(3);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), None);
    cluster.elect(2);
    cluster.run(2);
    assert_eq!(cluster.server(3).commands(), [command("a")]);
}

/// §5.4.2, Figure 8: an entry of an earlier term is not committed by counting,
/// even if a majority has it.
#[test]
fn figure_8_counts_only_entries_of_the_leaders_term() {
    // (c): S1 leads term 4; its entry of term 2 is on a majority.
    let logs: [&[u64]; 5] = [&[1, 2], &[1, 2], &[1], &[1], &[1, 3]];
    let mut cluster = Cluster::of_logs(5, |n| logs[usize::try_from(n - 1).expect("small")]);
    cluster.partition(&[1, 2, 3], &[4, 5]);
    cluster.elect_unheard(1);
    // Acknowledge, in the name of 2 and 3, the entry of term 2 at index 2 only.
    cluster.take(|_| true);
    for follower in [2, 3] {
        let matched = index(2);
        let body = Body::AppendResponse(raft_core::AppendResponse::Accepted { matched });
        let in_term = cluster.node(1).term().get();
        cluster.deliver(message(follower, 1, in_term, body));
    }
    assert_eq!(cluster.node(1).commit_index(), index(0));
    // Its own no-op at index 3 commits everything before it.
    for follower in [2, 3] {
        let matched = index(3);
        let body = Body::AppendResponse(raft_core::AppendResponse::Accepted { matched });
        let in_term = cluster.node(1).term().get();
        cluster.deliver(message(follower, 1, in_term, body));
    }
    assert_eq!(cluster.node(1).commit_index(), index(3));
}

/// §5.3, §5.4: a leader never overwrites or removes its own entries.
#[test]
fn a_leader_only_appends() {
    let mut cluster = Cluster::of_logs(3, |n| if n == 1 { &[1, 1, 3] } else { &[1, 1, 2, 2] });
    cluster.elect(1);
    cluster.run(2);
    let terms = cluster.server(1).terms();
    assert!(terms.starts_with(&[1, 1, 3]), "{terms:?}");
    assert_eq!(cluster.server(2).terms(), terms);
}

/// §5.4.3, State Machine Safety: everybody applies the same, whatever leaders
/// come and go. The history compares after each entry.
#[test]
fn state_machines_agree_over_many_leaders() {
    let mut cluster = Cluster::with(5, plain);
    for round in 0..20 {
        let leader = round % 5 + 1;
        cluster.campaign(leader);
        cluster.deliver_all();
        let _ = cluster.propose(leader, command(&round.to_string()));
        // Half of what is sent gets lost with the leader.
        let lost = cluster.take(|m| m.to.get() % 2 == round % 2);
        assert!(lost.len() <= 4);
        cluster.deliver_all();
    }
    cluster.elect_somebody();
    cluster.run(3);
    let state = cluster.server(1).state();
    for number in 2..=5 {
        assert_eq!(cluster.server(number).state(), state);
    }
}
