//! # Bytes to Raft
//!
//! Which field of etcd's messages carries what, on the way in, and what cannot
//! be a message between servers at all. What a message may say in the state that
//! this server is in is decided in `raft-core`.
//!
//! A message is read twice: once for its scalars, of which the type says what
//! the entries are, and once for the entries, which so go straight to where they
//! stay. Their payloads are slices of the input.
//!
//! - Owns: nothing.
//! - Reads: the encodings of `proto/raftpb.proto`.
//! - Emits: the types of `raft-core`, [`WireError`].
//! - Source: etcd `raft.proto`.

use bytes::Bytes;
use raft_core::{
    AppendResponse, Body, ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex,
    Message, NodeId, Proposal, Round, Snapshot, SnapshotMetadata, Term, VoteResponse,
};

use crate::encode::CAMPAIGN_TRANSFER;
use crate::error::WireError;
use crate::proto::raftpb::{self as pb, MessageType};
use crate::reader::Reader;

/// The fewest bytes that an entry of an append takes: a tag and a length, a
/// term and an index. Only the first one of a log can have less.
const ENTRY_BYTES_MIN: usize = 6;

/// Reads etcd's `raftpb.Message`. The payloads of entries and the data of a
/// snapshot are slices of `bytes` and keep all of it alive.
///
/// The entries of an append have consecutive indexes. Fields that mean nothing for
/// the type of the message are passed over, as etcd does, but must be well-formed.
///
/// # Errors
/// The bytes are not a message that one server sends another.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what is read shares the memory, so the caller has given it away"
)]
pub fn decode_message(bytes: Bytes) -> Result<Message, WireError> {
    message(&bytes, Reader::new(MESSAGE, &bytes))
}

/// Reads etcd's `raftpb.Entry`. The payload is a slice of `bytes`.
///
/// An explicit type on a normal entry without data makes it a
/// [`Entry::refused_conf_change`], which differs in its encoded length only.
///
/// # Errors
/// The bytes are not an entry.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what is read shares the memory, so the caller has given it away"
)]
pub fn decode_entry(bytes: Bytes) -> Result<Entry, WireError> {
    EntryFields::read(Reader::new(ENTRY, &bytes))?.into_entry(&bytes)
}

/// Reads etcd's `raftpb.SnapshotMetadata`.
///
/// # Errors
/// The bytes are not a snapshot's metadata.
pub fn decode_snapshot_metadata(bytes: &[u8]) -> Result<SnapshotMetadata, WireError> {
    let mut fields = SnapshotMetadataFields::default();
    fields.merge(Reader::new(SNAPSHOT_METADATA, bytes))?;
    fields.checked()
}

/// Reads etcd's `raftpb.ConfState`.
///
/// # Errors
/// The bytes are not a configuration.
pub fn decode_conf_state(bytes: &[u8]) -> Result<ConfState, WireError> {
    let mut fields = ConfStateFields::default();
    fields.merge(Reader::new(CONF_STATE, bytes))?;
    fields.checked()
}

/// Reads etcd's `raftpb.HardState`.
///
/// # Errors
/// The bytes are not a hard state.
pub fn decode_hard_state(bytes: &[u8]) -> Result<HardState, WireError> {
    let (mut term, mut vote, mut commit) = (0, 0, 0);
    let mut reader = Reader::new("HardState", bytes);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => term = field.number()?,
            2 => vote = field.number()?,
            3 => commit = field.number()?,
            _ => {}
        }
    }
    Ok(HardState {
        term: Term::new(term),
        vote: match vote {
            0 => None,
            id => Some(node_id("HardState.vote", id)?),
        },
        commit: LogIndex::new(commit),
    })
}

pub(crate) const MESSAGE: &str = "Message";
const ENTRY: &str = "Entry";
const SNAPSHOT: &str = "Snapshot";
const SNAPSHOT_METADATA: &str = "SnapshotMetadata";
const CONF_STATE: &str = "ConfState";

