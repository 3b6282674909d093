//! # Raft
//!
//! The state every role has, and the current role. Input goes through the gate
//! to the role, which says what comes next; the transition is made here and
//! nowhere else.
//!
//! ```text
//!   message ─► gate ─► role ─► Next ─► transition
//!                        └──► outbox, log ──► Ready
//! ```
//!
//! - Owns: [`Common`] and [`Role`].
//! - Source: Raft Fig. 2, Fig. 4; etcd `Step`, `tick*`, `become*`, `reset`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use crate::campaign;
use crate::common::{Candidacy, Common, LostEntries};
use crate::config::{Config, StorageWrites};
use crate::error::{Halted, ProposeError, ReadIndexError, StartError, StepError};
use crate::gate::{self, Verdict};
use crate::log::{Appliable, RaftLog};
use crate::membership::{ConfChangeError, Membership};
use crate::outbox::Outbox;
use crate::proposed::Proposed;
use crate::ready::{AppliedMark, OwnAnswer, StableMark};
use crate::role::leader::{NotAppended, SnapshotOutcome};
use crate::role::{Campaign, Candidate, Follower, Leader, Next, Role};
use crate::storage::{Storage, StorageError};
use crate::timer::Timer;
use crate::types::{
    Body, ConfChange, ConfState, LogIndex, Message, NodeId, Proposals, Round, SoftState, Term,
    VoteResponse,
};
use crate::vote;

#[derive(Debug)]
pub(crate) struct Raft<S> {
    pub(crate) common: Common<S>,
    pub(crate) role: Role,
    /// Why this node cannot go on, once it cannot.
    failure: Option<StorageError>,
}

impl<S: Storage> Raft<S> {
    pub(crate) fn new(config: Config, storage: S) -> Result<Self, StartError> {
        config.validate()?;
        let initial = storage.initial_state()?;
        let membership = Membership::restore(&initial.conf_state).map_err(StartError::ConfState)?;
        let appliable = match config.storage_writes {
            StorageWrites::Synchronous => Appliable::Committed,
            StorageWrites::Asynchronous => Appliable::Stable,
        };
        let mut log = RaftLog::new(storage, config.committed_bytes_max(), appliable);
        let hard_state = initial.hard_state;
        let (first, last) = (log.first_index(), log.last_index());
        let term = hard_state.term;
        if term > Term::MAX || last > LogIndex::MAX {
            return Err(StartError::OutOfRange { term, last });
        }
        let last_term = log.last_id()?.term;
        // A log that was set up by hand is of term 1, without a hard state.
        if config.is_protected() && last_term > term.max(Term::new(1)) {
            return Err(StartError::TermBehindLog {
                term,
                last: last_term,
            });
        }
        if !hard_state.is_empty() {
            let commit = hard_state.commit;
            if commit < log.committed() || commit > last {
                return Err(StartError::CommitOutOfRange {
                    commit,
                    first,
                    last,
                });
            }
            log.commit_to(commit);
        }
        let applied = config.applied;
        if applied > LogIndex::ZERO {
            let commit = log.committed();
            if applied > commit || applied < log.applied() {
                return Err(StartError::AppliedOutOfRange {
                    applied,
                    first,
                    commit,
                });
            }
            log.applied_to(applied, 0);
        }
        let timer = Timer::new(config.election_ticks, config.seed);
        Ok(Self {
            common: Common {
                term: hard_state.term,
                vote: hard_state.vote,
                log,
                membership,
                timer,
                outbox: Outbox::new(config.storage_writes, config.protections),
                deferred_reads: Vec::new(),
                quarantine: None,
                candidacy: Candidacy::Allowed,
                config,
            },
            role: Role::Follower(Follower::of(None)),
            failure: None,
        })
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState {
            leader: self.role.leader(self.common.id()),
            role: self.role.kind(),
        }
    }

    pub(crate) fn failure(&self) -> Option<&StorageError> {
        self.failure.as_ref()
    }

    /// Says whether this node can go on.
    pub(crate) fn alive(&self) -> Result<(), Halted> {
        match self.failure {
            None => Ok(()),
            Some(_) => Err(Halted),
        }
    }

