//! The same conversions through prost's types: slower, and written on its own
//! from the definition, so that the two can be held against each other.

use bytes::Bytes;
use raft_core::{
    AppendResponse, Body, ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex,
    Message, NodeId, Proposal, Round, Snapshot, SnapshotMetadata, Term, VoteResponse,
};
use raft_wire::proto::raftpb as pb;

/// Why prost's way refuses a message.
#[derive(Debug)]
pub(crate) enum Refused {
    NotProtobuf,
    NotAMessage,
}

fn some_unless_empty(bytes: &Bytes) -> Option<Bytes> {
    (!bytes.is_empty()).then(|| bytes.clone())
}

fn type_number(entry_type: EntryType) -> i32 {
    match entry_type {
        EntryType::Normal => pb::EntryType::EntryNormal,
        EntryType::ConfChange => pb::EntryType::EntryConfChange,
        EntryType::ConfChangeV2 => pb::EntryType::EntryConfChangeV2,
    }
    .into()
}

pub(crate) fn entry(entry: &Entry) -> pb::Entry {
    pb::Entry {
        r#type: entry
            .type_is_explicit()
            .then(|| type_number(entry.entry_type())),
        term: Some(entry.term().get()),
        index: Some(entry.index().get()),
        data: some_unless_empty(entry.data()),
    }
}

fn proposal(proposal: &Proposal) -> pb::Entry {
    pb::Entry {
        r#type: (proposal.entry_type != EntryType::Normal)
            .then(|| type_number(proposal.entry_type)),
        data: some_unless_empty(&proposal.data),
        ..Default::default()
    }
}

fn read_context(context: &Bytes) -> pb::Entry {
    pb::Entry {
        data: some_unless_empty(context),
        ..Default::default()
    }
}

pub(crate) fn hard_state(state: &HardState) -> pb::HardState {
    pb::HardState {
        term: Some(state.term.get()),
        vote: Some(state.vote.map_or(0, NodeId::get)),
        commit: Some(state.commit.get()),
    }
}

pub(crate) fn conf_state(state: &ConfState) -> pb::ConfState {
    let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.get()).collect();
    pb::ConfState {
        voters: numbers(&state.voters),
        learners: numbers(&state.learners),
        voters_outgoing: numbers(&state.voters_outgoing),
        learners_next: numbers(&state.learners_next),
        auto_leave: Some(state.auto_leave),
    }
}

pub(crate) fn snapshot_metadata(metadata: &SnapshotMetadata) -> pb::SnapshotMetadata {
    pb::SnapshotMetadata {
        conf_state: Some(conf_state(&metadata.conf_state)),
        index: Some(metadata.index.get()),
        term: Some(metadata.term.get()),
    }
}

pub(crate) fn message(message: &Message) -> pb::Message {
    let base = pb::Message {
        to: Some(message.to.get()),
        from: Some(message.from.get()),
        term: Some(message.term.get()),
        ..Default::default()
    };
    let termless = pb::Message {
        term: Some(message.term.get()).filter(|term| *term != 0),
        ..base.clone()
    };
    let (kind, filled) = match &message.body {
        Body::Propose { proposals } => (
            pb::MessageType::MsgProp,
            pb::Message {
                entries: proposals.iter().map(proposal).collect(),
                ..termless
            },
        ),
        Body::Append {
            prev,
            entries,
            commit,
        } => (
            pb::MessageType::MsgApp,
            pb::Message {
                log_term: Some(prev.term.get()),
                index: Some(prev.index.get()),
                entries: entries.iter().map(entry).collect(),
                commit: Some(commit.get()),
                ..base
            },
        ),
        Body::AppendResponse(AppendResponse::Accepted { matched }) => (
            pb::MessageType::MsgAppResp,
            pb::Message {
                index: Some(matched.get()),
                ..base
            },
        ),
        Body::AppendResponse(AppendResponse::Rejected { at, hint }) => (
            pb::MessageType::MsgAppResp,
            pb::Message {
                index: Some(at.get()),
                reject: Some(true),
                reject_hint: Some(hint.index.get()),
                log_term: Some(hint.term.get()),
                ..base
            },
        ),
        Body::RequestVote {
            round,
            last,
            transfer,
        } => (
            match round {
                Round::Vote => pb::MessageType::MsgVote,
                Round::PreVote => pb::MessageType::MsgPreVote,
            },
            pb::Message {
                index: Some(last.index.get()),
                log_term: Some(last.term.get()),
                context: transfer.then(|| Bytes::from_static(b"CampaignTransfer")),
                ..base
            },
        ),
        Body::VoteResponse { round, vote } => (
            match round {
                Round::Vote => pb::MessageType::MsgVoteResp,
                Round::PreVote => pb::MessageType::MsgPreVoteResp,
            },
            pb::Message {
                reject: (*vote == VoteResponse::Rejected).then_some(true),
                ..base
            },
        ),
        Body::Snapshot(snapshot) => (
            pb::MessageType::MsgSnap,
            pb::Message {
                snapshot: Some(Box::new(pb::Snapshot {
                    data: some_unless_empty(&snapshot.data),
                    metadata: Some(snapshot_metadata(&snapshot.metadata)),
                })),
                ..base
            },
        ),
        Body::Heartbeat { commit, context } => (
            pb::MessageType::MsgHeartbeat,
            pb::Message {
                commit: Some(commit.get()),
                context: some_unless_empty(context),
                ..base
            },
        ),
        Body::HeartbeatResponse { context } => (
            pb::MessageType::MsgHeartbeatResp,
            pb::Message {
                context: some_unless_empty(context),
                ..base
            },
        ),
        Body::TransferLeader => (pb::MessageType::MsgTransferLeader, base),
        Body::TimeoutNow => (pb::MessageType::MsgTimeoutNow, base),
        Body::ForgetLeader => (pb::MessageType::MsgForgetLeader, base),
        Body::ReadIndex { context } => (
            pb::MessageType::MsgReadIndex,
            pb::Message {
                entries: vec![read_context(context)],
                ..termless
            },
        ),
        Body::ReadIndexResponse { index, context } => (
            pb::MessageType::MsgReadIndexResp,
            pb::Message {
                index: Some(index.get()),
                entries: vec![read_context(context)],
                ..base
            },
        ),
    };
    pb::Message {
        r#type: Some(kind.into()),
        ..filled
    }
}