/// The message that `reader` stands at the beginning of, somewhere in `source`.
pub(crate) fn message(source: &Bytes, reader: Reader<'_>) -> Result<Message, WireError> {
    let entries = EntryReader(reader.clone());
    let fields = MessageFields::read(reader)?;
    let message_type = fields.message_type()?;
    if fields.entry_count > 0 && !carries_entries(message_type) {
        entries.for_each(|_| Ok(()))?;
    }

    let index = LogIndex::new(fields.index);
    let log_term = Term::new(fields.log_term);
    let commit = LogIndex::new(fields.commit);
    let context = || source.slice_ref(fields.context);
    let vote = if fields.reject {
        VoteResponse::Rejected
    } else {
        VoteResponse::Granted
    };
    let request_vote = |round| Body::RequestVote {
        round,
        last: EntryId::new(log_term, index),
        transfer: fields.context == CAMPAIGN_TRANSFER,
    };

    let body = match message_type {
        MessageType::MsgProp => Body::Propose {
            proposals: entries.proposals(source, fields.entry_count)?,
        },
        MessageType::MsgApp => Body::Append {
            prev: EntryId::new(log_term, index),
            entries: entries.consecutive(source, fields.entry_count)?,
            commit,
        },
        MessageType::MsgAppResp if fields.reject => {
            Body::AppendResponse(AppendResponse::Rejected {
                at: index,
                hint: EntryId::new(log_term, LogIndex::new(fields.reject_hint)),
            })
        }
        MessageType::MsgAppResp => {
            Body::AppendResponse(AppendResponse::Accepted { matched: index })
        }
        MessageType::MsgVote => request_vote(Round::Vote),
        MessageType::MsgPreVote => request_vote(Round::PreVote),
        MessageType::MsgVoteResp => Body::VoteResponse {
            round: Round::Vote,
            vote,
        },
        MessageType::MsgPreVoteResp => Body::VoteResponse {
            round: Round::PreVote,
            vote,
        },
        MessageType::MsgSnap => {
            let snapshot = fields.snapshot.as_ref().ok_or(WireError::Absent {
                field: "Message.snapshot",
            })?;
            Body::Snapshot(Box::new(snapshot.checked(source)?))
        }
        MessageType::MsgHeartbeat => Body::Heartbeat {
            commit,
            context: context(),
        },
        MessageType::MsgHeartbeatResp => Body::HeartbeatResponse { context: context() },
        MessageType::MsgTransferLeader => Body::TransferLeader,
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgReadIndex => Body::ReadIndex {
            context: entries.read_context(source, fields.entry_count)?,
        },
        MessageType::MsgReadIndexResp => Body::ReadIndexResponse {
            index,
            context: entries.read_context(source, fields.entry_count)?,
        },
        MessageType::MsgForgetLeader => Body::ForgetLeader,
        local @ (MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgStorageAppend
        | MessageType::MsgStorageAppendResp
        | MessageType::MsgStorageApply
        | MessageType::MsgStorageApplyResp) => {
            return Err(WireError::LocalMessage {
                name: local.as_str_name(),
            });
        }
    };
    Ok(Message {
        to: node_id("Message.to", fields.to)?,
        from: node_id("Message.from", fields.from)?,
        term: Term::new(fields.term),
        body,
    })
}

const fn carries_entries(message_type: MessageType) -> bool {
    matches!(
        message_type,
        MessageType::MsgProp
            | MessageType::MsgApp
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
    )
}

/// Everything in a message but its entries. Zero stands for absent.
#[derive(Default)]
struct MessageFields<'a> {
    message_type: Option<u64>,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entry_count: usize,
    commit: u64,
    snapshot: Option<SnapshotFields<'a>>,
    reject: bool,
    reject_hint: u64,
    context: &'a [u8],
}

impl<'a> MessageFields<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut fields = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => fields.message_type = Some(field.number()?),
                2 => fields.to = field.number()?,
                3 => fields.from = field.number()?,
                4 => fields.term = field.number()?,
                5 => fields.log_term = field.number()?,
                6 => fields.index = field.number()?,
                ENTRIES => {
                    field.bytes()?;
                    fields.entry_count = fields.entry_count.saturating_add(1);
                }
                8 => fields.commit = field.number()?,
                9 => fields
                    .snapshot
                    .get_or_insert_default()
                    .merge(field.message(SNAPSHOT)?)?,
                10 => fields.reject = field.yes()?,
                11 => fields.reject_hint = field.number()?,
                12 => fields.context = field.bytes()?,
                // A vote for the storage: etcd 3.5 and 3.6 write it everywhere.
                13 => {
                    field.number()?;
                }
                // Messages within messages would nest without end.
                14 => {
                    return Err(WireError::Unexpected {
                        field: "Message.responses",
                    });
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    fn message_type(&self) -> Result<MessageType, WireError> {
        let field = "Message.type";
        let value = self.message_type.ok_or(WireError::Absent { field })?;
        known(field, value)
    }
}

/// The number of a message's entries field.
const ENTRIES: u32 = 7;

/// Goes through the entries of a message.
struct EntryReader<'a>(Reader<'a>);

impl<'a> EntryReader<'a> {
    fn for_each(
        &self,
        mut visit: impl FnMut(EntryFields<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut reader = self.0.clone();
        while let Some(field) = reader.field()? {
            if field.number == ENTRIES {
                visit(EntryFields::read(field.message(ENTRY)?)?)?;
            }
        }
        Ok(())
    }

    fn consecutive(&self, source: &Bytes, count: usize) -> Result<Entries, WireError> {
        // Entries that could not be there reserve no memory.
        let fits = source.len().div_euclid(ENTRY_BYTES_MIN).max(1);
        let mut batch: Vec<Entry> = Vec::with_capacity(count.min(fits));
        let mut last = None;
        self.for_each(|fields| {
            let entry = fields.into_entry(source)?;
            let found = entry.index();
            if let Some(after) = last.replace(found)
                && after.get().checked_add(1) != Some(found.get())
            {
                return Err(WireError::EntriesNotConsecutive { after, found });
            }
            batch.push(entry);
            Ok(())
        })?;
        // They are consecutive, so there always is one.
        Ok(Entries::from_batch(batch).unwrap_or_default())
    }

    fn proposals(&self, source: &Bytes, count: usize) -> Result<Vec<Proposal>, WireError> {
        let mut proposals = Vec::with_capacity(count);
        self.for_each(|fields| {
            proposals.push(Proposal {
                entry_type: fields.entry_type()?,
                data: source.slice_ref(fields.data),
            });
            Ok(())
        })?;
        Ok(proposals)
    }

    fn read_context(&self, source: &Bytes, count: usize) -> Result<Bytes, WireError> {
        if count != 1 {
            return Err(WireError::WrongEntryCount { count });
        }
        let mut context = Bytes::new();
        self.for_each(|fields| {
            context = source.slice_ref(fields.data);
            Ok(())
        })?;
        Ok(context)
    }
}

#[derive(Default)]
struct EntryFields<'a> {
    entry_type: Option<u64>,
    term: u64,
    index: u64,
    data: &'a [u8],
}

