//! What a replica with real sockets and a real folder leaves behind when it ends:
//! no task, no thread, no open file, no port, no lock.
//!
//! One test in a process of its own: it counts everything that the process has.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use raft_tokio::{Raft, RaftConfig, StartError, TcpTransport, TcpTransportConfig, WalLogStore};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};

mod on_disk;
mod support;

use on_disk::{Servers, node_id};
use support::Journal;
use support::dropped::{Dropped, drop_at_await};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a thread of the runtime for blocking work stays when it has none.
const KEEP_ALIVE: Duration = Duration::from_millis(20);
const STARTS: usize = 12;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(KEEP_ALIVE)
        .enable_all()
        .build()
        .unwrap()
}

/// What a process has.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    /// By name, with how many there are.
    threads: BTreeMap<String, usize>,
    /// What each open file is, but for those through which this looks.
    files: Vec<PathBuf>,
    tasks: usize,
}

impl Belongings {
    fn now() -> Self {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir("/proc/self/task").unwrap() {
            // It may have ended meanwhile.
            if let Ok(name) = fs::read_to_string(thread.unwrap().path().join("comm")) {
                *threads.entry(name.trim().to_owned()).or_default() += 1;
            }
        }
        let mut files: Vec<_> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
            .filter(|target| !target.starts_with("/proc"))
            .collect();
        files.sort();
        Self {
            threads,
            files,
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }
}

/// Waits until the process has what it had; threads of the runtime take a moment.
async fn await_as_before(before: &Belongings, after: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Belongings::now();
        if now == *before {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "after {after}: {now:#?}\nbefore: {before:#?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

fn log(servers: &Servers, id: u64) -> WalLogStore {
    // At once, or the one before left its lock.
    servers.log(id).unwrap()
}

async fn transport(servers: &Servers, id: u64, log: &WalLogStore) -> TcpTransport {
    let peers = (1..=3).map(|peer| (node_id(peer), servers.address(peer).to_string()));
    let config = TcpTransportConfig {
        peers: peers.collect(),
        ..TcpTransportConfig::of(log, servers.address(id))
    };
    // At once, or the one before left its port.
    TcpTransport::bind(config).await.unwrap()
}

fn config(id: u64) -> RaftConfig {
    RaftConfig {
        tick: Duration::from_millis(10),
        snapshot_entries: 5,
        snapshot_keep_entries: 0,
        ..RaftConfig::new(node_id(id), (1..=3).map(node_id).collect())
    }
}

async fn start(servers: &Servers, id: u64) -> Result<Raft, StartError> {
    let log = log(servers, id);
    let transport = transport(servers, id, &log).await;
    Raft::start(config(id), Journal::default(), log, transport).await
}

async fn start_three(servers: &Servers) -> Vec<Raft> {
    let mut replicas = Vec::new();
    for id in 1..=3 {
        replicas.push(start(servers, id).await.unwrap());
    }
    replicas
}

/// Commands that are applied, some behind whoever has no leader, and reads.
async fn work(replicas: &[Raft]) {
    for raft in replicas {
        let written = async { while raft.propose("x").await.is_err() {} };
        timeout(PATIENCE, written).await.expect("somebody leads");
        let _ = raft.query("len").await;
    }
}

#[test]
fn whatever_the_end_nothing_is_left() {
    let runtime = runtime();
    runtime.block_on(async {
        let servers = Servers::new(3);
        // Once, for what a process makes once.
        let replicas = start_three(&servers).await;
        work(&replicas).await;
        for raft in &replicas {
            raft.shutdown().await;
        }
        drop(replicas);
        sleep(10 * KEEP_ALIVE).await;
        let before = Belongings::now();
        assert_eq!(before.tasks, 0, "{before:#?}");

        for _ in 0..STARTS {
            let replicas = start_three(&servers).await;
            work(&replicas).await;
            for raft in &replicas {
                timeout(PATIENCE, raft.shutdown()).await.expect("it stops");
            }
            // The next start finds ports and folders free at once.
        }
        await_as_before(&before, "shutdowns").await;

        for _ in 0..STARTS {
            let replicas = start_three(&servers).await;
            let pending = replicas[0].try_propose("perhaps").unwrap();
            let waits = tokio::spawn({
                let status = replicas[1].watch();
                async move { drop(status) }
            });
            drop(replicas);
            timeout(PATIENCE, pending)
                .await
                .expect("it ends")
                .unwrap_err();
            waits.await.unwrap();
            // Nobody can be asked whether it has ended, so the folders say it.
            await_as_before(&before, "the last handles were dropped").await;
        }

        for when in [Dropped::Waiting, Dropped::Woken] {
            // A folder that is begun, and one that is there.
            let new = Servers::new(1);
            for (servers, id) in [(&new, 1), (&servers, 1)] {
                let mut awaits = 0;
                loop {
                    let log = log(servers, id);
                    let config_of_transport = TcpTransportConfig::of(&log, servers.address(id));
                    let bound = TcpTransport::bind(config_of_transport);
                    let transport = bound.await.unwrap();
                    let config = RaftConfig::new(node_id(id), vec![node_id(id)]);
                    let start = Raft::start(config, Journal::default(), log, transport);
                    let started = drop_at_await(awaits, when, start).await;
                    let is_started = started.is_some();
                    drop(started);
                    await_as_before(&before, "a start was dropped").await;
                    if is_started {
                        break;
                    }
                    awaits += 1;
                }
                assert!(awaits > 0, "a start waits for its disk");
            }
        }

        for when in [Dropped::Waiting, Dropped::Woken] {
            for awaits in 0..3 {
                let log = log(&servers, 1);
                let config = || TcpTransportConfig::of(&log, servers.address(1));
                drop(drop_at_await(awaits, when, TcpTransport::bind(config())).await);
                let transport = TcpTransport::bind(config()).await.unwrap();
                let _ = drop_at_await(awaits, when, transport.shutdown()).await;
                drop(log);
                await_as_before(&before, "a transport was dropped").await;
            }
        }

        for _ in 0..STARTS {
            let log = log(&servers, 1);
            let transport = transport(&servers, 1, &log).await;
            let contradiction = RaftConfig {
                election_ticks: 0,
                ..config(1)
            };
            let refused = Raft::start(contradiction, Journal::default(), log, transport).await;
            assert!(refused.is_err());
        }
        await_as_before(&before, "starts were refused").await;
        // All of it was no harm to what is stored.
        let replicas = start_three(&servers).await;
        work(&replicas).await;
        for raft in &replicas {
            raft.shutdown().await;
        }
        await_as_before(&before, "the end").await;
    });
}
