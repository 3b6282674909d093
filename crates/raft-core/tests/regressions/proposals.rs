//! Proposals and reads that others lose, or send round for ever.

use bytes::Bytes;
use raft_core::{
    Body, ConfChange, ConfChangeType, ConfState, Config, Misbehaved, Proposal, ProposeError,
    Protections, StepError,
};

use super::{fails, leader, misbehaved, refused, snapshot_at, still_works};
use crate::support::{Cluster, command, id, message, term};

/// A snapshot in the leader's place makes `to` take `from` for the leader.
fn take_for_the_leader(cluster: &mut Cluster, to: u64, from: u64) {
    let conf_state = ConfState::of_voters([1, 2, 3].map(id));
    let old = snapshot_at(1, 1, conf_state);
    cluster.deliver(message(from, to, 2, old));
    assert_eq!(cluster.node(to).leader(), Some(id(from)));
}

#[test]
fn an_empty_proposal_is_refused() {
    let mut cluster = leader();
    let empty = Body::Propose {
        proposals: Vec::new(),
    };
    let why = misbehaved(&mut cluster, message(2, 1, 0, empty));
    assert_eq!(why, Misbehaved::EmptyProposal);
    let own = fails(&mut cluster, 1, |node| node.propose_batch(Vec::new()));
    assert_eq!(own, ProposeError::Empty);
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
        if is_proposal {
            let error = refused(&mut cluster, request);
            assert!(matches!(
                error,
                StepError::Propose(ProposeError::ForwardingDisabled { leader }) if leader == id(2)
            ));
        } else {
            cluster.deliver(request);
        }
    }
    assert_eq!(cluster.in_flight(), []);

    // As etcd has it, they come back.
    for number in [2, 3] {
        cluster.reconfigure(number, |config| Config {
            protections: Protections::Off,
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
