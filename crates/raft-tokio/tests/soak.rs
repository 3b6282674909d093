//! Five servers under everything at once: kills that lose what the disk had not
//! done, restarts, pauses, isolations, cuts, lost packets, stalled disks, changes
//! of the members and of the leader, while 200 clients propose and read. Every
//! call has to end; what was acknowledged has to be there once and what was
//! refused never; and the history has to be linearizable.
//!
//! For a journal that only grows that can be checked whole, without a search:
//! the places in it are the only possible order. A command stands behind all
//! that anybody had seen before it was asked for, a read sees at least that much,
//! and whatever either shows is what everybody has seen from then on.
//!
//! `RAFT_SEED=7` repeats a schedule as far as the runtime does;
//! `RAFT_SOAK_SECONDS=600` runs for so long on the paused clock instead of a
//! minute.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use raft_tokio::{NodeId, Raft};
use support::{Cluster, node_id};
use tokio::time::Instant;

const SERVERS: u64 = 5;
const CLIENTS: u64 = 200;
const SNAPSHOT_ENTRIES: u64 = 2000;
/// Longer than any call may take: the timeout of a request, twice over, and an
/// election.
const CALL_MAX: Duration = Duration::from_secs(15);

/// What clients know for certain.
#[derive(Debug, Default)]
struct Ledger {
    applied: HashMap<String, u64>,
    refused: Vec<String>,
    /// With how long the journal was known to be when they were asked for.
    unknown: Vec<(String, u64)>,
    reads: u64,
    reads_failed: u64,
}

/// What everybody shares.
#[derive(Debug, Default)]
struct World {
    ledger: Mutex<Ledger>,
    servers: Mutex<Vec<Raft>>,
    /// How many commands are known to be applied: the journal is never shorter
    /// for a read that begins later.
    floor: AtomicU64,
    /// How many commands were asked for.
    asked: AtomicUsize,
    is_over: AtomicBool,
}

impl World {
    fn server(&self, random: &mut Rng) -> Raft {
        let servers = self.servers.lock().unwrap();
        servers[random.usize(..servers.len())].clone()
    }

    fn raise_floor(&self, to: u64) {
        self.floor.fetch_max(to, Ordering::SeqCst);
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("the variable is a number"))
}

/// How much memory this process had at most, where the system says so.
fn resident_peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.trim_start_matches("VmHWM:").trim().to_owned())
}

/// The place in the journal that a reply names.
fn place(reply: &[u8]) -> u64 {
    let text = std::str::from_utf8(reply).unwrap();
    text.split(':').next().unwrap().parse().unwrap()
}

async fn ends<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| panic!("a {what} did not end"))
}

async fn client(world: Arc<World>, number: u64, mut random: Rng) {
    let mut sequence = 0_u64;
    while !world.is_over.load(Ordering::SeqCst) {
        let server = world.server(&mut random);
        let floor = world.floor.load(Ordering::SeqCst);
        if random.u8(..3) == 0 {
            let by_lease = random.bool();
            let read = async {
                if by_lease {
                    server.query_lease("len").await
                } else {
                    server.query("len").await
                }
            };
            let outcome = ends("read", read).await;
            let mut ledger = world.ledger.lock().unwrap();
            if let Ok(length) = outcome {
                let length = place(&length);
                assert!(length >= floor, "a read of {length} after one of {floor}");
                world.raise_floor(length);
                ledger.reads += 1;
            } else {
                ledger.reads_failed += 1;
            }
        } else {
            world.asked.fetch_add(1, Ordering::SeqCst);
            let name = format!("{number}/{sequence}");
            sequence += 1;
            let outcome = match random.u8(..3) {
                0 => ends("proposal", server.propose(name.clone())).await,
                1 => {
                    let timeout = Duration::from_millis(random.u64(1..2000));
                    ends("proposal", server.propose_timeout(name.clone(), timeout)).await
                }
                _ => {
                    let batch = server.propose_batch(vec![name.clone().into()]);
                    ends("batch", batch).await.remove(0)
                }
            };
            let mut ledger = world.ledger.lock().unwrap();
            match outcome {
                Ok(applied) => {
                    let at = place(&applied.reply);
                    assert!(at > floor, "applied at {at} after a read of {floor}");
                    world.raise_floor(at);
                    ledger.applied.insert(name, at);
                }
                Err(error) if error.is_indeterminate() => ledger.unknown.push((name, floor)),
                Err(_) => ledger.refused.push(name),
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(1..500))).await;
    }
}

