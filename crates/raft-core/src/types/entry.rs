//! # Log entries
//!
//! What a leader appends (Raft §5.3), and the size that limits count: the
//! length of etcd's protobuf encoding, computed once when the entry is made.

use bytes::Bytes;
use smallvec::SmallVec;

use super::conf::ConfChange;
use super::conf_codec::{self, MalformedConfChange, field_len, varint_len};
use super::{EntryId, LogIndex, Term};

/// What an entry's data means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// A command for the state machine. Empty data is a leader's no-op.
    #[default]
    Normal,
    /// A single change of the configuration, in etcd's first format.
    ConfChange,
    /// A change of the configuration, in etcd's second format.
    ConfChangeV2,
}

/// What somebody wants in the log, before a leader gives it a term and index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// What `data` means.
    pub entry_type: EntryType,
    /// The command or the encoded configuration change.
    pub data: Bytes,
}

impl Proposal {
    /// A command for the state machine.
    pub const fn normal(data: Bytes) -> Self {
        Self {
            entry_type: EntryType::Normal,
            data,
        }
    }

    /// Reads the configuration change in `data`; `None` for a normal proposal.
    ///
    /// # Errors
    /// The data is not an encoded configuration change.
    pub fn conf_change(&self) -> Result<Option<ConfChange>, MalformedConfChange> {
        conf_codec::decode(self.entry_type, &self.data)
    }
}

/// What is proposed together. One is the usual case, and needs no allocation.
pub(crate) type Proposals = SmallVec<[Proposal; 1]>;

/// One entry of the log.
///
/// # Invariants
/// - `encoded_len` is the length of this entry in etcd's protobuf encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    term: Term,
    index: LogIndex,
    data: Bytes,
    encoded_len: u32,
    entry_type: EntryType,
    type_present: TypePresence,
}

/// Whether etcd writes the type of an entry though it is the default one. It
/// does for a refused configuration change, and that costs two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TypePresence {
    WhenNotDefault,
    Always,
}

impl Entry {
    /// An entry at `index`, created in `term`.
    pub fn new(term: Term, index: LogIndex, entry_type: EntryType, data: Bytes) -> Self {
        Self::with_presence(term, index, entry_type, data, TypePresence::WhenNotDefault)
    }

    /// A command for the state machine.
    pub fn normal(term: Term, index: LogIndex, data: Bytes) -> Self {
        Self::new(term, index, EntryType::Normal, data)
    }

    /// The empty entry that takes the place of a refused configuration change.
    /// etcd writes its type out, which the size limits can see.
    pub fn refused_conf_change(term: Term, index: LogIndex) -> Self {
        Self::with_presence(
            term,
            index,
            EntryType::Normal,
            Bytes::new(),
            TypePresence::Always,
        )
    }

    fn with_presence(
        term: Term,
        index: LogIndex,
        entry_type: EntryType,
        data: Bytes,
        type_present: TypePresence,
    ) -> Self {
        let type_len = match (entry_type, type_present) {
            (EntryType::Normal, TypePresence::WhenNotDefault) => 0,
            _ => 2,
        };
        let data_len = if data.is_empty() {
            0
        } else {
            field_len(data.len())
        };
        // Term and index are always written: a tag byte and a varint each.
        let len = varint_len(term.get())
            .saturating_add(varint_len(index.get()))
            .saturating_add(2)
            .saturating_add(type_len)
            .saturating_add(data_len);
        Self {
            term,
            index,
            data,
            encoded_len: u32::try_from(len).unwrap_or(u32::MAX),
            entry_type,
            type_present,
        }
    }

    /// The term in which a leader created this entry.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The position of this entry in the log.
    pub const fn index(&self) -> LogIndex {
        self.index
    }

    /// Term and index together.
    pub const fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// What the data means.
    pub const fn entry_type(&self) -> EntryType {
        self.entry_type
    }

    /// The command or the encoded configuration change.
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// Takes the data out.
    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// The length in bytes of etcd's protobuf encoding of this entry, which is
    /// what `append_bytes_max` and `committed_bytes_max` count.
    pub fn encoded_len(&self) -> u64 {
        u64::from(self.encoded_len)
    }

    /// The length in bytes of the data, which is what the inflight and
    /// uncommitted limits count.
    pub fn payload_len(&self) -> u64 {
        u64::try_from(self.data.len()).unwrap_or(u64::MAX)
    }

    /// Whether an encoder that wants etcd's exact bytes writes the type even
    /// though it is the default one.
    pub fn type_is_explicit(&self) -> bool {
        self.entry_type != EntryType::Normal || self.type_present == TypePresence::Always
    }

    /// Reads the configuration change in this entry; `None` for a normal entry.
    ///
    /// # Errors
    /// The data is not an encoded configuration change.
    pub fn conf_change(&self) -> Result<Option<ConfChange>, MalformedConfChange> {
        conf_codec::decode(self.entry_type, &self.data)
    }
}
