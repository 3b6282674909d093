//! What may be in the log and not applied is bounded, in entries and in bytes, on
//! a leader and on a follower: a state machine that never answers takes no memory
//! for it, and the server goes on with everything else.

mod support;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use raft_tokio::{
    LogIndex, LogStore, MemoryLogStore, MemoryNetwork, NodeId, ProposeError, Raft, RaftConfig,
    ReplicaStatus, RoleKind, Unfit, WalLogStore, WalLogStoreOptions,
};
use support::gate::{Gate, OpenAtLast};
use support::gated::Gated;
use support::memory::{Resident, resident_bytes};
use support::node_id;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const SERVERS: u64 = 3;
/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const COMMAND_BYTES: usize = 1000;
const ENTRIES_MAX: u64 = 200;
const BYTES_MAX: u64 = 200_000;
/// One append may go over: so many bytes of encoded entries.
const APPEND_BYTES_MAX: u64 = 20_000;

/// A server, and what its state machine stops at.
struct Server {
    raft: Raft,
    gate: Gate,
}

async fn start<L: LogStore>(
    log: impl Fn(NodeId) -> L,
    configure: impl Fn(&mut RaftConfig),
) -> Vec<Server> {
    let network = MemoryNetwork::new();
    let voters: Vec<_> = (1..=SERVERS).map(node_id).collect();
    let mut servers = Vec::new();
    for id in &voters {
        let gate = Gate::default();
        let mut config = RaftConfig::new(*id, voters.clone());
        config.tick = Duration::from_millis(50);
        config.proposal_timeout = Duration::from_secs(2);
        config.append_bytes_max = APPEND_BYTES_MAX;
        configure(&mut config);
        let machine = Gated::behind(&gate);
        let raft = Raft::start(config, machine, log(*id), network.join(*id));
        let raft = raft.await.expect("it starts");
        servers.push(Server { raft, gate });
    }
    let leader = &servers[0].raft;
    leader.campaign().await.unwrap();
    let leads = leader.wait_for(ReplicaStatus::is_leader);
    timeout(PATIENCE, leads).await.expect("in time").unwrap();
    servers
}

async fn reaches(raft: &Raft, wanted: impl FnMut(&ReplicaStatus) -> bool) -> ReplicaStatus {
    let reached = timeout(PATIENCE, raft.wait_for(wanted)).await;
    reached.expect("in time").unwrap()
}

/// Everything is applied, and nothing is wrong any more.
fn has_nothing_left(status: &ReplicaStatus) -> bool {
    status.apply_lag() == 0 && status.unapplied_bytes == 0 && status.health().reasons.is_empty()
}

/// Proposes so many commands, a few at a time, and waits for the last.
async fn propose(leader: &Raft, count: usize, bytes: usize) -> LogIndex {
    let commands = stream::iter(0..count)
        .map(|_| leader.propose(vec![7; bytes]))
        .buffer_unordered(16);
    let indexes: Vec<LogIndex> = commands
        .map(|applied| applied.expect("the leader applies").index)
        .collect()
        .await;
    indexes.into_iter().max().expect("commands")
}

fn assert_within_bounds(status: &ReplicaStatus) {
    let backlog = status.last_index.distance_from(status.applied);
    let append_entries = APPEND_BYTES_MAX / u64::try_from(COMMAND_BYTES).unwrap() + 1;
    assert!(backlog <= ENTRIES_MAX + append_entries, "{status:?}");
    // Its write may be on its way while the one before is counted.
    let bytes_max = BYTES_MAX + APPEND_BYTES_MAX;
    assert!(status.unapplied_bytes <= bytes_max, "{status:?}");
}

/// Only one of the limits is reached.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Entries,
    Bytes,
}

impl Limit {
    fn set(self, config: &mut RaftConfig) {
        match self {
            Self::Entries => config.unapplied_entries_max = ENTRIES_MAX,
            Self::Bytes => config.unapplied_bytes_max = BYTES_MAX,
        }
    }
}

