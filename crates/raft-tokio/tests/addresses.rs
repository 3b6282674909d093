//! Where members are reached is replicated: whoever comes by a snapshot alone, or
//! starts again from one, reaches members of which nobody ever told it.

use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::time::Duration;

use raft_tokio::{ChangeMembershipError, Raft, RaftConfig, ReplicaStatus};
use tokio::time::{Instant, sleep, timeout};

mod on_disk;
mod support;

use on_disk::{Servers, node_id};
use support::{Address, Cluster, Journal};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The cluster begins with these, and only they are in anybody's settings.
const FIRST: std::ops::RangeInclusive<u64> = 1..=3;

/// Starts a server that is told where the first members are, and nobody else.
async fn start(servers: &Servers, id: u64) -> Raft {
    start_at(servers, servers.address(id), id).await
}

async fn start_at(servers: &Servers, listen: SocketAddr, id: u64) -> Raft {
    start_knowing(servers, FIRST, listen, id).await
}

async fn start_knowing(
    servers: &Servers,
    known: impl RangeBounds<u64>,
    listen: SocketAddr,
    id: u64,
) -> Raft {
    let voters = FIRST.filter(|_| FIRST.contains(&id)).map(node_id).collect();
    let config = RaftConfig {
        tick: Duration::from_millis(50),
        // Only on demand.
        snapshot_entries: 0,
        snapshot_keep_entries: 0,
        ..RaftConfig::new(node_id(id), voters)
    };
    let log = servers.log(id).unwrap();
    let transport = servers.listen_at(listen, known, &log).await;
    Raft::start(config, Journal::default(), log, transport)
        .await
        .unwrap()
}

async fn wait_for(raft: &Raft, wanted: impl Fn(&ReplicaStatus) -> bool) -> ReplicaStatus {
    let reached = timeout(PATIENCE, raft.wait_for(wanted)).await;
    reached.expect("in time").unwrap()
}

/// Who leads, once there is somebody.
async fn leader_of(replicas: &[Raft]) -> Raft {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(raft) = replicas.iter().find(|raft| raft.status().is_leader()) {
            return raft.clone();
        }
        assert!(Instant::now() < deadline, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Takes a snapshot of everything, so that nobody gets older entries from here.
async fn compact(raft: &Raft) {
    let last = wait_for(raft, |status| status.applied == status.last_index).await;
    raft.snapshot().await.unwrap();
    wait_for(raft, |status| {
        status.snapshot_index >= last.applied && status.first_index > last.applied
    })
    .await;
}

/// Writes through this server, which takes a connection to the leader.
async fn write_through(raft: &Raft, text: &'static str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = raft.propose(text).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

async fn hand_over(from: &Raft, to: &Raft) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = from.transfer_leadership(to.id()).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
    wait_for(to, ReplicaStatus::is_leader).await;
}

/// Adds a server with its address, and gives it a vote.
async fn join(servers: &Servers, leader: &Raft, id: u64) -> Raft {
    let raft = start(servers, id).await;
    add(servers, leader, id).await;
    raft
}

async fn add(servers: &Servers, leader: &Raft, id: u64) {
    let address = servers.address(id).to_string();
    let added = leader.add_learner(node_id(id), Some(address));
    timeout(PATIENCE, added).await.expect("in time").unwrap();
    let promoted = leader.promote(node_id(id));
    timeout(PATIENCE, promoted).await.expect("in time").unwrap();
}

async fn stop_all(replicas: Vec<Raft>) {
    for raft in replicas {
        timeout(PATIENCE, raft.shutdown()).await.expect("it stops");
    }
}

#[tokio::test]
async fn who_comes_by_a_snapshot_reaches_a_member_it_was_never_told_of() {
    let servers = Servers::new(5);
    let mut first = Vec::new();
    for id in FIRST {
        first.push(start(&servers, id).await);
    }
    let leader = leader_of(&first).await;
    let four = join(&servers, &leader, 4).await;
    // Nothing of the change is left in any log that five could get.
    for raft in first.iter().chain([&four]) {
        compact(raft).await;
    }
    let five = join(&servers, &leader, 5).await;
    let address = servers.address(4).to_string();
    let status = wait_for(&five, |status| status.conf_state.contains(node_id(4))).await;
    assert_eq!(status.addresses.get(node_id(4)), Some(&*address));
    // An answer to a leader takes a connection of its own.
    hand_over(&leader, &four).await;
    write_through(&five, "through five").await;

    // Again from its own disk, where the change is in a snapshot only.
    timeout(PATIENCE, five.shutdown()).await.expect("it stops");
    drop(five);
    let five = start(&servers, 5).await;
    write_through(&five, "through five again").await;
    assert_eq!(
        five.status().addresses.get(node_id(4)),
        Some(&*address),
        "nobody has told it since"
    );

    // Who leaves is forgotten, also in what later snapshots say.
    hand_over(&four, &leader).await;
    let removed = timeout(PATIENCE, leader.remove(node_id(4))).await;
    removed.expect("in time").unwrap();
    for raft in first.iter().chain([&five]) {
        let status = wait_for(raft, |status| !status.conf_state.contains(node_id(4))).await;
        assert_eq!(status.addresses.get(node_id(4)), None);
    }
    compact(&five).await;
    timeout(PATIENCE, five.shutdown()).await.expect("it stops");
    drop(five);
    let five = start(&servers, 5).await;
    let status = wait_for(&five, |status| !status.conf_state.voters.is_empty()).await;
    let own = servers.address(5).to_string();
    assert_eq!(
        status.addresses.iter().collect::<Vec<_>>(),
        [(node_id(5), &*own)]
    );
    first.extend([four, five]);
    stop_all(first).await;
}

/// Four and five are told of nobody: not where the first members are, nor each
/// other.
#[tokio::test]
async fn who_joins_without_a_single_address_answers_leads_and_comes_again() {
    let servers = Servers::new(5);
    let mut first = Vec::new();
    for id in FIRST {
        first.push(start(&servers, id).await);
    }
    let leader = leader_of(&first).await;
    // By the log, and by a snapshot.
    let four = start_knowing(&servers, 100.., servers.address(4), 4).await;
    add(&servers, &leader, 4).await;
    for raft in first.iter().chain([&four]) {
        compact(raft).await;
    }
    let five = start_knowing(&servers, 100.., servers.address(5), 5).await;
    add(&servers, &leader, 5).await;
    write_through(&four, "through four").await;
    write_through(&five, "through five").await;
    hand_over(&leader, &five).await;
    write_through(&four, "from one to the other").await;

    // Again, with whoever led last gone: all that it hears of is in the handshakes.
    timeout(PATIENCE, five.shutdown()).await.expect("it stops");
    drop(five);
    timeout(PATIENCE, four.shutdown()).await.expect("it stops");
    drop(four);
    let four = start_knowing(&servers, 100.., servers.address(4), 4).await;
    write_through(&four, "through four again").await;
    first.push(four.clone());
    // Four may have been elected already.
    let leader = leader_of(&first).await;
    if leader.id() != four.id() {
        hand_over(&leader, &four).await;
    }
    write_through(&first[0], "to four").await;
    stop_all(first).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_away_hears_by_the_snapshot_who_came_and_who_left() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.snapshot_entries = 20;
        config.snapshot_keep_entries = 0;
    })
    .await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await;
    let (four, five) = (node_id(4), node_id(5));
    cluster.join(4).await;
    let address = Some("four:7000".to_owned());
    leader.add_learner(four, address).await.unwrap();
    wait_for(&away, |status| status.conf_state.contains(four)).await;
    let told = cluster.address(away.id().get(), four);
    assert_eq!(told, Address::At("four:7000".to_owned()));

    cluster.network().isolate(away.id());
    let had = away.status().last_index;
    leader.remove(four).await.unwrap();
    cluster.join(5).await;
    let address = Some("five:7000".to_owned());
    leader.add_learner(five, address).await.unwrap();
    for _ in 0..50 {
        leader.propose("x").await.unwrap();
    }
    wait_for(&leader, |status| status.first_index > had.next()).await;
    cluster.network().heal();
    wait_for(&away, |status| status.snapshot_index > had).await;
    // It forgets who left after an election timeout.
    sleep(Duration::from_secs(2)).await;
    let told = |id| cluster.address(away.id().get(), id);
    assert_eq!(told(five), Address::At("five:7000".to_owned()));
    assert_eq!(told(four), Address::Forgotten);
}