    /// Remembers a failure of the storage; nothing goes on after it.
    pub(crate) fn guard<T>(&mut self, result: Result<T, StorageError>) -> Result<T, Halted> {
        result.map_err(|error| {
            self.failure = Some(error);
            Halted
        })
    }

    // ── input ────────────────────────────────────────────────────────────────

    /// The message is read in place, and what is kept of it taken out: moving it
    /// costs more.
    pub(crate) fn step(&mut self, message: &mut Message) -> Result<(), StepError> {
        self.alive()?;
        let from = message.from;
        if message.body.is_response() && !self.common.membership.contains(from) {
            return Err(StepError::PeerNotFound(from));
        }
        gate::validate(&self.common, &self.role, message)
            .map_err(|why| StepError::Misbehaved { from, why })?;
        match gate::judge(&self.common, &self.role, message) {
            Verdict::Pass => {}
            Verdict::Follow { term, leader } => self.become_follower(term, leader),
            Verdict::Drop => return Ok(()),
            Verdict::Reply(body) => {
                self.common.send(from, body);
                return Ok(());
            }
        }
        if let Body::Propose { proposals } = &mut message.body {
            let proposals = mem::take(proposals);
            match &self.role {
                Role::Follower(follower) => {
                    let body = Body::Propose { proposals };
                    follower.forward_for_peer(&mut self.common, from, body)?;
                }
                Role::Candidate(_) | Role::Leader(_) => {
                    self.propose_from(from, proposals.into())?;
                }
            }
            return Ok(());
        }
        let result = self.dispatch(message);
        self.guard(result)?;
        Ok(())
    }

    fn dispatch(&mut self, message: &mut Message) -> Result<(), StorageError> {
        let common = &mut self.common;
        if let Body::RequestVote { round, last, .. } = message.body {
            let leader = self.role.leader(common.id());
            return vote::on_request(common, leader, message.from, message.term, round, last);
        }
        let next = match &mut self.role {
            Role::Follower(follower) => follower.on_message(common, message)?,
            Role::Candidate(candidate) => candidate.on_message(common, message),
            Role::Leader(leader) => leader.on_message(common, message)?,
        };
        self.transition(next)
    }

    pub(crate) fn propose(&mut self, proposals: Proposals) -> Result<Proposed, ProposeError> {
        self.alive().map_err(ProposeError::Halted)?;
        if proposals.is_empty() {
            return Err(ProposeError::Empty);
        }
        self.propose_from(self.common.id(), proposals)
    }

    fn propose_from(
        &mut self,
        from: NodeId,
        proposals: Proposals,
    ) -> Result<Proposed, ProposeError> {
        let common = &mut self.common;
        match &mut self.role {
            Role::Follower(follower) => follower
                .forward(
                    common,
                    from,
                    Body::Propose {
                        proposals: proposals.into_vec(),
                    },
                )
                .map(|to| Proposed::Forwarded { to }),
            Role::Candidate(_) => Err(ProposeError::NoLeader),
            Role::Leader(leader) => match leader.propose(common, proposals) {
                Ok(appended) => Ok(Proposed::Appended {
                    term: appended.term,
                    first: appended.first,
                    last: appended.last,
                    refused: appended.refused,
                }),
                Err(NotAppended::Refused(why)) => Err(why),
                Err(NotAppended::Storage(error)) => {
                    self.failure = Some(error);
                    Err(ProposeError::Halted(Halted))
                }
            },
        }
    }

    pub(crate) fn read_index(&mut self, context: Bytes) -> Result<(), ReadIndexError> {
        self.alive()?;
        let common = &mut self.common;
        let result = match &mut self.role {
            Role::Follower(follower) => {
                follower.on_read_index(common, context);
                if follower.leader().is_none() {
                    return Err(ReadIndexError::NoLeader);
                }
                Ok(())
            }
            Role::Candidate(_) => return Err(ReadIndexError::NoLeader),
            Role::Leader(leader) => leader.on_read_index(common, None, context),
        };
        self.guard(result)?;
        Ok(())
    }

