//! # Terms, indexes and node ids
//!
//! Newtypes whose arithmetic saturates: a peer can send `u64::MAX` for any of
//! them, and no sum of what it sent may wrap or panic.

use core::fmt;
use core::num::NonZeroU64;

/// An election period, numbered from 1 (Raft §5.1). [`Term::ZERO`] is the term
/// before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u64);

impl Term {
    /// The term before the first election; no entry but the empty log's
    /// imaginary first one has it.
    pub const ZERO: Self = Self(0);

    /// The latest term that is taken from a peer or a disk. No cluster reaches
    /// it, and campaigns can go on from there without an overflow.
    pub const MAX: Self = Self(u64::MAX >> 1);

    /// The term with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this term.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The term that a candidate campaigns for. Saturates at the last term.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the log. The first entry has index 1 (Raft Fig. 2);
/// [`LogIndex::ZERO`] is the position before the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(u64);

impl LogIndex {
    /// The position before the first entry.
    pub const ZERO: Self = Self(0);

    /// The last position that is taken from a peer or a disk. No log reaches
    /// it, and entries can be appended behind it without an overflow.
    pub const MAX: Self = Self(u64::MAX >> 1);

    /// The position with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one. Saturates at the last position.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one. Saturates at zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The position `count` after this one. Saturates at the last position.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many positions this one is ahead of `earlier`; zero if it is not.
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a server of the cluster. Never zero, and never one of the two
/// numbers that etcd reserves for its storage threads, so a peer cannot speak
/// in the name of a local worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The largest id that a server may have.
    pub const MAX: u64 = u64::MAX - 2;

    /// The id with this number, or `None` for 0, `u64::MAX` and `u64::MAX - 1`.
    pub const fn new(number: u64) -> Option<Self> {
        if number > Self::MAX {
            return None;
        }
        match NonZeroU64::new(number) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number of this id.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An id that no server may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a node id: ids are 1 to {max}", max = NodeId::MAX)]
pub struct InvalidNodeId(pub u64);

impl TryFrom<u64> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or(InvalidNodeId(number))
    }
}

/// The term and index of an entry. Two logs that have an entry with the same id
/// are equal up to it (Log Matching, Raft §5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// Its position in the log.
    pub index: LogIndex,
}

impl EntryId {
    /// The id of the entry at `index`, created in `term`.
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }

    /// Whether a log that ends here is at least as up to date as one that ends
    /// at `other` (Raft §5.4.1): later term first, then longer log.
    pub fn is_up_to_date_with(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}
