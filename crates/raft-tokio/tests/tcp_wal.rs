//! Replicas with real sockets and real folders: what was acknowledged is there
//! after stops, and who comes late gets a snapshot.

#![cfg(feature = "serde")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_tokio::{
    ConfChange, ConfChangeType, RaftConfig, SerdeMachine, StartError, TypedRaft, WalLogStore,
    WalLogStoreOptions,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

mod on_disk;

use on_disk::{CLUSTER, Servers, node_id};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Remembers what was written under which number, and how often.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Book(BTreeMap<u64, (String, u32)>);

#[derive(Serialize, Deserialize)]
struct WriteDown(u64, String);

impl SerdeMachine for Book {
    type Command = WriteDown;
    type Reply = u32;

    fn apply(&mut self, WriteDown(number, text): WriteDown) -> u32 {
        let (kept, times) = self.0.entry(number).or_default();
        *kept = text;
        *times += 1;
        *times
    }
}

type Replica = TypedRaft<Book>;

struct Cluster {
    servers: Servers,
    snapshot_entries: u64,
}

impl Cluster {
    /// Room for this many servers; none runs yet.
    fn of(servers: usize, snapshot_entries: u64) -> Self {
        Self {
            servers: Servers::new(servers),
            snapshot_entries,
        }
    }

    /// Starts a server with what its folder has; one of three voters at first.
    async fn start(&self, id: u64) -> Replica {
        self.try_start(id).await.unwrap()
    }

    async fn try_start(&self, id: u64) -> Result<Replica, StartError> {
        let voters = if id <= 3 { vec![1, 2, 3] } else { Vec::new() };
        let config = RaftConfig {
            tick: Duration::from_millis(20),
            proposal_timeout: Duration::from_secs(2),
            snapshot_entries: self.snapshot_entries,
            snapshot_keep_entries: 10,
            ..RaftConfig::new(node_id(id), voters.into_iter().map(node_id).collect())
        };
        let log = self.servers.log(id).unwrap();
        let transport = self.servers.listen(id, &log).await;
        TypedRaft::start(config, Book::default(), log, transport).await
    }

    async fn start_three(&self) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for id in 1..=3 {
            replicas.push(self.start(id).await);
        }
        replicas
    }
}

