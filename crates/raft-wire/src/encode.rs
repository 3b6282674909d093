//! # Raft to bytes
//!
//! Which field of etcd's messages carries what, on the way out. Written straight
//! from the types of `raft-core`; an entry's payload is copied once, into the
//! buffer that goes to the socket.
//!
//! - Owns: nothing.
//! - Emits: the encodings of `proto/raftpb.proto`.
//! - Source: etcd `raft.proto`; which fields are present: `send` and its callers
//!   in etcd's raft 3.7.

use bytes::BytesMut;
use raft_core::{
    AppendResponse, Body, ConfState, Entry, EntryType, HardState, Message, NodeId, Proposal, Round,
    Snapshot, SnapshotMetadata, Term, VoteResponse,
};

use crate::proto::raftpb::MessageType;
use crate::sink::{Encode, Sink};

/// What a vote's context says if the leader asked for the election.
pub(crate) const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// Appends `message` to `out`, as etcd's `raftpb.Message`.
pub fn encode_message(message: &Message, out: &mut BytesMut) {
    message.encode(out);
}

/// The length in bytes of what [`encode_message`] appends.
pub fn encoded_message_len(message: &Message) -> usize {
    message.encoded_len()
}

/// Appends `entry` to `out`, as etcd's `raftpb.Entry`. It takes
/// [`Entry::encoded_len`] bytes.
pub fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    entry.encode(out);
}

/// Appends `metadata` to `out`, as etcd's `raftpb.SnapshotMetadata`.
pub fn encode_snapshot_metadata(metadata: &SnapshotMetadata, out: &mut BytesMut) {
    metadata.encode(out);
}

/// Appends `conf_state` to `out`, as etcd's `raftpb.ConfState`.
pub fn encode_conf_state(conf_state: &ConfState, out: &mut BytesMut) {
    conf_state.encode(out);
}

/// Appends `hard_state` to `out`, as etcd's `raftpb.HardState`.
pub fn encode_hard_state(hard_state: &HardState, out: &mut BytesMut) {
    hard_state.encode(out);
}

impl Encode for Message {
    fn fields(&self, sink: &mut impl Sink) {
        sink.number(1, number_of(message_type(&self.body)));
        sink.number(2, self.to.get());
        sink.number(3, self.from.get());
        // The two kinds that belong to no term have no term to write.
        if !self.body.is_termless() || self.term != Term::ZERO {
            sink.number(4, self.term.get());
        }
        match &self.body {
            Body::Propose { proposals } => {
                for proposal in proposals {
                    sink.message(7, proposal);
                }
            }
            Body::Append {
                prev,
                entries,
                commit,
            } => {
                sink.number(5, prev.term.get());
                sink.number(6, prev.index.get());
                for entry in entries.slices().flatten() {
                    sink.message(7, entry);
                }
                sink.number(8, commit.get());
            }
            Body::AppendResponse(AppendResponse::Accepted { matched }) => {
                sink.number(6, matched.get());
            }
            Body::AppendResponse(AppendResponse::Rejected { at, hint }) => {
                sink.number(5, hint.term.get());
                sink.number(6, at.get());
                sink.number(10, 1);
                sink.number(11, hint.index.get());
            }
            Body::RequestVote {
                round: _,
                last,
                transfer,
            } => {
                sink.number(5, last.term.get());
                sink.number(6, last.index.get());
                if *transfer {
                    sink.bytes(12, CAMPAIGN_TRANSFER);
                }
            }
            Body::VoteResponse { round: _, vote } => match vote {
                VoteResponse::Granted => {}
                VoteResponse::Rejected => sink.number(10, 1),
            },
            Body::Snapshot(snapshot) => sink.message(9, &**snapshot),
            Body::Heartbeat { commit, context } => {
                sink.number(8, commit.get());
                sink.bytes_unless_empty(12, context);
            }
            Body::HeartbeatResponse { context } => sink.bytes_unless_empty(12, context),
            Body::ReadIndex { context } => sink.message(7, &ReadContext(context)),
            Body::ReadIndexResponse { index, context } => {
                sink.number(6, index.get());
                sink.message(7, &ReadContext(context));
            }
            Body::TransferLeader | Body::TimeoutNow | Body::ForgetLeader => {}
        }
    }
}

