//! Five servers under everything at once: kills that lose what the disk had not
//! done or was not told to keep, restarts, pauses, frozen clocks, isolations,
//! cuts, lost packets, slow and stalled disks, transfers, and changes of the
//! members that bring new servers and replace old ones, while 200 clients propose
//! and read. Every call has to end; what was acknowledged has to be there once and
//! what was refused never; a change that is said to be in effect has to be; and
//! the history has to be linearizable.
//!
//! For a history that only grows that can be checked whole, without a search: the
//! places in it are the only possible order. A command stands behind all that
//! anybody had seen before it was asked for, a read sees at least that much, and
//! whatever either shows is what everybody has seen from then on.
//!
//! The clocks of the servers differ in speed, as far as leases allow.
//!
//! `RAFT_SEED=7` repeats a schedule as far as the runtime does;
//! `RAFT_SOAK_SECONDS=600` runs for so long on the paused clock instead of a
//! minute.
//!
//! | file | room |
//! |---|---|
//! | `oracle.rs` | the history, and what replicas say of it |
//! | `clients.rs` | calls, and how they ended |
//! | `members.rs` | changes of the members |
//! | `trouble.rs` | everything else that happens |

mod clients;
mod members;
mod oracle;
#[path = "../support/mod.rs"]
mod support;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use raft_tokio::{NodeId, Raft, RaftConfig, ReplicaStatus};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::clients::{World, client, ends};
use crate::members::Members;
use crate::oracle::Chain;
use crate::support::memory::{Resident, resident_bytes};
use crate::support::{Cluster, node_id};
use crate::trouble::Trouble;

const SERVERS: u64 = 5;
const CLIENTS: u32 = 200;
const SNAPSHOT_ENTRIES: u64 = 2000;
/// What everything may take beyond the history and what clients wrote down, and
/// beyond what the process had before.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// The servers that run, and what clients know of them.
pub(crate) struct Servers {
    cluster: Cluster<Chain>,
    world: Arc<World>,
    next_id: u64,
    random: Rng,
}

impl Servers {
    async fn start(world: &Arc<World>, mut random: Rng) -> Self {
        let oracle = world.oracle.clone();
        let machine = move || Chain::new(oracle.clone());
        let cluster = Cluster::start_of(SERVERS, configure, machine).await;
        let mut servers = Self {
            cluster,
            world: world.clone(),
            next_id: SERVERS + 1,
            random: Rng::with_seed(random.u64(..)),
        };
        for id in servers.ids() {
            servers.slow_down(id);
        }
        servers.announce();
        servers
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.all().iter().map(Raft::id).collect()
    }

    pub(crate) fn all(&self) -> Vec<Raft> {
        self.cluster.all()
    }

    fn announce(&self) {
        self.world.set_servers(self.all());
    }

    fn slow_down(&mut self, id: NodeId) {
        let random = Rng::with_seed(self.random.u64(..));
        let max = Duration::from_millis(20);
        self.cluster.disk(id).slow_down(max, random);
    }

    /// A server that was never there before, and is no member yet.
    pub(crate) async fn join(&mut self) -> NodeId {
        let id = self.next_id;
        self.next_id += 1;
        self.cluster.join(id).await;
        self.slow_down(node_id(id));
        self.announce();
        node_id(id)
    }

    pub(crate) async fn restart(&mut self, id: NodeId) {
        self.cluster.restart(id.get()).await;
        self.slow_down(id);
        self.announce();
    }

    pub(crate) async fn kill(&mut self, id: NodeId) {
        let survivors = self.random.usize(..3);
        self.cluster.kill(id.get(), survivors).await;
        self.slow_down(id);
        self.announce();
    }

    pub(crate) fn discard(&mut self, id: NodeId) {
        self.cluster.discard(id.get());
        self.announce();
    }
}

fn configure(config: &mut RaftConfig) {
    config.lease_reads = true;
    config.snapshot_entries = SNAPSHOT_ENTRIES;
    config.snapshot_keep_entries = 100;
    config.log_tail_entries_max = 500;
    config.proposal_timeout = Duration::from_secs(3);
    config.catch_up_timeout = Duration::from_secs(4);
    // Clocks that differ by less than a tenth.
    config.tick = Duration::from_millis(95 + config.id.get() * 3 % 10);
}