async fn a_follower_stalls(limit: Limit) {
    let servers = start(|_| MemoryLogStore::new(), |config| limit.set(config)).await;
    let [leader, _, late] = &servers[..] else {
        unreachable!("three servers")
    };
    propose(&leader.raft, 1, COMMAND_BYTES).await;
    let term = leader.raft.status().term;
    let _open = OpenAtLast(late.gate.clone());
    late.gate.shut();

    // Ten times what it may have.
    let count = usize::try_from(10 * ENTRIES_MAX).unwrap();
    let mut last = LogIndex::ZERO;
    for _ in 0..10 {
        last = propose(&leader.raft, count / 10, COMMAND_BYTES).await;
        assert_within_bounds(&late.raft.status());
    }
    // It follows on for many election timeouts, and takes nothing.
    let mut status = reaches(&late.raft, |status| status.apply_stall.is_some()).await;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        status = late.raft.status();
        assert_within_bounds(&status);
        assert!(status.overloaded, "{status:?}");
        assert_eq!(status.role, RoleKind::Follower);
        assert_eq!((status.term, status.leader), (term, Some(leader.raft.id())));
        sleep(Duration::from_millis(50)).await;
    }
    assert!(status.appends_dropped > 0, "{status:?}");
    let health = status.health();
    assert!(
        matches!(
            health.reasons[..],
            [Unfit::ApplyStalled { .. }, Unfit::Overloaded { .. }]
        ),
        "{health:?}"
    );
    assert!(health.is_live() && !health.is_ready());
    // What it does not take is sent once per heartbeat, not in a flood.
    let before = status.appends_dropped;
    sleep(Duration::from_secs(2)).await;
    let dropped = late.raft.status().appends_dropped - before;
    assert!(dropped <= 2 * 40, "{dropped} in 40 heartbeats");

    late.gate.open();
    reaches(&late.raft, |status| status.applied >= last).await;
    let wanted = leader.raft.query("").await.unwrap();
    assert_eq!(late.raft.query("").await.unwrap(), wanted);
    reaches(&late.raft, has_nothing_left).await;
}

