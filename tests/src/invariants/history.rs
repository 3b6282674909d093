//! # The history
//!
//! - Owns: who led, who voted for whom, every entry ever seen, what is committed,
//!   what state machines computed, what reads were promised.
//! - Reads: a [`Sighting`] of every node after each command.
//! - Emits: the first [`Violation`].
//! - Source: Raft Fig. 3, §5.4.2; thesis §3.8, §4.3, §6.4.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, EntryId, EntryType, HardState, LogIndex, Membership, NodeId, ReadOnly, Round,
    Term, VoteResponse,
};

use super::sighting::{HandedOut, Sighting};
use super::violation::Violation;
use crate::environment::{Environment, Letter};
use crate::script::Command;

#[derive(Debug, PartialEq, Eq)]
struct Written {
    previous: Term,
    entry_type: EntryType,
    data: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    term: Term,
    /// Nobody committed it in a later term than this.
    by: Term,
}

/// What a node was when it was seen last.
#[derive(Debug)]
struct Memory {
    hard_state: HardState,
    stored: HardState,
    applied: LogIndex,
    /// Everything up to here was compared with what others committed.
    compared: LogIndex,
    reads: usize,
    conf_state: ConfState,
}

/// Everything that has happened, as far as the invariants need it.
#[derive(Debug, Default)]
pub struct History {
    nodes: BTreeMap<NodeId, Memory>,
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    entries: BTreeMap<(Term, LogIndex), Written>,
    committed: BTreeMap<LogIndex, Committed>,
    commit_highest: LogIndex,
    states: BTreeMap<LogIndex, (Bytes, ConfState)>,
    longest: Bytes,
    reads: BTreeMap<Bytes, LogIndex>,
    restarted: Option<NodeId>,
}

impl History {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// The highest index that any node knew to be committed.
    pub fn commit_highest(&self) -> LogIndex {
        self.commit_highest
    }

