//! # History
//!
//! Sees every message, write and application of a cluster, and stops the test
//! at the first that breaks a safety property of Raft Figure 3.
//!
//! - Owns: who led which term, every entry ever seen, what is committed, what
//!   the state machines computed, what reads were promised.
//! - Source: Raft Fig. 3; thesis §3.8, §6.4.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, Entry, EntryId, EntryType, LogIndex, Message, NodeId, ReadState, Round, Term,
    VoteResponse,
};

#[derive(Debug, PartialEq, Eq)]
struct Written {
    previous: Term,
    entry_type: EntryType,
    data: Bytes,
}

/// Everything that has happened, as far as safety needs it.
#[derive(Debug, Default)]
pub(crate) struct History {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    entries: BTreeMap<(Term, LogIndex), Written>,
    /// What is committed, and in which term it was.
    committed: BTreeMap<LogIndex, (EntryId, Term)>,
    states: BTreeMap<LogIndex, (u64, ConfState)>,
    highest_commit: LogIndex,
    reads: BTreeMap<Bytes, LogIndex>,
}

impl History {
    /// Remembers what messages say about votes and entries.
    pub(crate) fn hears(&mut self, messages: &[Message]) {
        for message in messages {
            match &message.body {
                Body::Append { prev, entries, .. } => {
                    let mut previous = prev.term;
                    for entry in entries.iter() {
                        previous = self.entry(previous, entry);
                    }
                }
                Body::VoteResponse {
                    round: Round::Vote,
                    vote: VoteResponse::Granted,
                } => self.votes(message.from, message.term, message.to),
                _ => {}
            }
        }
    }

    /// At most one leader per term (Election Safety).
    pub(crate) fn leads(&mut self, leader: NodeId, term: Term) {
        let first = *self.leaders.entry(term).or_insert(leader);
        assert_eq!(
            first, leader,
            "election safety: two leaders in term {term}: {first} and {leader}"
        );
    }

    /// At most one vote per server and term, whatever crashes (Raft §5.2).
    pub(crate) fn votes(&mut self, voter: NodeId, term: Term, candidate: NodeId) {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(
            first, candidate,
            "{voter} voted twice in term {term}: for {first} and for {candidate}"
        );
    }

    /// Two entries with the same term and index are the same, and so is what is
    /// before them (Log Matching). Returns the term, for the entry behind.
    pub(crate) fn entry(&mut self, previous: Term, entry: &Entry) -> Term {
        let written = Written {
            previous,
            entry_type: entry.entry_type(),
            data: entry.data().clone(),
        };
        let key = (entry.term(), entry.index());
        match self.entries.get(&key) {
            Some(first) => assert_eq!(*first, written, "log matching: two entries at {key:?}"),
            None => {
                self.entries.insert(key, written);
            }
        }
        entry.term()
    }

    /// What is committed stays (State Machine Safety, on the log).
    /// The leader is the first to know, so its term is that of the commitment.
    pub(crate) fn commits(&mut self, server: NodeId, term: Term, id: EntryId) {
        let (first, _) = *self.committed.entry(id.index).or_insert((id, term));
        assert_eq!(
            first, id,
            "{server} committed another entry at {}",
            id.index
        );
        self.highest_commit = self.highest_commit.max(id.index);
    }

    /// A leader has everything that was committed in its term or before it
    /// (Leader Completeness). `term_at` reads its log, from `first` on.
    pub(crate) fn has_all(
        &self,
        leader: NodeId,
        term: Term,
        first: LogIndex,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) {
        for (index, (id, committed_in)) in self.committed.range(first..) {
            assert!(
                *committed_in > term || term_at(*index) == Some(id.term),
                "leader completeness: leader {leader} lacks the committed entry at {index}"
            );
        }
    }

    /// Every state machine computes the same (State Machine Safety, on states),
    /// and has the same configuration.
    pub(crate) fn computes(
        &mut self,
        server: NodeId,
        index: LogIndex,
        state: u64,
        conf_state: &ConfState,
    ) {
        let first = self
            .states
            .entry(index)
            .or_insert_with(|| (state, conf_state.clone()));
        assert!(
            first.0 == state && first.1.is_equivalent_to(conf_state),
            "{server} computed another state or configuration at {index}"
        );
    }

    /// The highest index that any server ever knew to be committed.
    pub(crate) fn highest_commit(&self) -> LogIndex {
        self.highest_commit
    }

    /// How many terms had a leader.
    pub(crate) fn elections(&self) -> u64 {
        self.leaders.len().try_into().unwrap_or(u64::MAX)
    }

    /// A read begins now.
    pub(crate) fn asks_to_read(&mut self, context: Bytes) {
        self.reads.insert(context, self.highest_commit);
    }

    /// A read sees everything that was committed when it began (thesis §6.4).
    pub(crate) fn may_read(&self, server: NodeId, read: &ReadState) {
        let Some(needed) = self.reads.get(&read.context) else {
            panic!("{server} confirmed a read that nobody asked for");
        };
        assert!(
            read.index >= *needed,
            "stale read on {server}: index {}, but {needed} was committed when it was asked for",
            read.index
        );
    }
}
