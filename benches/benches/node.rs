//! `Node`: the protocol behind channels, a single voter whose effects are
//! carried out here.

mod short;

use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::two_threads;
use raft_core::{ConfState, Config, MemoryStorage, NodeId};
use raft_tokio::{Node, Readys, SharedStorage};

const LOG_ENTRIES_MAX: u64 = 20_000;

/// Carries Readys out until one applies a command.
async fn commit(node: &Node, readys: &mut Readys, storage: &SharedStorage) {
    loop {
        let ready = readys.next().await.expect("the node lives");
        if let Some(append) = ready.append {
            storage.write(append).expect("no gap");
        }
        node.advance().await.expect("the node lives");
        let Some(last) = ready.apply.and_then(|apply| apply.entries.last_id()) else {
            continue;
        };
        if last.index.get() % LOG_ENTRIES_MAX == 0 {
            storage.lock().compact(last.index).expect("in the log");
        }
        return;
    }
}

fn propose(c: &mut Criterion) {
    let runtime = two_threads();
    let mut group = c.benchmark_group("node, one voter");
    group.throughput(Throughput::Elements(1));
    group.bench_function("propose to apply", |b| {
        b.iter_custom(|commands| {
            let load = async move {
                let id = NodeId::new(1).expect("a node id");
                let voters = ConfState::of_voters([id]);
                let storage = SharedStorage::new(MemoryStorage::with_conf_state(voters));
                let (node, mut readys) =
                    Node::start(Config::protected(id), storage.clone()).expect("a node");
                node.campaign().await.expect("the node lives");
                // The entry that begins the term.
                commit(&node, &mut readys, &storage).await;
                let begin = Instant::now();
                for _ in 0..commands {
                    let command = Bytes::from_static(&[7; 16]);
                    node.propose(command).await.expect("a leader");
                    commit(&node, &mut readys, &storage).await;
                }
                let elapsed = begin.elapsed();
                node.stop().await;
                elapsed
            };
            runtime.block_on(runtime.spawn(load)).expect("it runs")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = propose
}
criterion_main!(benches);
