//! What the tests of this crate share: any message, and the same message on
//! prost's way.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use raft_core::{
    AppendResponse, Body, ConfState, Entries, Entry, EntryId, EntryType, LogIndex, Message, NodeId,
    Proposal, Round, Snapshot, SnapshotMetadata, Term, VoteResponse,
};

pub(crate) mod prost_way;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Numbers of every encoded length.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift)
}

pub(crate) fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term::new)
}

pub(crate) fn index() -> impl Strategy<Value = LogIndex> {
    number().prop_map(LogIndex::new)
}

pub(crate) fn entry_id() -> impl Strategy<Value = EntryId> {
    (term(), index()).prop_map(|(term, index)| EntryId::new(term, index))
}

pub(crate) fn node_id() -> impl Strategy<Value = NodeId> {
    number().prop_map(|id| node(id.clamp(1, NodeId::MAX)))
}

pub(crate) fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        (any::<u8>(), 100_usize..300).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

pub(crate) fn entry_type() -> impl Strategy<Value = EntryType> {
    prop_oneof![
        Just(EntryType::Normal),
        Just(EntryType::ConfChange),
        Just(EntryType::ConfChangeV2),
    ]
}

pub(crate) fn entry_at(index: impl Strategy<Value = LogIndex>) -> impl Strategy<Value = Entry> {
    let refused = any::<bool>();
    (term(), index, entry_type(), payload(), refused).prop_map(
        |(term, index, entry_type, data, refused)| {
            if refused && entry_type == EntryType::Normal {
                Entry::refused_conf_change(term, index)
            } else {
                Entry::new(term, index, entry_type, data)
            }
        },
    )
}

pub(crate) fn entries() -> impl Strategy<Value = Entries> {
    let first = 0..u64::MAX - 10;
    (first, number(), 0_usize..6).prop_flat_map(|(first, mask, count)| {
        let first = first & mask;
        let batch: Vec<_> = (0..count as u64)
            .map(|offset| entry_at(Just(LogIndex::new(first + offset))))
            .collect();
        batch.prop_map(|batch| Entries::from_batch(batch).unwrap())
    })
}

pub(crate) fn proposal() -> impl Strategy<Value = Proposal> {
    (entry_type(), payload()).prop_map(|(entry_type, data)| Proposal { entry_type, data })
}

pub(crate) fn conf_state() -> impl Strategy<Value = ConfState> {
    let ids = || vec(node_id(), 0..4);
    (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    )
}

pub(crate) fn snapshot_metadata() -> impl Strategy<Value = SnapshotMetadata> {
    (index(), term(), conf_state()).prop_map(|(index, term, conf_state)| SnapshotMetadata {
        index,
        term,
        conf_state,
    })
}

pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    (snapshot_metadata(), payload()).prop_map(|(metadata, data)| Snapshot { metadata, data })
}

fn round() -> impl Strategy<Value = Round> {
    prop_oneof![Just(Round::Vote), Just(Round::PreVote)]
}

fn vote() -> impl Strategy<Value = VoteResponse> {
    prop_oneof![Just(VoteResponse::Granted), Just(VoteResponse::Rejected)]
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        vec(proposal(), 0..5).prop_map(|proposals| Body::Propose { proposals }),
        (entry_id(), entries(), index()).prop_map(|(prev, entries, commit)| Body::Append {
            prev,
            entries,
            commit
        }),
        index().prop_map(|matched| Body::AppendResponse(AppendResponse::Accepted { matched })),
        (index(), entry_id())
            .prop_map(|(at, hint)| Body::AppendResponse(AppendResponse::Rejected { at, hint })),
        (round(), entry_id(), any::<bool>()).prop_map(|(round, last, transfer)| {
            Body::RequestVote {
                round,
                last,
                transfer,
            }
        }),
        (round(), vote()).prop_map(|(round, vote)| Body::VoteResponse { round, vote }),
        snapshot().prop_map(|snapshot| Body::Snapshot(Box::new(snapshot))),
        (index(), payload()).prop_map(|(commit, context)| Body::Heartbeat { commit, context }),
        payload().prop_map(|context| Body::HeartbeatResponse { context }),
        Just(Body::TransferLeader),
        Just(Body::TimeoutNow),
        payload().prop_map(|context| Body::ReadIndex { context }),
        (index(), payload())
            .prop_map(|(index, context)| Body::ReadIndexResponse { index, context }),
        Just(Body::ForgetLeader),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    (node_id(), node_id(), term(), body()).prop_map(|(to, from, term, body)| Message {
        to,
        from,
        term,
        body,
    })
}

/// One change to bytes that were whole.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    Truncate(prop::sample::Index),
}

pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let place = || any::<prop::sample::Index>();
    let one = prop_oneof![
        (place(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (place(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        place().prop_map(Damage::Remove),
        place().prop_map(Damage::Truncate),
    ];
    vec(one, 1..4)
}

pub(crate) fn damaged(bytes: &[u8], damage: &[Damage]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for damage in damage {
        match damage {
            Damage::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            _ if bytes.is_empty() => {}
            Damage::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Damage::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Damage::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes.into()
}

/// Bytes that are made of protobuf fields with low numbers, some of which nest.
pub(crate) fn protobuf_like() -> impl Strategy<Value = Bytes> {
    let leaf = vec(any::<u8>(), 0..12).prop_map(Bytes::from);
    leaf.prop_recursive(4, 40, 6, |inner| {
        let field = prop_oneof![
            (0_u8..16, number()).prop_map(|(field, value)| {
                let mut out = vec![field << 3];
                prost::encoding::encode_varint(value, &mut out);
                out
            }),
            // What comes after an id or a type in a real message.
            (1_u8..4, 0_u8..26).prop_map(|(field, value)| vec![field << 3, value]),
            (0_u8..16, inner).prop_map(|(field, inner)| {
                let mut out = vec![field << 3 | 2];
                prost::encoding::encode_varint(inner.len() as u64, &mut out);
                out.extend_from_slice(&inner);
                out
            }),
        ];
        vec(field, 0..8).prop_map(|fields| Bytes::from(fields.concat()))
    })
}

/// What `encode` appends.
pub(crate) fn written(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}
