//! Raft §8: client interaction.

use raft_core::{ProposeError, Proposed, ReadIndexError};

use super::plain;
use crate::support::{Cluster, command, id};

/// A leader begins its term with an entry that says nothing, and so finds out
/// what is committed.
#[test]
fn a_leader_begins_with_an_empty_entry() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let node = cluster.node(1);
    assert_eq!(node.last_index(), node.commit_index());
    assert_eq!(cluster.server(1).terms(), [2]);
    assert!(cluster.server(1).commands().is_empty());
}

/// What an earlier leader left on a majority is committed by the new leader's
/// empty entry, without a client.
#[test]
fn the_empty_entry_commits_what_was_left() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.propose(1, command("left")).expect("it leads");
    let appends = cluster.take(|_| true);
    for append in appends {
        cluster.deliver(append);
    }
    cluster.crash(1);
    cluster.take(|_| true);
    cluster.elect(2);
    cluster.deliver_all();
    assert_eq!(cluster.server(3).commands(), [command("left")]);
}

/// A client that asks a follower is passed on to the leader.
#[test]
fn a_follower_passes_proposals_on() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let proposed = cluster.propose(2, command("a")).expect("it follows");
    assert_eq!(proposed, Proposed::Forwarded { to: id(1) });
    cluster.deliver_all();
    assert_eq!(cluster.server(3).commands(), [command("a")]);
}

/// Where nobody leads, a client hears so at once and nothing is lost silently.
#[test]
fn without_a_leader_a_client_hears_so() {
    let mut cluster = Cluster::new(3);
    assert_eq!(
        cluster.propose(1, command("a")),
        Err(ProposeError::NoLeader)
    );
    assert_eq!(cluster.read(1), Err(ReadIndexError::NoLeader));
    cluster.campaign(1);
    assert_eq!(
        cluster.propose(1, command("a")),
        Err(ProposeError::NoLeader)
    );
    assert_eq!(cluster.read(1), Err(ReadIndexError::NoLeader));
}

/// A proposal is known by term and index: what another leader put at the same
/// index is another proposal.
#[test]
fn an_overwritten_proposal_can_be_told_from_what_took_its_place() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    let Ok(Proposed::Appended { term, first, .. }) = cluster.propose(1, command("lost")) else {
        panic!("it leads")
    };
    cluster.take(|_| true);
    cluster.elect(2);
    cluster.propose(2, command("kept")).expect("it leads");
    cluster.deliver_all();
    cluster.heal();
    cluster.run(3);
    assert!(cluster.node(1).commit_index() >= first);
    assert!(cluster.node(1).term() > term);
    assert_eq!(cluster.server(1).commands(), [command("kept")]);
}

/// A batch is appended together or not at all, and a change in it that is
/// refused leaves the others where they are.
#[test]
fn a_batch_is_appended_together() {
    use raft_core::{ConfChange, Proposal};
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let batch = vec![
        Proposal::normal(command("a")),
        ConfChange::leave_joint().to_proposal(),
        Proposal::normal(command("b")),
    ];
    let before = cluster.node(1).last_index();
    let Ok(Proposed::Appended {
        first,
        last,
        refused,
        ..
    }) = cluster.with_node(1, |node| node.propose_batch(batch))
    else {
        panic!("it leads")
    };
    assert_eq!((first, last), (before.next(), before.plus(3)));
    assert!(refused.is_some());
    cluster.deliver_all();
    assert_eq!(cluster.server(2).commands(), [command("a"), command("b")]);
}
