//! Messages as bytes, and back.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::{AppendResponse, Body, Entries, Entry, EntryId, LogIndex, Message, NodeId, Term};
use raft_wire::frame::{FrameLimits, Packet, encode_packet, try_decode_frame};

fn message(body: Body) -> Packet {
    Packet::Raft {
        group: 1,
        message: Message {
            to: NodeId::new(2).expect("a node id"),
            from: NodeId::new(1).expect("a node id"),
            term: Term::new(3),
            body,
        },
    }
}

fn append(count: u64, payload_bytes: usize) -> Packet {
    let payload = Bytes::from(vec![7; payload_bytes]);
    let entries = (100_000..100_000 + count)
        .map(|index| Entry::normal(Term::new(3), LogIndex::new(index), payload.clone()))
        .collect();
    message(Body::Append {
        prev: EntryId::new(Term::new(3), LogIndex::new(99_999)),
        entries: Entries::from_batch(entries).expect("consecutive"),
        commit: LogIndex::new(99_000),
    })
}

fn frames(c: &mut Criterion) {
    let accepted = AppendResponse::Accepted {
        matched: LogIndex::new(100_000),
    };
    let packets = [
        (
            "an acknowledgement",
            message(Body::AppendResponse(accepted)),
        ),
        ("an append of 1 x 16 B", append(1, 16)),
        ("an append of 256 x 256 B", append(256, 256)),
    ];
    for (name, packet) in packets {
        let mut encoded = BytesMut::new();
        encode_packet(&packet, &mut encoded).expect("it fits a frame");
        let mut group = c.benchmark_group(format!("wire, {name}"));
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function("encode", |b| {
            let mut out = BytesMut::with_capacity(2 * encoded.len());
            b.iter(|| {
                out.clear();
                encode_packet(black_box(&packet), &mut out).expect("it fits a frame");
            });
        });
        group.bench_function("decode, a copy of the bytes included", |b| {
            let limits = FrameLimits::default();
            b.iter(|| {
                let mut received = BytesMut::from(&encoded[..]);
                try_decode_frame(black_box(&mut received), &limits).expect("a frame")
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = frames
}
criterion_main!(benches);
