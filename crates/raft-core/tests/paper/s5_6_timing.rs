//! Raft §5.6: timing and availability.

use super::plain;
use crate::support::{Cluster, command, id};

/// Safety does not depend on timing. A server whose clock races campaigns all the
/// time, one whose clock stands still never does; that costs leaders, and nothing
/// that was committed. The history looks after every step.
#[test]
fn clocks_that_race_or_stand_still_cost_leaders_and_nothing_else() {
    for choose in [plain, |config| config] {
        let mut cluster = Cluster::with(3, choose);
        let mut proposed = 0_u64;
        for round in 0..60_u64 {
            // Server 1 stands still, 2 keeps time, 3 races.
            cluster.tick(2, 1);
            cluster.tick(3, 25);
            if round % 3 == 0 {
                cluster.take(|message| message.to.get() % 2 == 0);
            }
            cluster.deliver_all();
            if let Some(leader) = cluster.leader()
                && cluster.propose(leader.get(), command("x")).is_ok()
            {
                proposed += 1;
            }
        }
        assert!(proposed > 0);
        cluster.elect_somebody();
        cluster.run(5);
        let state = cluster.server(1).state();
        for number in [2, 3] {
            assert_eq!(cluster.server(number).state(), state);
        }
    }
}

/// While a message goes there and back in less than an election timeout, a leader
/// that was elected stays.
#[test]
fn a_leader_stays_while_messages_are_faster_than_the_timeout() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let in_term = cluster.node(1).term();
    // The timeout is ten ticks at least.
    run_with_delay(&mut cluster, 3, 100);
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.node(1).term(), in_term);
}

/// Where they are slower, nobody stays: followers campaign before they hear of
/// their leader.
#[test]
fn no_leader_stays_where_messages_are_slower_than_the_timeout() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let in_term = cluster.node(1).term();
    run_with_delay(&mut cluster, 25, 100);
    for number in 1..=3 {
        assert!(cluster.node(number).term() > in_term, "server {number}");
    }
}

/// Lets time pass; each message takes `delay` ticks.
fn run_with_delay(cluster: &mut Cluster, delay: usize, ticks: u32) {
    let mut under_way = Vec::new();
    for _ in 0..ticks {
        for number in 1..=3 {
            cluster.tick(number, 1);
        }
        under_way.push(cluster.take(|_| true));
        if under_way.len() > delay {
            for message in under_way.remove(0) {
                cluster.deliver(message);
            }
        }
    }
}
