//! The service's state machine: batches of operations as the log spells them.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_kv::machine::{Batch, Condition, KvMachine, Operation, SetReply};

const KEYS: u64 = 10_000;

fn key(number: u64) -> String {
    format!("key:{:08}", number % KEYS)
}

/// Batches that set every key once.
fn sets(operations: u64, value: &[u8]) -> Vec<Bytes> {
    (0..KEYS / operations)
        .map(|batch_number| {
            let mut batch = Batch::new();
            for number in 0..operations {
                batch.push(&Operation::Set {
                    key: key(batch_number * operations + number).as_bytes(),
                    value,
                    condition: Condition::Always,
                    reply: SetReply::Done,
                });
            }
            batch.into_bytes()
        })
        .collect()
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("kv, apply");
    for (operations, value_bytes) in [(1, 64), (100, 64), (100, 1024)] {
        let batches = sets(operations, &vec![7; value_bytes]);
        let mut machine = KvMachine::default();
        let mut turn = batches.iter().cycle();
        group.throughput(Throughput::Elements(operations));
        group.bench_function(format!("{operations} SET of {value_bytes} B"), |b| {
            b.iter(|| {
                let batch = turn.next().expect("it goes round");
                machine.apply_batch(black_box(batch))
            });
        });
    }
    group.finish();
}

fn query(c: &mut Criterion) {
    let mut machine = KvMachine::default();
    for batch in sets(100, &[7; 64]) {
        machine.apply_batch(&batch);
    }
    let mut number = 0;
    c.bench_function("kv, query: GET of 64 B", |b| {
        b.iter(|| {
            number += 1;
            let mut batch = Batch::new();
            batch.push(&Operation::Get {
                key: key(number).as_bytes(),
            });
            machine.query_batch(&batch.into_bytes())
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = apply, query
}
criterion_main!(benches);
