//! The service's parts: batches of operations as the log spells them in its state
//! machine, and the Redis protocol. The whole is in `service.rs`.

mod short;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_kv::machine::{Batch, Condition, KvMachine, Operation, SetReply};
use raft_kv::resp::{self, RequestLimits, RequestParser};

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
    let gets: Vec<Bytes> = (0..KEYS)
        .map(|number| {
            let mut batch = Batch::new();
            batch.push(&Operation::Get {
                key: key(number).as_bytes(),
            });
            batch.into_bytes()
        })
        .collect();
    let mut turn = gets.iter().cycle();
    let mut group = c.benchmark_group("kv, answer");
    group.throughput(Throughput::Elements(1));
    group.bench_function("1 GET of 64 B", |b| {
        b.iter(|| machine.answer(black_box(turn.next().expect("it goes round"))));
    });
    group.finish();
}

/// What the server does with the bytes of a request, and for those of a reply.
fn protocol(c: &mut Criterion) {
    let mut group = c.benchmark_group("kv, protocol");
    for value_bytes in [64, 1024] {
        let value = vec![7; value_bytes];
        let mut request = BytesMut::new();
        resp::put_request(&mut request, [&b"SET"[..], b"key:00001234", &value]);
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(format!("parse a SET of {value_bytes} B"), |b| {
            let mut parser = RequestParser::new(RequestLimits::default());
            b.iter(|| {
                let parsed = parser.parse(black_box(&request)).expect("well-formed");
                assert!(parsed.is_some(), "it is whole");
            });
        });
        group.throughput(Throughput::Bytes(value_bytes as u64));
        group.bench_function(format!("write a reply of {value_bytes} B"), |b| {
            let mut out = BytesMut::with_capacity(2 * value_bytes);
            b.iter(|| {
                out.clear();
                resp::write::bulk(&mut out, black_box(&value));
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short::criterion().sample_size(20);
    targets = apply, query, protocol
}
criterion_main!(benches);