/// What happened, to see that something did.
#[derive(Debug, Default)]
struct Events {
    kills: u64,
    restarts: u64,
    pauses: u64,
    isolations: u64,
    cuts: u64,
    losses: u64,
    stalls: u64,
    transfers: u64,
    changes: u64,
    waiting_max: usize,
    tail_max: u64,
}

fn leader_of(cluster: &Cluster) -> Option<Raft> {
    cluster
        .all()
        .into_iter()
        .find(|raft| raft.status().is_leader())
}

async fn trouble(cluster: &mut Cluster, world: &World, random: &mut Rng, events: &mut Events) {
    let victim = random.u64(1..=SERVERS);
    let other = node_id(random.u64(1..=SERVERS));
    match random.u8(..11) {
        0 => {
            cluster.restart(victim).await;
            *world.servers.lock().unwrap() = cluster.all();
            events.restarts += 1;
        }
        1 => {
            let leader = leader_of(cluster).map_or(node_id(victim), |raft| raft.id());
            cluster.network().isolate(leader);
            events.isolations += 1;
        }
        2 => {
            cluster.network().cut(node_id(victim), other);
            events.cuts += 1;
        }
        3 => {
            cluster
                .network()
                .drop_rate(random.u64(..), random.u32(10..200));
            events.losses += 1;
        }
        4 => {
            let disk = cluster.disk(node_id(victim)).clone();
            let length = Duration::from_millis(random.u64(50..3000));
            disk.stall();
            tokio::spawn(async move {
                tokio::time::sleep(length).await;
                disk.resume();
            });
            events.stalls += 1;
        }
        5 => {
            if let Some(leader) = leader_of(cluster)
                && ends("transfer", leader.transfer_leadership(other))
                    .await
                    .is_ok()
            {
                events.transfers += 1;
            }
        }
        // One server leaves, and comes back as a learner that gets a vote.
        6 => {
            if let Some(leader) = leader_of(cluster)
                && leader.id() != other
            {
                let everybody: Vec<NodeId> = (1..=SERVERS).map(node_id).collect();
                let mut rest = everybody.clone();
                rest.retain(|id| *id != other);
                let learners = [other];
                let change = leader.set_members(&rest, &learners);
                events.changes += u64::from(patiently(change).await);
                let change = leader.set_members(&everybody, &[]);
                events.changes += u64::from(patiently(change).await);
            }
        }
        7 | 8 => {
            cluster.kill(victim).await;
            *world.servers.lock().unwrap() = cluster.all();
            events.kills += 1;
        }
        9 => {
            pause(cluster, node_id(victim), random).await;
            events.pauses += 1;
        }
        _ => cluster.network().heal(),
    }
}

/// What a process that stops for a while looks like to the others: nothing comes
/// from it, and then everything at once, and late.
async fn pause(cluster: &Cluster, paused: NodeId, random: &mut Rng) {
    let disk = cluster.disk(paused);
    disk.stall();
    for peer in (1..=SERVERS).map(node_id).filter(|peer| *peer != paused) {
        cluster.network().hold(paused, peer);
        cluster.network().hold(peer, paused);
    }
    tokio::time::sleep(Duration::from_millis(random.u64(50..3000))).await;
    disk.resume();
    cluster.network().release();
}