/// Which of these leads.
async fn leader_of(replicas: &[Replica]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leads = |replica: &Replica| replica.raft().status().is_leader();
        if let Some(at) = replicas.iter().position(leads) {
            return at;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Writes until it is acknowledged, through whichever replica takes it.
async fn write_down(replicas: &[Replica], number: u64) {
    let deadline = Instant::now() + PATIENCE;
    let mut at = usize::try_from(number).unwrap();
    loop {
        let command = WriteDown(number, text_of(number));
        match replicas[at % replicas.len()].propose(&command).await {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        at += 1;
        sleep(Duration::from_millis(5)).await;
    }
}

/// Two kilobytes, so that a snapshot of many takes more than one chunk.
fn text_of(number: u64) -> String {
    format!("{number:08}").repeat(256)
}

/// Reads linearizably, also while nobody leads yet.
async fn book_of(replica: &Replica) -> Book {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match replica.read(Book::clone).await {
            Ok(book) => return book,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn assert_has(book: &Book, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let (text, _) = book
            .0
            .get(&number)
            .unwrap_or_else(|| panic!("{number} is lost"));
        assert_eq!(*text, text_of(number));
    }
}

async fn stop_all(replicas: Vec<Replica>) {
    for replica in replicas {
        timeout(PATIENCE, replica.raft().shutdown())
            .await
            .expect("it stops");
    }
}

#[tokio::test]
async fn after_all_were_stopped_everything_is_there() {
    // With and without snapshots in between.
    for snapshot_entries in [0, 25] {
        let cluster = Cluster::of(3, snapshot_entries);
        let replicas = cluster.start_three().await;
        for number in 0..100 {
            write_down(&replicas, number).await;
        }
        stop_all(replicas).await;
        let replicas = cluster.start_three().await;
        for replica in &replicas {
            assert_has(&book_of(replica).await, 0..100);
        }
        write_down(&replicas, 100).await;
        assert_has(&book_of(&replicas[0]).await, 0..=100);
        stop_all(replicas).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_leaders_that_stop_under_load() {
    let cluster = Cluster::of(3, 200);
    let mut replicas = cluster.start_three().await;
    leader_of(&replicas).await;
    let current = Arc::new(Mutex::new(replicas.clone()));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut writers = Vec::new();
    for writer in 0..8_u64 {
        let (current, acknowledged) = (current.clone(), acknowledged.clone());
        writers.push(tokio::spawn(async move {
            for n in 0..150 {
                let number = writer * 1000 + n;
                let mut at = usize::try_from(number).unwrap();
                // Once: without a reply it may or may not be there.
                let replica = loop {
                    let replica = current.lock().unwrap()[at % 3].clone();
                    if replica.raft().status().stopped.is_none() {
                        break replica;
                    }
                    at += 1;
                };
                let command = WriteDown(number, text_of(number));
                if replica.propose(&command).await.is_ok() {
                    acknowledged.lock().unwrap().push(number);
                }
                sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    for _ in 0..3 {
        sleep(Duration::from_millis(150)).await;
        let at = leader_of(&replicas).await;
        replicas[at].raft().shutdown().await;
        let others = [
            replicas[(at + 1) % 3].clone(),
            replicas[(at + 2) % 3].clone(),
        ];
        leader_of(&others).await;
        replicas[at] = cluster.start(u64::try_from(at).unwrap() + 1).await;
        current.lock().unwrap()[at] = replicas[at].clone();
    }
    for writer in writers {
        timeout(PATIENCE, writer)
            .await
            .expect("every call ends")
            .unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(
        acknowledged.len() > 400,
        "only {} writes",
        acknowledged.len()
    );
    for replica in &replicas {
        let book = book_of(replica).await;
        assert_has(&book, acknowledged.iter().copied());
        // Nobody wrote anything twice, so nothing may be there twice.
        assert!(book.0.values().all(|(_, times)| *times == 1));
    }
    current.lock().unwrap().clear();
    stop_all(replicas).await;
}

#[tokio::test]
async fn a_late_follower_and_a_new_one_get_a_snapshot() {
    let cluster = Cluster::of(4, 50);
    let mut replicas = cluster.start_three().await;
    write_down(&replicas, 0).await;
    book_of(&replicas[2]).await;
    let late = replicas.remove(2);
    let had = late.raft().status().last_index;
    late.raft().shutdown().await;
    for number in 1..300 {
        write_down(&replicas, number).await;
    }
    let leader = replicas[leader_of(&replicas).await].clone();
    let compacted = leader
        .raft()
        .wait_for(|status| status.first_index > had.next());
    timeout(PATIENCE, compacted)
        .await
        .expect("compacted")
        .unwrap();

    let late = cluster.start(3).await;
    assert_has(&book_of(&late).await, 0..300);
    let restored = late.raft().wait_for(|status| status.snapshot_index > had);
    timeout(PATIENCE, restored)
        .await
        .expect("a snapshot")
        .unwrap();
    replicas.push(late);

    let new = cluster.start(4).await;
    let leader = replicas[leader_of(&replicas).await].clone();
    let add = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(4));
    let added = timeout(PATIENCE, leader.raft().change_membership(add)).await;
    let members = added.expect("in time").unwrap();
    assert_eq!(members.learners, [node_id(4)]);
    assert_has(&book_of(&new).await, 0..300);
    write_down(&replicas, 300).await;
    assert_has(&book_of(&new).await, 0..=300);
    replicas.push(new);
    stop_all(replicas).await;
}

#[tokio::test]
async fn a_wiped_node_takes_no_part_under_its_old_id_and_a_new_one_does() {
    let cluster = Cluster::of(4, 50);
    let mut replicas = cluster.start_three().await;
    for number in 0..100 {
        write_down(&replicas, number).await;
    }
    let wiped = replicas.remove(2);
    timeout(PATIENCE, wiped.raft().shutdown())
        .await
        .expect("it stops");
    drop(wiped);
    std::fs::remove_dir_all(cluster.servers.folder(3)).unwrap();

    let wiped = cluster.start(3).await;
    for number in 100..110 {
        write_down(&replicas, number).await;
    }
    // Its requests are not heard, and so it cannot answer for the cluster.
    wiped.read(|_| ()).await.unwrap_err();
    assert!(!wiped.raft().status().is_leader());
    wiped.raft().shutdown().await;

    let new = cluster.start(4).await;
    let leader = replicas[leader_of(&replicas).await].clone();
    let replaced = leader.raft().change_membership(ConfChange::single(
        ConfChangeType::AddLearnerNode,
        node_id(4),
    ));
    timeout(PATIENCE, replaced).await.expect("in time").unwrap();
    assert_has(&book_of(&new).await, 0..110);
    replicas.push(new);
    stop_all(replicas).await;
}

/// What docs/OPERATIONS.md says under "Replacing a node".
#[tokio::test]
async fn a_node_whose_snapshot_is_damaged_is_replaced_and_nothing_is_lost() {
    const SNAPSHOT_ENTRIES: u64 = 50;
    let cluster = Cluster::of(4, SNAPSHOT_ENTRIES);
    let mut replicas = cluster.start_three().await;
    // Enough for a second snapshot, however late the first one was.
    for number in 0..200 {
        write_down(&replicas, number).await;
    }
    let damaged = replicas.remove(2);
    // So far that the log no longer reaches back to an older one; and until none is
    // being stored, which the log would not refer to.
    let read = timeout(PATIENCE, damaged.raft().read()).await;
    let last = read.expect("in time").unwrap();
    let compacted = damaged.raft().wait_for(|status| {
        status.applied >= last
            && status.first_index.get() > 60
            && status.applied.get() < status.snapshot_index.get() + SNAPSHOT_ENTRIES
    });
    timeout(PATIENCE, compacted).await.expect("cut").unwrap();
    timeout(PATIENCE, damaged.raft().shutdown())
        .await
        .expect("it stops");
    drop(damaged);
    let file = cluster.servers.damage_newest_snapshot(3);
    let refused = cluster.try_start(3).await.unwrap_err().to_string();
    assert!(refused.contains(&*file.to_string_lossy()), "{refused}");
    for number in 200..220 {
        write_down(&replicas, number).await;
    }

    let folder = cluster.servers.folder(3);
    std::fs::rename(&folder, folder.with_extension("damaged")).unwrap();
    let new = cluster.start(4).await;
    let leader = replicas[leader_of(&replicas).await].clone();
    let address = cluster.servers.address(4).to_string();
    let added = leader.raft().add_learner(node_id(4), Some(address));
    timeout(PATIENCE, added).await.expect("in time").unwrap();
    let replaced = leader.raft().replace(node_id(3), node_id(4));
    let members = timeout(PATIENCE, replaced).await.expect("in time").unwrap();
    assert_eq!(members.voters, [1, 2, 4].map(node_id));
    assert_has(&book_of(&new).await, 0..220);
    // It counts: with one of the others away the cluster still commits.
    let away = replicas.remove(0);
    timeout(PATIENCE, away.raft().shutdown())
        .await
        .expect("it stops");
    replicas.push(new);
    write_down(&replicas, 220).await;
    assert_has(&book_of(&replicas[1]).await, 0..=220);
    stop_all(replicas).await;
}

#[tokio::test]
async fn a_folder_in_use_or_of_another_server_is_refused() {
    let cluster = Cluster::of(3, 0);
    let folder = cluster.servers.folder(1);
    let open = |cluster_id, id| {
        WalLogStore::open(&folder, WalLogStoreOptions::new(cluster_id, node_id(id)))
    };
    let in_use = cluster.servers.log(1).unwrap();
    assert!(open(CLUSTER, 1).is_err());
    drop(in_use);
    for (cluster_id, id) in [(CLUSTER, 2), (CLUSTER + 1, 1)] {
        let refused = open(cluster_id, id).unwrap_err().to_string();
        assert!(refused.contains("belongs"), "{refused}");
    }
    open(CLUSTER, 1).unwrap();
}