impl<'a> EntryFields<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut fields = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => fields.entry_type = Some(field.number()?),
                2 => fields.term = field.number()?,
                3 => fields.index = field.number()?,
                4 => fields.data = field.bytes()?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn entry_type(&self) -> Result<EntryType, WireError> {
        Ok(match known("Entry.Type", self.entry_type.unwrap_or(0))? {
            pb::EntryType::EntryNormal => EntryType::Normal,
            pb::EntryType::EntryConfChange => EntryType::ConfChange,
            pb::EntryType::EntryConfChangeV2 => EntryType::ConfChangeV2,
        })
    }

    fn into_entry(self, source: &Bytes) -> Result<Entry, WireError> {
        let (term, index) = (Term::new(self.term), LogIndex::new(self.index));
        let entry_type = self.entry_type()?;
        let is_explicit = self.entry_type.is_some();
        if entry_type == EntryType::Normal && is_explicit && self.data.is_empty() {
            return Ok(Entry::refused_conf_change(term, index));
        }
        Ok(Entry::new(
            term,
            index,
            entry_type,
            source.slice_ref(self.data),
        ))
    }
}

// A nested message may come in parts, which add up, so what is in it is
// collected first and checked at the end.

#[derive(Default)]
struct SnapshotFields<'a> {
    data: &'a [u8],
    metadata: SnapshotMetadataFields,
}

impl<'a> SnapshotFields<'a> {
    fn merge(&mut self, mut reader: Reader<'a>) -> Result<(), WireError> {
        while let Some(field) = reader.field()? {
            match field.number {
                1 => self.data = field.bytes()?,
                2 => self.metadata.merge(field.message(SNAPSHOT_METADATA)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn checked(&self, source: &Bytes) -> Result<Snapshot, WireError> {
        Ok(Snapshot {
            metadata: self.metadata.checked()?,
            data: source.slice_ref(self.data),
        })
    }
}

#[derive(Default)]
struct SnapshotMetadataFields {
    conf_state: ConfStateFields,
    index: u64,
    term: u64,
}

impl SnapshotMetadataFields {
    fn merge(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.field()? {
            match field.number {
                1 => self.conf_state.merge(field.message(CONF_STATE)?)?,
                2 => self.index = field.number()?,
                3 => self.term = field.number()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn checked(&self) -> Result<SnapshotMetadata, WireError> {
        Ok(SnapshotMetadata {
            index: LogIndex::new(self.index),
            term: Term::new(self.term),
            conf_state: self.conf_state.checked()?,
        })
    }
}

#[derive(Default)]
struct ConfStateFields {
    voters: Vec<u64>,
    learners: Vec<u64>,
    voters_outgoing: Vec<u64>,
    learners_next: Vec<u64>,
    auto_leave: bool,
}

impl ConfStateFields {
    fn merge(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.field()? {
            match field.number {
                1 => field.append_numbers_to(&mut self.voters)?,
                2 => field.append_numbers_to(&mut self.learners)?,
                3 => field.append_numbers_to(&mut self.voters_outgoing)?,
                4 => field.append_numbers_to(&mut self.learners_next)?,
                5 => self.auto_leave = field.yes()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn checked(&self) -> Result<ConfState, WireError> {
        let ids = |field, numbers: &[u64]| {
            let ids = numbers.iter().map(|id| node_id(field, *id));
            ids.collect::<Result<Vec<NodeId>, WireError>>()
        };
        Ok(ConfState {
            voters: ids("ConfState.voters", &self.voters)?,
            learners: ids("ConfState.learners", &self.learners)?,
            voters_outgoing: ids("ConfState.voters_outgoing", &self.voters_outgoing)?,
            learners_next: ids("ConfState.learners_next", &self.learners_next)?,
            auto_leave: self.auto_leave,
        })
    }
}

pub(crate) fn node_id(field: &'static str, id: u64) -> Result<NodeId, WireError> {
    NodeId::new(id).ok_or(WireError::InvalidNodeId { field, id })
}

/// The value of a protobuf enum with this number.
fn known<E: TryFrom<i32>>(field: &'static str, value: u64) -> Result<E, WireError> {
    i32::try_from(value)
        .ok()
        .and_then(|number| E::try_from(number).ok())
        .ok_or(WireError::UnknownValue { field, value })
}
