//! The machine against a model of a dozen lines, in random commands.

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::resp::{Reply, parse_reply};

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Set(u8, Vec<u8>, u8),
    Delete(u8, u8),
    Add(u8, i64),
    Append(u8, Vec<u8>),
    Length(u8),
    Count,
    GetMany(u8, u8),
    SetMany(u8, u8, Vec<u8>),
    Restore,
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i8>().prop_map(|number| number.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..5),
        Just(i64::MAX.to_string().into_bytes()),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || 0_u8..4;
    prop_oneof![
        key().prop_map(Step::Get),
        (key(), values(), 0_u8..6).prop_map(|(k, v, o)| Step::Set(k, v, o)),
        (key(), key()).prop_map(|(a, b)| Step::Delete(a, b)),
        (key(), -9_i64..9).prop_map(|(k, d)| Step::Add(k, d)),
        (key(), values()).prop_map(|(k, v)| Step::Append(k, v)),
        key().prop_map(Step::Length),
        Just(Step::Count),
        (key(), key()).prop_map(|(a, b)| Step::GetMany(a, b)),
        (key(), key(), values()).prop_map(|(a, b, v)| Step::SetMany(a, b, v)),
        Just(Step::Restore),
    ]
}

type Model = BTreeMap<u8, Vec<u8>>;

fn bulk(value: Option<&Vec<u8>>) -> Reply {
    value.map_or(Reply::Nil, |value| Reply::Bulk(value.clone().into()))
}

fn count(value: usize) -> Reply {
    Reply::Integer(value.try_into().unwrap())
}

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

/// What the model answers; `None` stands for some error.
fn model_step(model: &mut Model, step: &Step) -> Option<Reply> {
    Some(match step {
        Step::Get(key) => bulk(model.get(key)),
        Step::Set(key, value, options) => {
            let old = model.get(key).cloned();
            let writes = match options % 3 {
                0 => true,
                1 => old.is_none(),
                _ => old.is_some(),
            };
            if writes {
                model.insert(*key, value.clone());
            }
            match (*options < 3, writes) {
                (true, true) => ok(),
                (true, false) => Reply::Nil,
                (false, _) => bulk(old.as_ref()),
            }
        }
        Step::Delete(a, b) => {
            let removed = [a, b].map(|key| usize::from(model.remove(key).is_some()));
            count(removed.iter().sum())
        }
        Step::Add(key, delta) => {
            let text = model.get(key).cloned().unwrap_or_else(|| b"0".to_vec());
            let number: i64 = std::str::from_utf8(&text).ok()?.parse().ok()?;
            if number.to_string().as_bytes() != text {
                return None;
            }
            let sum = number.checked_add(*delta)?;
            model.insert(*key, sum.to_string().into_bytes());
            Reply::Integer(sum)
        }
        Step::Append(key, suffix) => {
            let value = model.entry(*key).or_default();
            value.extend(suffix);
            count(value.len())
        }
        Step::Length(key) => count(model.get(key).map_or(0, Vec::len)),
        Step::Count => count(model.len()),
        Step::GetMany(a, b) => Reply::Array([a, b].map(|key| bulk(model.get(key))).to_vec()),
        Step::SetMany(a, b, value) => {
            model.insert(*a, value.clone());
            model.insert(*b, value.clone());
            ok()
        }
        Step::Restore => return None,
    })
}