    pub(crate) fn tick(&mut self) -> Result<(), Halted> {
        self.alive()?;
        let common = &mut self.common;
        let next = match &mut self.role {
            Role::Leader(leader) => leader.tick(common),
            Role::Follower(_) | Role::Candidate(_) => {
                common.timer.tick();
                if campaign::is_promotable(common) && common.timer.is_past_randomized_timeout() {
                    common.timer.restart();
                    Next::Campaign(Self::first_round(common))
                } else {
                    Next::Stay
                }
            }
        };
        let result = self.transition(next);
        self.guard(result)
    }

    pub(crate) fn campaign(&mut self) -> Result<(), Halted> {
        self.alive()?;
        let result = self.transition(Next::Campaign(Self::first_round(&self.common)));
        self.guard(result)
    }

    fn first_round(common: &Common<S>) -> Campaign {
        if common.config.pre_vote {
            Campaign::PreElection
        } else {
            Campaign::Election
        }
    }

    pub(crate) fn transfer_leadership(&mut self, to: NodeId) -> Result<(), Halted> {
        self.alive()?;
        let common = &mut self.common;
        let result = match &mut self.role {
            Role::Follower(follower) => {
                if let Some(leader) = follower.leader() {
                    common.send_as(to, leader, Body::TransferLeader);
                }
                Ok(())
            }
            Role::Candidate(_) => Ok(()),
            Role::Leader(leader) => leader.on_transfer(common, to),
        };
        self.guard(result)
    }