/// A change of the members may wait for a learner that cannot be reached; it is
/// given up sooner than it would.
async fn patiently<T, E>(change: impl Future<Output = Result<T, E>>) -> bool {
    let change = tokio::time::timeout(Duration::from_secs(3), change);
    change.await.is_ok_and(|outcome| outcome.is_ok())
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_every_call_ends_and_tells_the_truth() {
    let seed = number_from_environment("RAFT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number_from_environment("RAFT_SOAK_SECONDS").unwrap_or(60);
    println!("RAFT_SEED={seed} RAFT_SOAK_SECONDS={seconds}");
    let mut random = Rng::with_seed(seed);
    let mut cluster = Cluster::start_with(SERVERS, |config| {
        config.lease_reads = true;
        config.snapshot_entries = SNAPSHOT_ENTRIES;
        config.snapshot_keep_entries = 100;
        config.proposal_timeout = Duration::from_secs(3);
    })
    .await;
    let world = Arc::new(World::default());
    *world.servers.lock().unwrap() = cluster.all();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let random = Rng::with_seed(random.u64(..));
            tokio::spawn(client(world.clone(), number, random))
        })
        .collect();

    let mut events = Events::default();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        trouble(&mut cluster, &world, &mut random, &mut events).await;
        tokio::time::sleep(Duration::from_millis(random.u64(100..1500))).await;
        if random.bool() {
            cluster.network().heal();
        }
        for raft in cluster.all() {
            let status = raft.status();
            let waiting = status.waiting;
            let waiting = waiting.proposals + waiting.forwards + waiting.reads;
            events.waiting_max = events.waiting_max.max(waiting);
            let tail = status.last_index.distance_from(status.snapshot_index);
            events.tail_max = events.tail_max.max(tail);
        }
    }

    world.is_over.store(true, Ordering::SeqCst);
    cluster.network().heal();
    for raft in cluster.all() {
        cluster.disk(raft.id()).resume();
    }
    for client in clients {
        client.await.unwrap();
    }

    // What is in the log by now is settled by one more command.
    let leader = cluster.leader().await;
    ends("last proposal", leader.propose("the end"))
        .await
        .unwrap();
    let all = ends("last read", leader.query("all")).await.unwrap();
    let journal: Vec<&str> = std::str::from_utf8(&all).unwrap().lines().collect();
    let mut places: HashMap<&str, u64> = HashMap::new();
    for (at, name) in (1..).zip(&journal) {
        assert!(
            places.insert(name, at).is_none(),
            "{name} was applied twice"
        );
    }
    let ledger = std::mem::take(&mut *world.ledger.lock().unwrap());
    for (name, at) in &ledger.applied {
        assert_eq!(
            places.get(name.as_str()),
            Some(at),
            "{name} was acknowledged"
        );
    }
    for name in &ledger.refused {
        assert!(!places.contains_key(name.as_str()), "{name} was refused");
    }
    let mut unknown_applied = 0;
    for (name, floor) in &ledger.unknown {
        if let Some(at) = places.get(name.as_str()) {
            assert!(at > floor, "{name} stands before what was known before it");
            unknown_applied += 1;
        }
    }
    // Every call that was made has one of these ends.
    let ended = ledger.applied.len() + ledger.refused.len() + ledger.unknown.len();
    assert_eq!(ended, world.asked.load(Ordering::SeqCst));
    // And everybody has the same.
    for raft in cluster.all() {
        if raft.status().is_member() {
            assert_eq!(ends("read", raft.query("all")).await.unwrap(), all);
        }
        assert!(raft.status().waiting.proposals < 10);
    }
    println!(
        "{} applied, {} refused, {} unknown ({unknown_applied} applied), {} reads, {} reads failed",
        ledger.applied.len(),
        ledger.refused.len(),
        ledger.unknown.len(),
        ledger.reads,
        ledger.reads_failed,
    );
    println!("{events:?}");
    if let Some(peak) = resident_peak() {
        println!("memory at its peak: {peak}");
    }
    // Bounded by what may wait and by the policy of snapshots, not by time.
    assert!(
        events.waiting_max <= usize::try_from(CLIENTS).unwrap() * 4,
        "{events:?}"
    );
    assert!(events.tail_max < 5 * SNAPSHOT_ENTRIES, "{events:?}");
    assert!(
        ledger.applied.len() > 100 && ledger.reads > 50,
        "nothing was shown"
    );
}