fn machine_step(machine: &mut KvMachine, step: &Step) -> Reply {
    let key = |key: &u8| [b'k', *key];
    let mut batch = Batch::new();
    match step {
        Step::Get(k) => batch.push(&Operation::Get { key: &key(k) }),
        Step::Set(k, value, options) => batch.push(&Operation::Set {
            key: &key(k),
            value,
            condition: match options % 3 {
                0 => Condition::Always,
                1 => Condition::IfAbsent,
                _ => Condition::IfPresent,
            },
            reply: if *options < 3 {
                SetReply::Done
            } else {
                SetReply::Previous
            },
        }),
        Step::Delete(a, b) => batch.push(&Operation::Delete {
            keys: Keys::from_slice(&[&key(a), &key(b)]),
        }),
        Step::Add(k, delta) => batch.push(&Operation::Add {
            key: &key(k),
            delta: *delta,
        }),
        Step::Append(k, suffix) => batch.push(&Operation::Append {
            key: &key(k),
            suffix,
        }),
        Step::Length(k) => batch.push(&Operation::Length { key: &key(k) }),
        Step::Count => batch.push(&Operation::Count),
        Step::GetMany(a, b) => batch.push(&Operation::GetMany {
            keys: Keys::from_slice(&[&key(a), &key(b)]),
        }),
        Step::SetMany(a, b, value) => batch.push(&Operation::SetMany {
            pairs: Pairs::from_slice(&[(&key(a), value), (&key(b), value)]),
        }),
        Step::Restore => {
            let encoded = machine.image().encode();
            *machine = KvMachine::default();
            machine.restore_image(&encoded[..]).unwrap();
            return Reply::Error("restored".into());
        }
    }
    let read_only = !batch.has_writes();
    let encoded = batch.into_bytes();
    let reply = machine.apply_batch(&encoded);
    if read_only {
        assert_eq!(
            machine.query_batch(&encoded).unwrap().replies,
            reply,
            "a query sees the same"
        );
    }
    let mut reply = BytesMut::from(reply);
    let parsed = parse_reply(&mut reply).unwrap().unwrap();
    assert!(reply.is_empty(), "one operation has one reply");
    parsed
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_does(steps in prop::collection::vec(steps(), 0..60)) {
        let mut machine = KvMachine::default();
        let mut model = Model::new();
        for step in &steps {
            let reply = machine_step(&mut machine, step);
            match model_step(&mut model, step) {
                Some(expected) => prop_assert_eq!(reply, expected, "{:?}", step),
                None => prop_assert!(matches!(reply, Reply::Error(_)), "{:?}: {:?}", step, reply),
            }
        }
    }
}

#[test]
fn a_query_does_not_write() {
    let mut machine = KvMachine::default();
    let mut batch = Batch::new();
    batch.push(&Operation::Add {
        key: b"n",
        delta: 1,
    });
    let encoded = batch.into_bytes();
    assert!(
        machine
            .query_batch(&encoded)
            .unwrap()
            .replies
            .starts_with(b"-ERR")
    );
    assert_eq!(&machine.apply_batch(&encoded)[..], b":1\r\n");
}

#[test]
fn a_malformed_entry_has_an_error_for_a_reply_and_changes_nothing() {
    let mut machine = KvMachine::default();
    let before = machine.image().encode();
    for entry in [&b""[..], b"\x02", b"\x01\x63\0\0\0\0\0", b"\x01\x02"] {
        assert!(machine.apply_batch(entry).starts_with(b"-ERR the entry "));
    }
    assert_eq!(machine.image().encode(), before);
}

/// A command of a client that is a few hundred bytes long must not make every
/// replica write gigabytes, at every start again.
#[test]
fn the_replies_to_a_batch_are_bounded_however_much_it_asks_for() {
    let mut machine = KvMachine::default();
    let value = vec![b'v'; 1 << 20];
    let mut first = Batch::new();
    first.push(&Operation::SetMany {
        pairs: Pairs::from_slice(&[(b"m", &value)]),
    });
    machine.apply_batch(&first.into_bytes());

    let mut batch = Batch::new();
    batch.push(&Operation::Add {
        key: b"before",
        delta: 1,
    });
    let keys: Keys<'_> = std::iter::repeat_n(&b"m"[..], 20).collect();
    for _ in 0..100 {
        batch.push(&Operation::GetMany { keys: keys.clone() });
    }
    batch.push(&Operation::Set {
        key: b"m",
        value: b"new",
        condition: Condition::Always,
        reply: SetReply::Previous,
    });
    batch.push(&Operation::Add {
        key: b"behind",
        delta: 1,
    });
    let encoded = batch.into_bytes();
    let replies = machine.apply_batch(&encoded);
    let bytes_max = BATCH_REPLY_BYTES_MAX + REPLY_BYTES_MAX;
    assert!(replies.len() < bytes_max, "{}", replies.len());
    let mut rest = BytesMut::from(replies);
    let mut kinds = Vec::new();
    while let Some(reply) = parse_reply(&mut rest).unwrap() {
        kinds.push(reply);
    }
    assert_eq!(kinds.len(), 103, "every operation has its reply");
    assert_eq!(kinds[0], Reply::Integer(1));
    assert!(matches!(kinds[1], Reply::Array(_)));
    assert!(
        kinds[2..102]
            .iter()
            .all(|kind| matches!(kind, Reply::Error(_)))
    );
    assert_eq!(kinds[102], Reply::Integer(1), "what shows nothing is done");
    // What was refused was not done.
    let mut look = Batch::new();
    look.push(&Operation::Length { key: b"m" });
    let answers = machine.query_batch(&look.into_bytes()).unwrap();
    assert_eq!(answers.replies, format!(":{}\r\n", 1 << 20));
}