    pub(crate) fn forget_leader(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            follower.forget_leader(&self.common);
        }
    }

    pub(crate) fn report_unreachable(&mut self, id: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_unreachable(id);
        }
    }

    pub(crate) fn report_snapshot(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_snapshot_report(id, outcome);
        }
    }

    pub(crate) fn entries_available(&mut self) -> Result<(), Halted> {
        self.alive()?;
        let result = match &mut self.role {
            Role::Leader(leader) => leader.send_available(&mut self.common),
            Role::Follower(_) | Role::Candidate(_) => Ok(()),
        };
        self.guard(result)
    }

    pub(crate) fn quarantine(&mut self, evidence: LostEntries) {
        self.common.quarantine.get_or_insert(evidence);
    }

    pub(crate) fn set_candidacy(&mut self, candidacy: Candidacy) {
        self.common.candidacy = candidacy;
    }

    /// A leader becomes a follower without a leader, in the same term.
    pub(crate) fn step_down(&mut self) {
        if let Role::Leader(_) = self.role {
            self.become_follower(self.common.term, None);
        }
    }

    // ── what the driver has done ─────────────────────────────────────────────

    /// A request of this node is durable, and so it answers itself.
    pub(crate) fn answered(&mut self, answer: OwnAnswer) -> Result<(), Halted> {
        self.alive()?;
        if let Some(term) = answer.term_to_follow() {
            self.catch_up_with(term);
        }
        let common = &mut self.common;
        let result = match answer {
            OwnAnswer::Append { term, index } => match &mut self.role {
                Role::Leader(leader) if term == common.term => {
                    let own = common.id();
                    leader.on_accepted(common, own, index)
                }
                _ => Ok(()),
            },
            OwnAnswer::Vote { round, term } => match &mut self.role {
                Role::Candidate(candidate) if term >= common.term && candidate.round() == round => {
                    let next = candidate.on_vote(common, common.id(), VoteResponse::Granted);
                    self.transition(next)
                }
                _ => Ok(()),
            },
        };
        self.guard(result)
    }

    /// The storage has what the mark says.
    pub(crate) fn stable(&mut self, mark: &StableMark) -> Result<(), Halted> {
        self.alive()?;
        self.catch_up_with(mark.term);
        let result = self.stable_to(mark);
        self.guard(result)
    }

    /// A message without a term can have thrown this node back since it asked for
    /// the write (see `Protections::Off`); then the receipt is news like any
    /// message.
    fn catch_up_with(&mut self, term: Term) {
        if term > self.common.term {
            self.become_follower(term, None);
        }
    }

    fn stable_to(&mut self, mark: &StableMark) -> Result<(), StorageError> {
        // Term zero is that of a node that has never heard of another.
        let is_of_term = mark.term == self.common.term || mark.term == Term::ZERO;
        let pending = self.common.log.pending_snapshot_index();
        let is_current = is_of_term && (pending == LogIndex::ZERO || pending == mark.behind);
        if let Some(last) = mark.last
            && is_current
        {
            self.common.log.stable_to(last);
        }
        // A snapshot is committed state: it counts in any term.
        if let Some(snapshot) = &mark.snapshot {
            let index = snapshot.metadata.index;
            self.common.log.snapshot_stable_to(index);
            self.applied_to(index, 0)?;
        }
        Ok(())
    }

    /// Entries are applied.
    pub(crate) fn applied(&mut self, mark: AppliedMark) -> Result<(), Halted> {
        self.alive()?;
        let result = self.applied_to(mark.index, mark.encoded_bytes);
        self.guard(result)?;
        if let Role::Leader(leader) = &mut self.role {
            leader.release_quota(mark.payload_bytes);
        }
        Ok(())
    }

    fn applied_to(&mut self, index: LogIndex, encoded_bytes: u64) -> Result<(), StorageError> {
        // Never back: the log knows better than an old report.
        self.common.log.applied_to(index, encoded_bytes);
        let applied = self.common.log.applied();
        match &mut self.role {
            Role::Leader(leader) => leader.on_applied(&mut self.common, applied),
            Role::Follower(_) | Role::Candidate(_) => Ok(()),
        }
    }

    /// Moves to the configuration after `change`. A change that cannot be made
    /// changes nothing, on this node as on every other.
    pub(crate) fn apply_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> Result<ConfState, ConfChangeError> {
        let change = self.common.membership.changed(change)?;
        self.common.membership = change.membership.clone();
        let conf_state = self.common.membership.conf_state();
        if let Role::Leader(leader) = &mut self.role {
            let result = leader.on_reconfigured(&mut self.common, &change);
            let result = result.and_then(|next| self.transition(next));
            // The configuration is in effect; a failure shows with the next call.
            let _ = self.guard(result);
        }
        Ok(conf_state)
    }

    // ── transitions ──────────────────────────────────────────────────────────

    /// Nearly every message leaves the role as it is.
    #[inline]
    fn transition(&mut self, next: Next) -> Result<(), StorageError> {
        match next {
            Next::Stay => Ok(()),
            next => self.change_role(next),
        }
    }

    #[cold]
    fn change_role(&mut self, next: Next) -> Result<(), StorageError> {
        match next {
            Next::Stay => Ok(()),
            Next::StepDown => {
                self.become_follower(self.common.term, None);
                Ok(())
            }
            Next::Campaign(campaign) => {
                let leads = matches!(self.role, Role::Leader(_));
                if leads || !campaign::may_campaign(&self.common)? {
                    return Ok(());
                }
                self.become_candidate(campaign)
            }
            Next::RequestVotes => self.become_candidate(Campaign::Election),
            Next::Lead => self.become_leader(),
        }
    }

    /// A role begins: a new term forgets the vote, and the timer is drawn anew.
    fn reset(&mut self, term: Term) {
        if self.common.term != term {
            self.common.term = term;
            self.common.vote = None;
        }
        self.common.timer.reset();
    }

    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        self.reset(term);
        self.role = Role::Follower(Follower::of(leader));
    }

    fn become_candidate(&mut self, campaign: Campaign) -> Result<(), StorageError> {
        let round = match campaign {
            // Nothing but the role changes: not the term, not the vote, not
            // the timer.
            Campaign::PreElection => Round::PreVote,
            Campaign::Election | Campaign::Transfer => {
                self.reset(self.common.term.next());
                self.common.vote = Some(self.common.id());
                Round::Vote
            }
        };
        self.role = Role::Candidate(Candidate::in_round(round));
        campaign::request_votes(&mut self.common, campaign)
    }

    fn become_leader(&mut self) -> Result<(), StorageError> {
        self.reset(self.common.term);
        let mut leader = Box::new(Leader::elected(&self.common));
        leader.append_noop(&mut self.common)?;
        leader.broadcast_append(&mut self.common)?;
        self.role = Role::Leader(leader);
        Ok(())
    }
}
