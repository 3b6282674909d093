//! `Raft::propose`, clients that each await their reply: one and three nodes,
//! logs in memory and on the disk.

mod short;

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::{run_clients, start_in_memory, start_with, two_threads};
use raft_tokio::{NodeId, Raft, WalLogStore, WalLogStoreOptions};
use tokio::runtime::Runtime;

const CLIENTS: [u64; 3] = [1, 64, 1024];
const MEMBERS: [u64; 2] = [1, 3];

/// Time per command of `clients` clients.
fn bench_clients(c: &mut Criterion, name: &str, start: impl Fn(&Runtime, u64) -> Vec<Raft>) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for members in MEMBERS {
        let runtime = two_threads();
        let rafts = start(&runtime, members);
        for clients in CLIENTS {
            group.bench_function(format!("{members} nodes, {clients} clients"), |b| {
                b.iter_custom(|commands| {
                    // Some rounds of all clients, or few would run at a time.
                    let commands_each = commands.div_ceil(clients).max(4);
                    let leader = rafts[0].clone();
                    let load = async move {
                        let begin = Instant::now();
                        run_clients(&leader, clients, commands_each).await;
                        begin.elapsed()
                    };
                    let elapsed = runtime.block_on(runtime.spawn(load)).expect("it runs");
                    elapsed.mul_f64(ratio(commands, clients * commands_each))
                });
            });
        }
        runtime.block_on(async {
            for raft in rafts {
                raft.shutdown().await;
            }
        });
    }
    group.finish();
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn memory(c: &mut Criterion) {
    bench_clients(c, "handle, memory", |runtime, members| {
        runtime
            .block_on(runtime.spawn(start_in_memory(members)))
            .expect("a cluster")
    });
}

fn wal(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the logs");
    let path = folder.path().to_owned();
    bench_clients(c, "handle, log on disk", |runtime, members| {
        let path = path.join(members.to_string());
        let log = move |id: NodeId| {
            let folder = path.join(id.to_string());
            std::fs::create_dir_all(&folder).expect("a folder for the log");
            WalLogStore::open(&folder, WalLogStoreOptions::new(1, id)).expect("a log")
        };
        let start = async move { start_with(members, log).await };
        runtime.block_on(runtime.spawn(start)).expect("a cluster")
    });
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = memory, wal
}
criterion_main!(benches);