    /// How often state machines were seen to have another configuration than
    /// after an earlier entry.
    pub fn configurations(&self) -> usize {
        let states: Vec<&ConfState> = self.states.values().map(|(_, c)| c).collect();
        states.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// How often a state machine was seen in a configuration with two majorities.
    pub fn joint_configurations(&self) -> usize {
        self.states.values().filter(|(_, c)| c.is_joint()).count()
    }

    /// A command is about to be run.
    pub fn before(&mut self, command: &Command) {
        self.restarted = None;
        match command.name.as_str() {
            "restart" => self.restarted = command.number(0).ok().and_then(NodeId::new),
            "read-index" => {
                if let Ok(context) = command.word(1) {
                    let context = Bytes::copy_from_slice(context.as_bytes());
                    self.reads.insert(context, self.commit_highest);
                }
            }
            _ => {}
        }
    }

    /// The command was run.
    ///
    /// # Errors
    /// What does not hold.
    pub fn after(&mut self, environment: &Environment) -> Result<(), Violation> {
        for letter in environment.letters() {
            if let Letter::Peer(message) = letter
                && let Body::VoteResponse {
                    round: Round::Vote,
                    vote: VoteResponse::Granted,
                } = message.body
            {
                self.votes(message.from, message.term, message.to)?;
            }
        }
        let sightings: Vec<Sighting> = environment.nodes().iter().map(Sighting::of).collect();
        self.see(&sightings)
    }

    /// Takes what was seen of all nodes after a command.
    ///
    /// # Errors
    /// What does not hold.
    pub fn see(&mut self, sightings: &[Sighting]) -> Result<(), Violation> {
        for sighting in sightings {
            self.moves_forward(sighting)?;
            self.holds_elections(sighting)?;
            self.has_matching_log(sighting)?;
        }
        let before = self.commit_highest;
        // Leaders know best in which term they committed.
        let (leaders, others): (Vec<_>, Vec<_>) = sightings.iter().partition(|s| s.is_leader());
        for sighting in leaders.into_iter().chain(others) {
            self.commits(sighting)?;
        }
        for sighting in sightings {
            self.is_complete(sighting)?;
            self.applies(sighting)?;
            self.reads(sighting)?;
            matches_followers(sighting, sightings)?;
        }
        if self.commit_highest > before {
            self.is_durable(sightings)?;
        }
        for sighting in sightings {
            self.remember(sighting);
        }
        Ok(())
    }

    fn moves_forward(&self, s: &Sighting) -> Result<(), Violation> {
        let Some(last) = self.nodes.get(&s.node) else {
            return Ok(());
        };
        let grows = |what, before: u64, after: u64| {
            if after >= before {
                return Ok(());
            }
            Err(Violation::WentBack {
                node: s.node,
                what,
                before,
                after,
            })
        };
        let (stored, applied) = (last.stored, last.applied);
        grows("stored term", stored.term.get(), s.stored.term.get())?;
        grows(
            "stored commit index",
            stored.commit.get(),
            s.stored.commit.get(),
        )?;
        grows("applied index", applied.get(), s.state.metadata.index.get())?;
        let now = s.hard_state;
        if self.restarted == Some(s.node) {
            let same = now.term == s.stored.term && now.vote == s.stored.vote;
            if !same || now.commit < s.stored.commit {
                return Err(Violation::RestartedOtherwise {
                    node: s.node,
                    found: now,
                    stored: s.stored,
                });
            }
            return Ok(());
        }
        let before = last.hard_state;
        grows("term", before.term.get(), now.term.get())?;
        grows("commit index", before.commit.get(), now.commit.get())?;
        if let (Some(first), Some(second), true) = (before.vote, now.vote, before.term == now.term)
            && first != second
        {
            return Err(Violation::TwoVotes {
                voter: s.node,
                term: now.term,
                first,
                second,
            });
        }
        Ok(())
    }

    fn holds_elections(&mut self, s: &Sighting) -> Result<(), Violation> {
        if let Some(candidate) = s.stored.vote {
            self.votes(s.node, s.stored.term, candidate)?;
        }
        if !s.is_leader() {
            return Ok(());
        }
        let term = s.hard_state.term;
        let first = *self.leaders.entry(term).or_insert(s.node);
        if first != s.node {
            return Err(Violation::TwoLeaders {
                term,
                first,
                second: s.node,
            });
        }
        Ok(())
    }

    fn votes(&mut self, voter: NodeId, term: Term, candidate: NodeId) -> Result<(), Violation> {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        Err(Violation::TwoVotes {
            voter,
            term,
            first,
            second: candidate,
        })
    }

    fn has_matching_log(&mut self, s: &Sighting) -> Result<(), Violation> {
        for log in [&s.durable, &s.log] {
            let mut previous = log.before.term;
            for entry in &log.entries {
                let written = Written {
                    previous,
                    entry_type: entry.entry_type(),
                    data: entry.data().clone(),
                };
                previous = entry.term();
                match self.entries.get(&(entry.term(), entry.index())) {
                    Some(first) if *first == written => {}
                    Some(_) => {
                        return Err(Violation::LogMatching {
                            node: s.node,
                            id: entry.id(),
                        });
                    }
                    None => {
                        self.entries.insert((entry.term(), entry.index()), written);
                    }
                }
            }
        }
        Ok(())
    }

    fn commits(&mut self, s: &Sighting) -> Result<(), Violation> {
        let commit = s.hard_state.commit;
        // What waits in a Ready may replace what is seen; a leader replaces
        // nothing.
        if !s.is_leader() && s.handed_out == HandedOut::NotAll {
            return Ok(());
        }
        let compared = self.nodes.get(&s.node).map_or(s.log.before.index, |last| {
            last.compared.max(s.log.before.index)
        });
        let mut index = compared.next();
        while index <= commit {
            let Some(entry) = s.log.entry(index) else {
                return Err(Violation::CommitWithoutEntry {
                    node: s.node,
                    index,
                });
            };
            let by = s.hard_state.term;
            let first = self.committed.entry(index).or_insert(Committed {
                term: entry.term(),
                by,
            });
            if first.term != entry.term() {
                return Err(Violation::TwoCommitted {
                    node: s.node,
                    first: EntryId::new(first.term, index),
                    second: entry.id(),
                });
            }
            first.by = first.by.min(by);
            index = index.next();
        }
        self.commit_highest = self.commit_highest.max(commit);
        Ok(())
    }

    fn is_complete(&self, s: &Sighting) -> Result<(), Violation> {
        if !s.is_leader() {
            return Ok(());
        }
        let term = s.hard_state.term;
        let missing = self
            .committed
            .range(s.log.before.index..)
            .filter(|(_, committed)| committed.by < term)
            .map(|(index, committed)| EntryId::new(committed.term, *index))
            .find(|id| !s.log.has(*id));
        match missing {
            None => Ok(()),
            Some(missing) => Err(Violation::LeaderIncomplete {
                leader: s.node,
                term,
                missing,
            }),
        }
    }

    fn applies(&mut self, s: &Sighting) -> Result<(), Violation> {
        let metadata = &s.state.metadata;
        let (node, index) = (s.node, metadata.index);
        if index > s.hard_state.commit {
            return Err(Violation::AppliedUncommitted { node, index });
        }
        if s.state.is_empty() {
            return Ok(());
        }
        let data = &s.state.data;
        let (state, conf_state) = self
            .states
            .entry(index)
            .or_insert_with(|| (data.clone(), metadata.conf_state.clone()));
        let shared = self.longest.len().min(data.len());
        let is_same = state == data && conf_state.is_equivalent_to(&metadata.conf_state);
        if !is_same || self.longest[..shared] != data[..shared] {
            return Err(Violation::OtherState { node, index });
        }
        if data.len() > self.longest.len() {
            self.longest = data.clone();
        }
        Ok(())
    }

    fn reads(&self, s: &Sighting) -> Result<(), Violation> {
        // A lease rests on clocks, and scripts stop clocks as they like.
        if s.read_only == ReadOnly::LeaseBased {
            return Ok(());
        }
        let seen = match self.nodes.get(&s.node) {
            Some(last) if self.restarted != Some(s.node) => last.reads,
            _ => 0,
        };
        for read in s.reads.iter().skip(seen) {
            let Some(needed) = self.reads.get(&read.context) else {
                return Err(Violation::UnknownRead { node: s.node });
            };
            if read.index < *needed {
                return Err(Violation::StaleRead {
                    node: s.node,
                    index: read.index,
                    needed: *needed,
                });
            }
        }
        Ok(())
    }

    /// The highest committed entry is on the disks of a quorum, as its leader
    /// counts.
    fn is_durable(&self, sightings: &[Sighting]) -> Result<(), Violation> {
        let Some((index, committed)) = self.committed.last_key_value() else {
            return Ok(());
        };
        let id = EntryId::new(committed.term, *index);
        // A leader commits by entries of its own term. A later one may bring the
        // commit index along that it had before, and count others by now.
        let leader = sightings.iter().find(|s| {
            s.is_leader() && s.hard_state.term == id.term && s.hard_state.commit >= *index
        });
        let judges: Vec<&Sighting> = match leader {
            Some(leader) => vec![leader],
            // It led and lost the lead within the command, or before.
            None => sightings.iter().collect(),
        };
        // The command may have applied changes before the commit and behind it.
        let configurations = judges.iter().flat_map(|s| self.configurations_of(s));
        let has = |node: &NodeId| {
            let sighting = sightings.iter().find(|s| s.node == *node);
            sighting.is_some_and(|s| s.durable.has(id))
        };
        let majority =
            |voters: &[NodeId]| voters.iter().filter(|voter| has(voter)).count() > voters.len() / 2;
        let mut configurations = configurations.filter(|c| !c.voters.is_empty());
        if configurations.any(|c: ConfState| {
            majority(&c.voters) && (c.voters_outgoing.is_empty() || majority(&c.voters_outgoing))
        }) {
            return Ok(());
        }
        // Nodes begin with a snapshot that nobody had to commit.
        if sightings.iter().all(|s| !self.nodes.contains_key(&s.node)) {
            return Ok(());
        }
        Err(Violation::NotDurable { id })
    }

    /// What a node has counted by since it was seen last: where it stands now, where
    /// it stood, and what it came through.
    fn configurations_of(&self, s: &Sighting) -> Vec<ConfState> {
        let mut all = vec![s.conf_state.clone()];
        let Some(last) = self.nodes.get(&s.node) else {
            return all;
        };
        all.push(last.conf_state.clone());
        let Ok(mut membership) = Membership::restore(&last.conf_state) else {
            return all;
        };
        let applied = s.log.entries.iter().filter(|entry| {
            let index = entry.index();
            last.applied < index && index <= s.state.metadata.index
        });
        for entry in applied {
            // One that cannot be made changes nothing.
            if let Ok(Some(change)) = entry.conf_change()
                && let Ok(next) = membership.changed(&change)
            {
                membership = next.membership;
                all.push(membership.conf_state());
            }
        }
        all
    }

    fn remember(&mut self, s: &Sighting) {
        let compared = if s.is_leader() || s.handed_out == HandedOut::All {
            s.hard_state.commit
        } else {
            let last = self.nodes.get(&s.node);
            let compared = last.map_or(LogIndex::ZERO, |last| last.compared);
            compared.min(s.hard_state.commit)
        };
        self.nodes.insert(
            s.node,
            Memory {
                hard_state: s.hard_state,
                stored: s.stored,
                applied: s.state.metadata.index,
                compared,
                reads: s.reads.len(),
                conf_state: s.conf_state.clone(),
            },
        );
    }
}

/// What a leader takes a follower to have is on the follower's disk, unless a
/// later leader replaced it.
fn matches_followers(leader: &Sighting, all: &[Sighting]) -> Result<(), Violation> {
    for (id, progress) in &leader.progress {
        let Some(follower) = all.iter().find(|s| s.node == *id) else {
            continue;
        };
        if follower.hard_state.term > leader.hard_state.term {
            continue;
        }
        let matched = progress.matched;
        // A new leader counts its log as matched before all of it is durable:
        // nothing commits before an entry of its own term does (Raft §5.4.2).
        let is_of_its_term = leader
            .log
            .entry(matched)
            .is_some_and(|entry| entry.term() == leader.hard_state.term);
        if *id == leader.node && !is_of_its_term {
            continue;
        }
        let is_there = follower.durable.last().index >= matched;
        let is_same = leader
            .log
            .entry(matched)
            .is_none_or(|entry| follower.durable.has(entry.id()));
        if !is_there || !is_same {
            return Err(Violation::MatchedTooMuch {
                leader: leader.node,
                follower: *id,
                matched,
            });
        }
    }
    Ok(())
}
