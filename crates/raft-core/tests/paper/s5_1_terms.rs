//! Raft §5.1: terms are a logical clock.

use bytes::Bytes;
use raft_core::{AppendResponse, Body, RoleKind, Round};

use super::{message, plain};
use crate::support::{Cluster, heartbeat, index, term};

/// A server that sees a later term takes it.
#[test]
fn a_later_term_is_taken() {
    let mut cluster = Cluster::with(3, plain);
    cluster.deliver(message(2, 1, 9, heartbeat(index(1))));
    assert_eq!(cluster.node(1).term(), term(9));
}

/// A candidate or leader that finds its term out of date becomes a follower.
#[test]
fn candidates_and_leaders_step_down_before_a_later_term() {
    for leads in [false, true] {
        let mut cluster = Cluster::with(3, plain);
        cluster.campaign(1);
        if leads {
            cluster.deliver_all();
        }
        let expected = if leads {
            RoleKind::Leader
        } else {
            RoleKind::Candidate
        };
        assert_eq!(cluster.node(1).role(), expected);
        let answer = Body::AppendResponse(AppendResponse::Accepted { matched: index(0) });
        cluster.deliver(message(2, 1, 7, answer));
        assert_eq!(cluster.node(1).role(), RoleKind::Follower);
        assert_eq!(cluster.node(1).term(), term(7));
    }
}

/// A request with a stale term is rejected.
#[test]
fn a_stale_append_is_not_obeyed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.elect_again(2);
    let before = cluster.node(3).status();
    let stale = Body::Append {
        prev: raft_core::EntryId::new(term(1), index(1)),
        entries: raft_core::Entry::normal(term(1), index(2), Bytes::from_static(b"old")).into(),
        commit: index(2),
    };
    cluster.deliver(message(1, 3, 1, stale));
    assert_eq!(cluster.node(3).status(), before);
}

/// The sender of a stale request hears of the later term.
#[test]
fn a_stale_leader_is_told_so() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    // Followers stop believing in the leader that they no longer hear.
    cluster.tick(2, 25);
    cluster.tick(3, 10);
    cluster.campaign(2);
    cluster.deliver_all();
    assert_eq!(cluster.node(2).role(), RoleKind::Leader);
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
    cluster.heal();
    cluster.tick(1, 1);
    cluster.deliver_all();
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(cluster.node(1).term(), cluster.node(2).term());
}

/// The term grows monotonically, also over a restart.
#[test]
fn the_term_survives_a_crash() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let before = cluster.node(2).term();
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.node(2).term(), before);
}

/// Each term has at most one leader, and may end with none: then a new term
/// begins.
#[test]
fn a_split_vote_ends_a_term_without_a_leader() {
    let mut cluster = Cluster::with(4, plain);
    cluster.campaign(1);
    cluster.campaign(2);
    let (ones, twos) = (message_to(3), message_to(4));
    // Server 3 votes for 1, server 4 votes for 2.
    let votes = cluster.take(|m| (m.from.get() == 1 && ones(m)) || (m.from.get() == 2 && twos(m)));
    for vote in votes {
        cluster.deliver(vote);
    }
    cluster.take(|m| {
        matches!(
            m.body,
            Body::RequestVote {
                round: Round::Vote,
                ..
            }
        )
    });
    cluster.deliver_all();
    assert_eq!(cluster.leader(), None);
    let split = cluster.node(1).term();
    cluster.elect(1);
    assert_eq!(cluster.node(1).term(), split.next());
}

fn message_to(number: u64) -> impl Fn(&raft_core::Message) -> bool {
    move |message| message.to.get() == number
}
