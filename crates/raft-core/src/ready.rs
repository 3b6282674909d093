//! # Ready
//!
//! The effects of everything that went in: what to send, what to write, what to
//! apply. Writing and applying carry receipts, which the core made and nobody
//! can forge; handing one back says that the work is done.
//!
//! - Source: etcd `raft.Ready`, `MsgStorageAppend`, `MsgStorageApply`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::types::{
    Entries, EntryId, HardState, LogIndex, Message, Round, Snapshot, SoftState, Term,
};

/// A read that is linearizable once `index` is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// What must be applied before the read.
    pub index: LogIndex,
    /// What the request carried.
    pub context: Bytes,
}

/// What a driver has to do.
///
/// Synchronously, in this order:
/// 1. send `messages` (they may also go before or while writing);
/// 2. write `append`: snapshot, entries and hard state, durably if `must_sync`;
/// 3. send the messages in `append.responses`;
/// 4. install the snapshot, or apply `apply.entries`;
/// 5. call [`advance`](crate::RawNode::advance).
///
/// Asynchronously, writing and applying each work in the order in which the
/// Readys came, and hand their receipts back when they are done.
#[derive(Debug, Default)]
#[must_use = "a Ready that is not carried out stalls the node"]
pub struct Ready {
    /// Leader and role, if they changed.
    pub soft_state: Option<SoftState>,
    /// Reads that were confirmed.
    pub read_states: Vec<ReadState>,
    /// May be sent at once.
    pub messages: Vec<Message>,
    /// What to write, and what may be sent only after that.
    pub append: Option<StorageAppend>,
    /// What to apply.
    pub apply: Option<StorageApply>,
    /// Whether the write must be durable before its responses go out: there are
    /// entries, or the term or the vote changed.
    pub must_sync: bool,
}

impl Ready {
    /// The hard state to write, if it changed.
    pub fn hard_state(&self) -> Option<HardState> {
        self.append.as_ref().and_then(|append| append.hard_state)
    }

    /// The entries to write.
    pub fn entries(&self) -> Entries {
        self.append
            .as_ref()
            .map(|append| append.entries.clone())
            .unwrap_or_default()
    }

    /// The snapshot to write and install.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.append
            .as_ref()
            .and_then(|append| append.snapshot.as_ref())
    }

    /// The entries to apply.
    pub fn committed_entries(&self) -> Entries {
        self.apply
            .as_ref()
            .map(|apply| apply.entries.clone())
            .unwrap_or_default()
    }
}

/// What to write.
#[derive(Debug, Default)]
pub struct StorageAppend {
    /// Term, vote and commit index, if one of them changed.
    pub hard_state: Option<HardState>,
    /// Entries, which replace what the log has at and behind their first index.
    pub entries: Entries,
    /// A snapshot, which replaces the whole log.
    pub snapshot: Option<Snapshot>,
    /// What follows from the write, in order. If it is empty, nobody waits for
    /// the write to be durable.
    pub responses: Vec<AppendOutcome>,
}

/// What follows from a write.
#[derive(Debug)]
pub enum AppendOutcome {
    /// A message that may be sent now.
    Send(Message),
    /// A receipt to hand back. Only with
    /// [`StorageWrites::Asynchronous`](crate::StorageWrites).
    Receipt(AppendReceipt),
}

/// What to apply.
#[derive(Debug)]
pub struct StorageApply {
    /// Committed entries, in order.
    pub entries: Entries,
    /// To be handed back when they are applied. Only with
    /// [`StorageWrites::Asynchronous`](crate::StorageWrites).
    pub receipt: Option<ApplyReceipt>,
}

/// Says that a write is durable. Hand it to
/// [`persisted`](crate::RawNode::persisted), once, in the order in which it
/// came.
#[derive(Debug)]
#[must_use = "the node waits for this receipt"]
pub struct AppendReceipt(pub(crate) SelfAck);

impl AppendReceipt {
    /// What the receipt tells the node, for people and traces.
    pub fn kind(&self) -> ReceiptKind<'_> {
        match &self.0 {
            SelfAck::Answer(OwnAnswer::Append { term, index }) => ReceiptKind::OwnAppend {
                term: *term,
                index: *index,
            },
            SelfAck::Answer(OwnAnswer::Vote { round, term }) => ReceiptKind::OwnVote {
                round: *round,
                term: *term,
            },
            SelfAck::Stable(mark) => ReceiptKind::Stable {
                term: mark.term,
                last: mark.last,
                snapshot: mark.snapshot.as_deref(),
            },
        }
    }
}

/// What a receipt tells the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptKind<'a> {
    /// The leader's own entries are durable up to `index`.
    OwnAppend {
        /// The term in which they were appended.
        term: Term,
        /// The last of them.
        index: LogIndex,
    },
    /// The candidate's own vote is durable.
    OwnVote {
        /// The round it counts in.
        round: Round,
        /// The term it counts in.
        term: Term,
    },
    /// The storage has everything up to `last`, and the snapshot.
    Stable {
        /// The term when the write was handed out.
        term: Term,
        /// The last entry of the log at that time, if any was unstable.
        last: Option<EntryId>,
        /// The snapshot that was written.
        snapshot: Option<&'a Snapshot>,
    },
}

/// Says that entries are applied. Hand it to
/// [`applied`](crate::RawNode::applied), once, in the order in which it came.
#[derive(Debug)]
#[must_use = "the node waits for this receipt"]
pub struct ApplyReceipt(pub(crate) AppliedMark);

impl ApplyReceipt {
    /// The last index that was applied.
    pub fn index(&self) -> LogIndex {
        self.0.index
    }
}

/// What this server tells itself when a write is durable.
#[derive(Debug)]
pub(crate) enum SelfAck {
    Answer(OwnAnswer),
    Stable(StableMark),
}

/// What a server answers its own request, once that is durable. It counts like
/// another server's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OwnAnswer {
    Append { term: Term, index: LogIndex },
    Vote { round: Round, term: Term },
}

impl OwnAnswer {
    /// The term that this node had, which it may have lost since.
    pub(crate) fn term_to_follow(self) -> Option<Term> {
        match self {
            Self::Append { term, .. }
            | Self::Vote {
                round: Round::Vote,
                term,
            } => Some(term),
            // The term was only asked about.
            Self::Vote {
                round: Round::PreVote,
                ..
            } => None,
        }
    }
}

/// How far the storage has caught up with the unstable log.
///
/// `last` is the end of the log when the write was handed out, whether or not
/// the write had entries. The mark counts only while the term is the same: a
/// write of an earlier term may be followed by one that replaces its entries
/// and is still on its way, even if a third leader has put the first entries
/// back into the unstable log meanwhile (the ABA case). Then the storage would
/// be read before it is right. Every change of term is itself written, and that
/// write brings a mark of the new term, so no entry stays unstable for ever.
///
/// Nor does it count while a snapshot is being written that came after it: what
/// stands behind the snapshot is another write. (No correct leader sends a
/// snapshot that leads to the same entry again.)
#[derive(Debug)]
pub(crate) struct StableMark {
    pub(crate) term: Term,
    pub(crate) last: Option<EntryId>,
    /// The index of the snapshot before the unstable entries; zero if none was.
    pub(crate) behind: LogIndex,
    /// Boxed, because it is rare, and marks are moved often.
    pub(crate) snapshot: Option<Box<Snapshot>>,
}

/// How far the state machine is, and what that gives back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppliedMark {
    pub(crate) index: LogIndex,
    pub(crate) encoded_bytes: u64,
    pub(crate) payload_bytes: u64,
}