// On threads and a clock of their own: the state machine blocks its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_never_applies_has_few_entries_and_follows_on() {
    a_follower_stalls(Limit::Entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_never_applies_has_few_bytes_and_follows_on() {
    a_follower_stalls(Limit::Bytes).await;
}

async fn a_leader_stalls(limit: Limit) {
    let configure = |config: &mut RaftConfig| {
        limit.set(config);
        // What is taken in one turn may go over: a full queue, and what fills it
        // again while the loop lets others run.
        config.requests_waiting_max = 8;
    };
    let servers = start(|_| MemoryLogStore::new(), configure).await;
    let leader = &servers[0];
    propose(&leader.raft, 1, COMMAND_BYTES).await;
    let term = leader.raft.status().term;
    let _open = OpenAtLast(leader.gate.clone());
    leader.gate.shut();
    let mut replies = Vec::new();
    while !leader.raft.status().overloaded {
        match leader.raft.try_propose(vec![7; COMMAND_BYTES]) {
            Ok(reply) => replies.push(reply),
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
    assert_within_bounds(&leader.raft.status());
    let refused = leader.raft.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    let health = reaches(&leader.raft, |status| status.apply_stall.is_some())
        .await
        .health();
    assert!(
        matches!(
            health.reasons[..],
            [Unfit::ApplyStalled { .. }, Unfit::Overloaded { .. }]
        ),
        "{health:?}"
    );
    // The others apply what it took, and hear of it.
    let last = leader.raft.status().last_index;
    for server in &servers[1..] {
        let status = reaches(&server.raft, |status| status.applied >= last).await;
        assert_eq!((status.term, status.leader), (term, Some(leader.raft.id())));
    }
    leader.gate.open();
    // Who was taken has waited too long by now, and the command is applied.
    let mut taken = 0;
    for reply in replies {
        match reply.await.unwrap_err() {
            ProposeError::OutcomeUnknown => taken += 1,
            // It came when there was no room any more.
            error => assert_eq!(error, ProposeError::QuotaExceeded),
        }
    }
    assert!(taken > 100, "{taken}");
    let status = reaches(&leader.raft, has_nothing_left).await;
    assert_eq!(status.term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_never_applies_has_few_entries_and_leads_on() {
    a_leader_stalls(Limit::Entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_never_applies_has_few_bytes_and_leads_on() {
    a_leader_stalls(Limit::Bytes).await;
}

/// Calls that a state machine is to answer which never does, one of them made at
/// another server.
fn calls(leader: &Raft, other: &Raft) -> JoinSet<bool> {
    let mut calls = JoinSet::new();
    for raft in [leader, leader, leader, other] {
        let raft = raft.clone();
        calls.spawn(async move {
            let outcome = raft.propose("x").await;
            outcome.is_err_and(|error| error.is_indeterminate())
        });
    }
    for _ in 0..3 {
        let raft = leader.clone();
        calls.spawn(async move { raft.query("").await.is_err() });
        let raft = leader.clone();
        calls.spawn(async move { raft.read().await.is_err() });
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_waits_for_a_state_machine_that_never_answers_hears_so_in_time() {
    let servers = start(|_| MemoryLogStore::new(), |_| {}).await;
    let leader = &servers[0];
    propose(&leader.raft, 1, COMMAND_BYTES).await;
    let _open = OpenAtLast(leader.gate.clone());
    leader.gate.shut();
    let began = Instant::now();
    let ends = timeout(
        Duration::from_secs(20),
        calls(&leader.raft, &servers[1].raft).join_all(),
    )
    .await;
    assert_eq!(ends.expect("every call ends"), [true; 10]);
    assert!(began.elapsed() >= Duration::from_millis(1900));
    leader.gate.open();
    // They were committed, and are applied once.
    reaches(&leader.raft, has_nothing_left).await;
    let count = leader.raft.query("").await.unwrap();
    assert_eq!(count.as_ref(), 5_u64.to_le_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_ends_every_wait_for_a_state_machine_that_never_answers() {
    let patient = |config: &mut RaftConfig| config.proposal_timeout = 10 * PATIENCE;
    let servers = start(|_| MemoryLogStore::new(), patient).await;
    let leader = &servers[0];
    let first = propose(&leader.raft, 1, COMMAND_BYTES).await;
    let _open = OpenAtLast(leader.gate.clone());
    leader.gate.shut();
    let calls = calls(&leader.raft, &leader.raft);
    reaches(&leader.raft, |status| {
        status.commit >= first.plus(4) && status.waiting.reads == 0
    })
    .await;
    timeout(PATIENCE, leader.raft.shutdown())
        .await
        .expect("it stops");
    let ends = timeout(Duration::from_secs(20), calls.join_all()).await;
    assert_eq!(ends.expect("every call ends"), [true; 10]);
}

fn wal(folder: &Path, id: NodeId) -> WalLogStore {
    let options = WalLogStoreOptions::new(7, id);
    WalLogStore::open(&folder.join(id.to_string()), options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_never_applies_takes_no_memory_for_it() {
    const LARGE_BYTES: usize = 64 << 10;
    const COMMANDS: usize = 2048;
    const LIMIT_BYTES: u64 = 4 << 20;
    /// What the limits and the allocator take; all of it would be 128 MiB.
    const GROWTH_MAX_BYTES: u64 = 64 << 20;

    let folder = tempfile::tempdir().unwrap();
    let servers = start(
        |id| wal(folder.path(), id),
        |config| {
            config.append_bytes_max = 256 << 10;
            config.unapplied_bytes_max = LIMIT_BYTES;
            config.applying_bytes_max = LIMIT_BYTES;
            config.log_tail_bytes_max = LIMIT_BYTES;
            config.log_read_bytes_max = LIMIT_BYTES;
            config.inflight_bytes_max = LIMIT_BYTES;
            config.snapshot_entries = 300;
            config.snapshot_keep_entries = 10;
            config.proposal_timeout = PATIENCE;
        },
    )
    .await;
    let [leader, _, late] = &servers[..] else {
        unreachable!("three servers")
    };
    // What the load takes anyway.
    let warm = propose(&leader.raft, COMMANDS, LARGE_BYTES).await;
    reaches(&late.raft, |status| status.applied >= warm).await;
    let before = resident_bytes(Resident::Peak);
    let _open = OpenAtLast(late.gate.clone());
    late.gate.shut();
    let last = propose(&leader.raft, COMMANDS, LARGE_BYTES).await;
    let status = late.raft.status();
    assert!(
        status.applied < last && status.leader.is_some(),
        "{status:?}"
    );
    if let Some((before, peak)) = before.zip(resident_bytes(Resident::Peak)) {
        let grown = peak.saturating_sub(before);
        println!(
            "{} MiB that one of three servers does not apply: {} MiB of memory before, {} more",
            (COMMANDS * LARGE_BYTES) >> 20,
            before >> 20,
            grown >> 20
        );
        assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes");
    }
    late.gate.open();
    reaches(&late.raft, |status| status.applied >= last).await;
    let wanted = u64::try_from(2 * COMMANDS).unwrap().to_le_bytes();
    let count = late.raft.query(Bytes::new()).await.unwrap();
    assert_eq!(count.as_ref(), wanted);
    for server in &servers {
        server.raft.shutdown().await;
    }
}
