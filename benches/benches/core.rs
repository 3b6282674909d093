//! The synchronous core: three nodes in one thread, and one step of one node.

mod short;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::Trio;
use raft_core::{Body, Message, NodeId, Term};

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("core, three nodes");
    for (batch, payload_bytes) in [(1, 16), (16, 16), (256, 16), (256, 1024)] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{batch} x {payload_bytes} B"), |b| {
            let mut trio = Trio::default();
            b.iter(|| trio.commit(batch, payload_bytes));
        });
    }
    group.finish();
}

fn single_steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("core, one node");
    group.throughput(Throughput::Elements(1));
    group.bench_function("an answer to a heartbeat", |b| {
        let mut trio = Trio::default();
        let leader = trio.leader();
        let (to, term) = (leader.id(), leader.term());
        b.iter(|| {
            leader
                .step(black_box(answer(to, term)))
                .expect("a leader takes it");
        });
    });
    group.bench_function("has_ready", |b| {
        let mut trio = Trio::default();
        let leader = trio.leader();
        b.iter(|| black_box(&*leader).has_ready());
    });
    group.finish();
}

/// A leader's tick, the heartbeats that it sends, and their answers.
fn tick(c: &mut Criterion) {
    let mut group = c.benchmark_group("core, three nodes");
    group.throughput(Throughput::Elements(1));
    group.bench_function("tick and its heartbeats", |b| {
        let mut trio = Trio::default();
        b.iter(|| {
            trio.leader().tick().expect("the node lives");
            trio.settle();
        });
    });
    group.finish();
}

fn answer(to: NodeId, term: Term) -> Message {
    Message {
        to,
        from: NodeId::new(2).expect("a node id"),
        term,
        body: Body::HeartbeatResponse {
            context: Bytes::new(),
        },
    }
}

criterion_group! {
    name = benches;
    config = short::criterion().sample_size(20);
    targets = commit, tick, single_steps
}
criterion_main!(benches);
