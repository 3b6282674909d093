//! Messages as bytes, and back.

mod short;

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::{acknowledgement_packet, append_packet};
use raft_wire::frame::{FrameLimits, encode_packet, try_decode_frame};

fn frames(c: &mut Criterion) {
    let packets = [
        ("an acknowledgement", acknowledgement_packet()),
        ("an append of 1 x 16 B", append_packet(1, 16)),
        ("an append of 256 x 16 B", append_packet(256, 16)),
        ("an append of 256 x 1 KiB", append_packet(256, 1024)),
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
                black_box(&out);
            });
        });
        // What was received is made before, and dropped after the clock has stopped.
        group.bench_function("decode", |b| {
            let limits = FrameLimits::default();
            b.iter_batched(
                || BytesMut::from(&encoded[..]),
                |mut received| {
                    let frame = try_decode_frame(&mut received, &limits).expect("a frame");
                    assert!(frame.is_some(), "the frame is whole");
                    (frame, received)
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = short::criterion().sample_size(20);
    targets = frames
}
criterion_main!(benches);