const fn message_type(body: &Body) -> MessageType {
    match body {
        Body::Propose { .. } => MessageType::MsgProp,
        Body::Append { .. } => MessageType::MsgApp,
        Body::AppendResponse(_) => MessageType::MsgAppResp,
        Body::RequestVote { round, .. } => match round {
            Round::Vote => MessageType::MsgVote,
            Round::PreVote => MessageType::MsgPreVote,
        },
        Body::VoteResponse { round, .. } => match round {
            Round::Vote => MessageType::MsgVoteResp,
            Round::PreVote => MessageType::MsgPreVoteResp,
        },
        Body::Snapshot(_) => MessageType::MsgSnap,
        Body::Heartbeat { .. } => MessageType::MsgHeartbeat,
        Body::HeartbeatResponse { .. } => MessageType::MsgHeartbeatResp,
        Body::TransferLeader => MessageType::MsgTransferLeader,
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::ReadIndex { .. } => MessageType::MsgReadIndex,
        Body::ReadIndexResponse { .. } => MessageType::MsgReadIndexResp,
        Body::ForgetLeader => MessageType::MsgForgetLeader,
    }
}

impl Encode for Entry {
    fn fields(&self, sink: &mut impl Sink) {
        if self.type_is_explicit() {
            sink.number(1, entry_type_number(self.entry_type()));
        }
        sink.number(2, self.term().get());
        sink.number(3, self.index().get());
        sink.bytes_unless_empty(4, self.data());
    }

    fn encoded_len(&self) -> usize {
        // Counted when the entry was made.
        usize::try_from(Self::encoded_len(self)).unwrap_or(usize::MAX)
    }
}

/// An entry that nobody has numbered yet.
impl Encode for Proposal {
    fn fields(&self, sink: &mut impl Sink) {
        if self.entry_type != EntryType::Normal {
            sink.number(1, entry_type_number(self.entry_type));
        }
        sink.bytes_unless_empty(4, &self.data);
    }
}

/// A read's context travels as the data of an entry.
struct ReadContext<'a>(&'a [u8]);

impl Encode for ReadContext<'_> {
    fn fields(&self, sink: &mut impl Sink) {
        sink.bytes_unless_empty(4, self.0);
    }
}

const fn entry_type_number(entry_type: EntryType) -> u64 {
    match entry_type {
        EntryType::Normal => 0,
        EntryType::ConfChange => 1,
        EntryType::ConfChangeV2 => 2,
    }
}

impl Encode for Snapshot {
    fn fields(&self, sink: &mut impl Sink) {
        sink.bytes_unless_empty(1, &self.data);
        sink.message(2, &self.metadata);
    }
}

impl Encode for SnapshotMetadata {
    fn fields(&self, sink: &mut impl Sink) {
        sink.message(1, &self.conf_state);
        sink.number(2, self.index.get());
        sink.number(3, self.term.get());
    }
}

impl Encode for ConfState {
    fn fields(&self, sink: &mut impl Sink) {
        let sets = [
            (1, &self.voters),
            (2, &self.learners),
            (3, &self.voters_outgoing),
            (4, &self.learners_next),
        ];
        for (field, ids) in sets {
            for id in ids {
                sink.number(field, id.get());
            }
        }
        sink.number(5, u64::from(self.auto_leave));
    }
}

impl Encode for HardState {
    fn fields(&self, sink: &mut impl Sink) {
        sink.number(1, self.term.get());
        sink.number(2, self.vote.map_or(0, NodeId::get));
        sink.number(3, self.commit.get());
    }
}

/// The number of a protobuf enum's value.
fn number_of(value: impl Into<i32>) -> u64 {
    u64::try_from(value.into()).unwrap_or(0)
}