#[tokio::test]
async fn what_the_cluster_agreed_on_wins_over_the_settings() {
    let servers = Servers::new(4);
    let mut first = Vec::new();
    for id in FIRST {
        first.push(start(&servers, id).await);
    }
    let leader = leader_of(&first).await;
    let place = first.iter().position(|raft| raft.id() != leader.id());
    let mover = first.remove(place.unwrap());
    let id = mover.id().get();
    timeout(PATIENCE, mover.shutdown()).await.expect("it stops");
    drop(mover);

    // It comes up where server 4 would have been; nobody's settings say so.
    let mover = start_at(&servers, servers.address(4), id).await;
    let elsewhere = servers.address(4).to_string();
    let moved = leader.move_member(node_id(id), elsewhere.clone());
    timeout(PATIENCE, moved).await.expect("in time").unwrap();
    leader.propose("to the new place").await.unwrap();
    let last = leader.status().last_index;
    wait_for(&mover, |status| status.applied >= last).await;

    // A restart from a snapshot says the same, against the settings.
    compact(&leader).await;
    let old_leader = leader.id();
    timeout(PATIENCE, leader.shutdown())
        .await
        .expect("it stops");
    drop(leader);
    first.retain(|raft| raft.id() != old_leader);
    let again = start(&servers, old_leader.get()).await;
    assert_eq!(
        wait_for(&again, |status| status.leader.is_some())
            .await
            .addresses
            .get(node_id(id)),
        Some(&*elsewhere)
    );
    first.extend([again.clone(), mover.clone()]);
    let leader = leader_of(&first).await;
    if leader.id() != again.id() {
        hand_over(&leader, &again).await;
    }
    again.propose("to the new place again").await.unwrap();
    let last = again.status().last_index;
    wait_for(&mover, |status| status.applied >= last).await;
    let nobody = again.move_member(node_id(9), elsewhere).await;
    assert_eq!(
        nobody,
        Err(ChangeMembershipError::NotMember { id: node_id(9) })
    );
    stop_all(first).await;
}