pub(crate) fn leader_of(servers: &Servers) -> Option<Raft> {
    let all = servers.all().into_iter();
    all.filter(|raft| raft.status().is_leader())
        .max_by_key(|raft| raft.status().term)
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("the variable is a number"))
}

/// What was seen of the servers' sizes.
#[derive(Debug, Default)]
struct Sizes {
    waiting_max: usize,
    log_max: u64,
    unapplied_bytes_max: u64,
}

impl Sizes {
    fn look_at(&mut self, status: &ReplicaStatus) {
        let waiting = status.waiting;
        let waiting = waiting.proposals + waiting.forwards + waiting.reads + waiting.log_reads;
        self.waiting_max = self.waiting_max.max(waiting);
        // One of the leader's counts as soon as the log begins behind it, though the
        // disk may not have it yet.
        let snapshot_index = status.snapshot_index.max(status.first_index.prev());
        let log = status.last_index.distance_from(snapshot_index);
        self.log_max = self.log_max.max(log);
        self.unapplied_bytes_max = self.unapplied_bytes_max.max(status.unapplied_bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_every_call_ends_and_tells_the_truth() {
    let seed = number_from_environment("RAFT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number_from_environment("RAFT_SOAK_SECONDS").unwrap_or(60);
    println!("RAFT_SEED={seed} RAFT_SOAK_SECONDS={seconds}");
    let memory_before = resident_bytes(Resident::Now);
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut random = Rng::with_seed(seed);
    let world = Arc::new(World::default());
    let mut servers = Servers::start(&world, Rng::with_seed(random.u64(..))).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let random = Rng::with_seed(random.u64(..));
            tokio::spawn(client(world.clone(), number, random))
        })
        .collect();

    let mut trouble = Trouble::default();
    let mut members = Members::default();
    let mut sizes = Sizes::default();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if random.u8(..3) == 0 {
            members.meddle(&mut servers, &mut random).await;
        } else {
            trouble.make(&mut servers, &mut random).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(100..1500))).await;
        if random.bool() {
            servers.cluster.network().heal();
        }
        members.settle(&mut servers).await;
        world.oracle.assert_is_intact();
        for raft in servers.all() {
            let status = raft.status();
            assert_eq!(status.stopped, None, "node {}", raft.id());
            sizes.look_at(&status);
        }
    }

    world.end();
    servers.cluster.network().heal();
    for raft in servers.all() {
        servers.cluster.disk(raft.id()).resume();
    }
    for client in clients {
        client.await.unwrap();
    }
    members.finish(&mut servers).await;
    let leader = converge(&servers).await;
    world.oracle.assert_is_intact();
    let counts = world.judge();
    println!("{counts:?}\n{trouble:?}\n{:?}\n{sizes:?}", members.counts);
    assert!(
        counts.applied > 10 * seconds && counts.reads > 5 * seconds,
        "nothing was shown"
    );
    assert_memory_is_bounded(memory_before, &world);
    // Bounded by what may wait and by the policy of snapshots, not by time.
    assert!(
        sizes.waiting_max <= usize::try_from(CLIENTS).unwrap() * 8,
        "{sizes:?}"
    );
    assert!(sizes.log_max < 5 * SNAPSHOT_ENTRIES, "{sizes:?}");

    drop(leader);
    for raft in servers.all() {
        raft.shutdown().await;
    }
    drop(servers);
    // Killed servers end some time after they were killed.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tasks_after = Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks_after, tasks_before, "tasks are left");
}

/// Everybody who is a member has the same state in the end.
async fn converge(servers: &Servers) -> Raft {
    let deadline = Instant::now() + Duration::from_secs(60);
    let state = loop {
        assert!(Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(leader) = leader_of(servers)
            && let Ok(state) = ends("last read", leader.query("")).await
        {
            break state;
        }
    };
    let leader = leader_of(servers).expect("it answered");
    let members = leader.status().conf_state;
    for raft in servers.all() {
        if members.contains(raft.id()) {
            assert_eq!(ends("read", raft.query("")).await.unwrap(), state);
        }
    }
    leader
}

fn assert_memory_is_bounded(before: Option<u64>, world: &World) {
    let Some((before, peak)) = before.zip(resident_bytes(Resident::Peak)) else {
        return;
    };
    let written_down = world.bytes();
    println!(
        "memory: {} KiB before, {} KiB at its peak, of which {} KiB are the history",
        before >> 10,
        peak >> 10,
        written_down >> 10
    );
    let grown = peak.saturating_sub(before + written_down);
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes");
}
