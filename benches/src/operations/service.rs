//! # Operations of the service

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use raft_kv::machine::{Batch, Condition, KvMachine, Operation as KvOperation, SetReply};
use raft_kv::resp::{self, RequestLimits, RequestParser};

const VALUE: [u8; 64] = [b'v'; 64];
/// Few, so that the first pass over them is no part of a count.
const KEYS: usize = 100;

pub(super) fn parse_set(times: u32) {
    let mut input = BytesMut::new();
    resp::put_request(&mut input, [&b"SET"[..], b"key:1234", &VALUE]);
    let mut parser = RequestParser::new(RequestLimits::default());
    for _ in 0..times {
        let request = parser.parse(black_box(&input));
        assert!(request.expect("well-formed").is_some(), "it is whole");
    }
}

fn keys() -> impl Iterator<Item = String> + Clone {
    (0..KEYS).map(|number| format!("key:{number:08}"))
}

/// For each key a batch with one operation.
fn sets() -> Vec<Bytes> {
    let set = |key: String| {
        batch(&KvOperation::Set {
            key: key.as_bytes(),
            value: &VALUE,
            condition: Condition::Always,
            reply: SetReply::Done,
        })
    };
    keys().map(set).collect()
}

fn batch(operation: &KvOperation<'_>) -> Bytes {
    let mut batch = Batch::new();
    batch.push(operation);
    batch.into_bytes()
}

fn filled() -> KvMachine {
    let mut machine = KvMachine::default();
    for batch in sets() {
        machine.apply_batch(&batch);
    }
    machine
}

pub(super) fn apply_set(times: u32) {
    let mut machine = filled();
    for batch in sets().iter().cycle().take(times as usize) {
        black_box(machine.apply_batch(black_box(batch)));
    }
}

pub(super) fn answer_get(times: u32) {
    let machine = filled();
    let gets: Vec<Bytes> = keys()
        .map(|key| {
            batch(&KvOperation::Get {
                key: key.as_bytes(),
            })
        })
        .collect();
    for batch in gets.iter().cycle().take(times as usize) {
        black_box(machine.answer(black_box(batch)));
    }
}

pub(super) fn write_reply(times: u32) {
    let mut out = BytesMut::with_capacity(1 << 10);
    for _ in 0..times {
        out.clear();
        resp::write::bulk(&mut out, black_box(&VALUE));
        black_box(&out);
    }
}
