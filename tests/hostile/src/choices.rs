//! # Choices
//!
//! Turns bytes into decisions, so that the same driver serves random tests and
//! a fuzzer that mutates bytes. When the bytes run out, every choice is zero.

use bytes::Bytes;
use raft_core::{
    AppendResponse, Body, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType,
    ConfState, Entries, Entry, EntryId, EntryType, LogIndex, Message, NodeId, Proposal, Round,
    Snapshot, SnapshotMetadata, Term, VoteResponse,
};

/// Numbers that arithmetic trips over.
const EXTREMES: [u64; 8] = [
    0,
    1,
    255,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// A source of decisions.
#[derive(Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Decides by these bytes, front to back.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether every further choice is zero.
    pub fn is_exhausted(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next bytes as they are, at most `len` of them.
    pub fn slice(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    /// Yes or no.
    pub fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, options: &[T]) -> T {
        options[usize::from(self.byte()) % options.len()]
    }

    /// Mostly near `near`, sometimes where sums overflow.
    pub fn number(&mut self, near: u64) -> u64 {
        match self.byte() {
            0..200 => {
                let offset = u64::from(self.below(7));
                near.wrapping_add(offset).saturating_sub(3)
            }
            200..240 => u64::from(self.byte()),
            _ => self.one_of(&EXTREMES),
        }
    }

    /// `usual`, except seldom.
    pub fn mostly(&mut self, usual: u64) -> u64 {
        match self.byte() {
            0..250 => usual,
            _ => self.number(usual),
        }
    }

    /// Less than `bound`, and above it `usual`.
    pub fn mostly_byte(&mut self, usual: u8, bound: u8) -> u8 {
        match self.byte() {
            byte if byte < bound => byte,
            _ => usual,
        }
    }

    /// A server, mostly one of the first six.
    pub fn node(&mut self) -> NodeId {
        let number = match self.byte() {
            0..230 => u64::from(self.below(6)) + 1,
            _ => self.number(3),
        };
        // Other numbers cannot even be expressed.
        NodeId::new(number.clamp(1, NodeId::MAX)).expect("a clamped id is valid")
    }

    /// A short payload.
    pub fn bytes(&mut self) -> Bytes {
        let len = usize::from(self.below(12));
        Bytes::copy_from_slice(self.slice(len))
    }

    fn nodes(&mut self) -> Vec<NodeId> {
        (0..self.below(4)).map(|_| self.node()).collect()
    }

    /// Any configuration, most of them possible.
    pub fn conf_state(&mut self) -> ConfState {
        let set = |numbers: &[u64]| numbers.iter().copied().filter_map(NodeId::new).collect();
        let possible =
            |voters: &[u64], outgoing: &[u64], learners: &[u64], next: &[u64]| ConfState {
                voters: set(voters),
                voters_outgoing: set(outgoing),
                learners: set(learners),
                learners_next: set(next),
                auto_leave: false,
            };
        match self.below(9) {
            0 => possible(&[1], &[], &[], &[]),
            1 => possible(&[1, 2], &[], &[], &[]),
            2 => possible(&[1, 2, 3], &[], &[], &[]),
            3 => possible(&[1, 2, 3], &[], &[4, 5], &[]),
            4 => possible(&[1, 2, 4], &[1, 2, 3], &[], &[3]),
            5 => ConfState {
                auto_leave: true,
                ..possible(&[1], &[1, 2, 3], &[4], &[2])
            },
            // Without this server, and where it only listens.
            6 => possible(&[2, 3], &[], &[], &[]),
            7 => possible(&[2, 3], &[], &[1], &[]),
            _ => ConfState {
                voters: self.nodes(),
                learners: self.nodes(),
                voters_outgoing: self.nodes(),
                learners_next: self.nodes(),
                auto_leave: self.bool(),
            },
        }
    }

    /// Any change.
    pub fn conf_change(&mut self) -> ConfChange {
        if self.below(4) == 0 {
            return ConfChange::leave_joint();
        }
        ConfChange {
            transition: self.one_of(&[
                ConfChangeTransition::Auto,
                ConfChangeTransition::JointImplicit,
                ConfChangeTransition::JointExplicit,
            ]),
            changes: (0..self.below(4))
                .map(|_| ConfChangeSingle {
                    change_type: self.one_of(&[
                        ConfChangeType::AddNode,
                        ConfChangeType::RemoveNode,
                        ConfChangeType::UpdateNode,
                        ConfChangeType::AddLearnerNode,
                    ]),
                    node_id: (self.byte() < 240).then(|| self.node()),
                })
                .collect(),
            context: Bytes::new(),
        }
    }

    /// Any proposal.
    pub fn proposal(&mut self) -> Proposal {
        match self.below(4) {
            0 | 1 => Proposal::normal(self.bytes()),
            2 => self.conf_change().to_proposal(),
            // Garbage that claims to be a change.
            _ => Proposal {
                entry_type: self.one_of(&[EntryType::ConfChange, EntryType::ConfChangeV2]),
                data: self.bytes(),
            },
        }
    }

    /// Entries from `first` on, if they can be numbered at all.
    pub fn entries(&mut self, term: u64, first: u64) -> Entries {
        let count = u64::from(self.below(4));
        let mut batch = Vec::new();
        for offset in 0..count {
            let term = Term::new(match self.byte() {
                0..200 => term,
                _ => self.number(term),
            });
            let index = LogIndex::new(first.saturating_add(offset));
            let proposal = self.proposal();
            batch.push(Entry::new(term, index, proposal.entry_type, proposal.data));
        }
        Entries::from_batch(batch).unwrap_or_default()
    }

    fn entry_id(&mut self, near: EntryId) -> EntryId {
        EntryId::new(
            Term::new(self.number(near.term.get())),
            LogIndex::new(self.number(near.index.get())),
        )
    }

    /// Any well-typed message for `to`, most of them near what `to` expects.
    pub fn message(&mut self, to: NodeId, term: Term, last: EntryId, commit: LogIndex) -> Message {
        let term_number = match self.byte() {
            0..180 => term.get(),
            _ => self.number(term.get()),
        };
        let body = self.body(term_number, last, commit);
        Message {
            to: if self.byte() < 250 { to } else { self.node() },
            from: self.node(),
            term: match (body.is_termless(), self.byte()) {
                (true, 0..250) => Term::ZERO,
                _ => Term::new(term_number),
            },
            body,
        }
    }

    fn body(&mut self, term: u64, last: EntryId, commit: LogIndex) -> Body {
        match self.below(16) {
            0 => Body::Propose {
                proposals: (0..self.below(4)).map(|_| self.proposal()).collect(),
            },
            1..4 => {
                let prev = match self.byte() {
                    0..128 => last,
                    _ => self.entry_id(last),
                };
                let first = match self.byte() {
                    0..230 => prev.index.get().saturating_add(1),
                    _ => self.number(prev.index.get()),
                };
                Body::Append {
                    prev,
                    entries: self.entries(term, first),
                    commit: LogIndex::new(self.number(last.index.get())),
                }
            }
            4 | 5 => Body::AppendResponse(if self.bool() {
                AppendResponse::Accepted {
                    matched: LogIndex::new(self.number(last.index.get())),
                }
            } else {
                AppendResponse::Rejected {
                    at: LogIndex::new(self.number(last.index.get())),
                    hint: self.entry_id(last),
                }
            }),
            6 => Body::RequestVote {
                round: self.one_of(&[Round::PreVote, Round::Vote]),
                last: self.entry_id(last),
                transfer: self.bool(),
            },
            7 | 8 => Body::VoteResponse {
                round: self.one_of(&[Round::PreVote, Round::Vote]),
                vote: self.one_of(&[VoteResponse::Granted, VoteResponse::Rejected]),
            },
            9 => {
                let id = self.entry_id(last);
                Body::Snapshot(Box::new(Snapshot {
                    metadata: SnapshotMetadata {
                        index: id.index,
                        term: id.term,
                        conf_state: self.conf_state(),
                    },
                    data: self.bytes(),
                }))
            }
            10 => Body::Heartbeat {
                commit: LogIndex::new(self.number(commit.get())),
                context: self.bytes(),
            },
            11 => Body::HeartbeatResponse {
                context: self.read_round(),
            },
            12 => match self.below(3) {
                0 => Body::TransferLeader,
                1 => Body::TimeoutNow,
                _ => Body::ForgetLeader,
            },
            13 => Body::ReadIndex {
                context: self.bytes(),
            },
            14 => Body::ReadIndexResponse {
                index: LogIndex::new(self.number(commit.get())),
                context: self.bytes(),
            },
            _ => Body::Heartbeat {
                commit,
                context: Bytes::new(),
            },
        }
    }

    fn read_round(&mut self) -> Bytes {
        match self.below(3) {
            0 => Bytes::new(),
            1 => Bytes::copy_from_slice(&self.number(1).to_le_bytes()),
            _ => self.bytes(),
        }
    }
}