/// Bytes to a message, by way of prost's types.
pub(crate) fn decode_message(bytes: Bytes) -> Result<Message, Refused> {
    let raw: pb::Message = prost::Message::decode(bytes).map_err(|_| Refused::NotProtobuf)?;
    read_message(&raw).ok_or(Refused::NotAMessage)
}

fn read_ids(numbers: &[u64]) -> Option<Vec<NodeId>> {
    numbers.iter().map(|id| NodeId::new(*id)).collect()
}

pub(crate) fn read_entry(raw: &pb::Entry) -> Option<Entry> {
    let (term, index) = (Term::new(raw.term()), LogIndex::new(raw.index()));
    let entry_type = read_entry_type(raw)?;
    let entry = Entry::new(term, index, entry_type, raw.data().to_vec().into());
    Some(match raw.r#type {
        Some(0) if raw.data().is_empty() => Entry::refused_conf_change(term, index),
        _ => entry,
    })
}

fn read_entry_type(raw: &pb::Entry) -> Option<EntryType> {
    Some(match raw.r#type.unwrap_or(0) {
        0 => EntryType::Normal,
        1 => EntryType::ConfChange,
        2 => EntryType::ConfChangeV2,
        _ => return None,
    })
}

fn read_snapshot(raw: &pb::Snapshot) -> Option<Snapshot> {
    let metadata = raw.metadata.clone().unwrap_or_default();
    let conf_state = metadata.conf_state.clone().unwrap_or_default();
    Some(Snapshot {
        metadata: SnapshotMetadata {
            index: LogIndex::new(metadata.index()),
            term: Term::new(metadata.term()),
            conf_state: ConfState {
                voters: read_ids(&conf_state.voters)?,
                learners: read_ids(&conf_state.learners)?,
                voters_outgoing: read_ids(&conf_state.voters_outgoing)?,
                learners_next: read_ids(&conf_state.learners_next)?,
                auto_leave: conf_state.auto_leave(),
            },
        },
        data: raw.data().to_vec().into(),
    })
}

fn read_message(raw: &pb::Message) -> Option<Message> {
    if !raw.responses.is_empty() {
        return None;
    }
    let index = LogIndex::new(raw.index());
    let log_id = EntryId::new(Term::new(raw.log_term()), index);
    let context = Bytes::from(raw.context().to_vec());
    let the_context = || match raw.entries.as_slice() {
        [entry] => Some(Bytes::from(entry.data().to_vec())),
        _ => None,
    };
    let vote = if raw.reject() {
        VoteResponse::Rejected
    } else {
        VoteResponse::Granted
    };
    let transfer = raw.context() == b"CampaignTransfer";
    let body = match raw.r#type? {
        2 => {
            let proposals = raw.entries.iter().map(|entry| {
                Some(Proposal {
                    entry_type: read_entry_type(entry)?,
                    data: entry.data().to_vec().into(),
                })
            });
            Body::Propose {
                proposals: proposals.collect::<Option<_>>()?,
            }
        }
        3 => {
            let batch: Vec<Entry> = raw.entries.iter().map(read_entry).collect::<Option<_>>()?;
            // Saturating indexes hide the one step that goes nowhere.
            let goes_nowhere = |pair: &[Entry]| pair[0].index() == pair[1].index();
            if batch.windows(2).any(goes_nowhere) {
                return None;
            }
            Body::Append {
                prev: log_id,
                entries: Entries::from_batch(batch)?,
                commit: LogIndex::new(raw.commit()),
            }
        }
        4 if raw.reject() => Body::AppendResponse(AppendResponse::Rejected {
            at: index,
            hint: EntryId::new(Term::new(raw.log_term()), LogIndex::new(raw.reject_hint())),
        }),
        4 => Body::AppendResponse(AppendResponse::Accepted { matched: index }),
        5 => Body::RequestVote {
            round: Round::Vote,
            last: log_id,
            transfer,
        },
        6 => Body::VoteResponse {
            round: Round::Vote,
            vote,
        },
        7 => Body::Snapshot(Box::new(read_snapshot(raw.snapshot.as_deref()?)?)),
        8 => Body::Heartbeat {
            commit: LogIndex::new(raw.commit()),
            context,
        },
        9 => Body::HeartbeatResponse { context },
        13 => Body::TransferLeader,
        14 => Body::TimeoutNow,
        15 => Body::ReadIndex {
            context: the_context()?,
        },
        16 => Body::ReadIndexResponse {
            index,
            context: the_context()?,
        },
        17 => Body::RequestVote {
            round: Round::PreVote,
            last: log_id,
            transfer,
        },
        18 => Body::VoteResponse {
            round: Round::PreVote,
            vote,
        },
        23 => Body::ForgetLeader,
        _ => return None,
    };
    Some(Message {
        to: NodeId::new(raw.to())?,
        from: NodeId::new(raw.from())?,
        term: Term::new(raw.term()),
        body,
    })
}
