//! # The door: `RawNode`
//!
//! Everything a driver can do to a node, and what comes out of it. Not
//! shared between threads, never waiting.
//!
//! Four kinds of methods:
//! - *questions* take `&self`: [`status`](RawNode::status),
//!   [`has_ready`](RawNode::has_ready), [`term`](RawNode::term) …
//! - *input* from the network and the clock: [`step`](RawNode::step),
//!   [`tick`](RawNode::tick), the reports;
//! - *commands* of users: [`propose`](RawNode::propose),
//!   [`read_index`](RawNode::read_index), [`campaign`](RawNode::campaign) …
//! - *effects*: [`ready`](RawNode::ready), and what says that they have been
//!   carried out: [`advance`](RawNode::advance), or
//!   [`persisted`](RawNode::persisted) and [`applied`](RawNode::applied).
//!
//! The last are in `effects.rs`.
//!
//! - Owns: the node, and what was last reported of it.
//! - Source: etcd `RawNode`.

mod effects;

use alloc::vec::Vec;

use bytes::Bytes;

use crate::common::{Candidacy, LostEntries};
use crate::config::Config;
use crate::error::{Halted, ProposeError, ReadIndexError, StartError, StepError};
use crate::invariant::BrokenInvariant;
use crate::membership::{ConfChangeError, Membership};
use crate::proposed::Proposed;
use crate::raft::Raft;
use crate::role::Role;
use crate::role::leader::SnapshotOutcome;
use crate::status::Status;
use crate::storage::{Storage, StorageError};
use crate::types::{
    ConfChange, ConfChangeV1, ConfState, HardState, LogIndex, Message, NodeId, Proposal, Proposals,
    RoleKind, SoftState, Term,
};

use effects::Outstanding;

/// A server of the cluster, as a state machine.
///
/// ```
/// use raft_core::{Config, ConfState, MemoryStorage, NodeId, RawNode};
///
/// let id = NodeId::new(1).expect("1 is a node id");
/// let storage = MemoryStorage::with_conf_state(ConfState::of_voters([id]));
/// let mut node = RawNode::new(Config::protected(id), storage)?;
///
/// node.campaign()?;
/// while node.has_ready() {
///     let ready = node.ready()?;
///     if let Some(append) = ready.append {
///         node.storage_mut().append(append.entries)?;
///         if let Some(hard_state) = append.hard_state {
///             node.storage_mut().set_hard_state(hard_state);
///         }
///     }
///     node.advance()?;
/// }
/// assert_eq!(node.leader(), Some(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RawNode<S> {
    raft: Raft<S>,
    reported_soft_state: SoftState,
    reported_hard_state: HardState,
    /// Whether a Ready is being carried out, in synchronous use.
    is_ready_outstanding: bool,
    /// What it will tell this node.
    outstanding: Outstanding,
}

impl<S: Storage> RawNode<S> {
    /// A follower with what is in `storage`.
    ///
    /// # Errors
    /// The configuration or the storage contradicts itself.
    pub fn new(config: Config, storage: S) -> Result<Self, StartError> {
        let raft = Raft::new(config, storage)?;
        Ok(Self {
            reported_soft_state: raft.soft_state(),
            reported_hard_state: raft.common.hard_state(),
            raft,
            is_ready_outstanding: false,
            outstanding: Outstanding::default(),
        })
    }

    // ── questions ────────────────────────────────────────────────────────────

    /// This server.
    pub fn id(&self) -> NodeId {
        self.raft.common.id()
    }

    /// How this server runs.
    pub fn config(&self) -> &Config {
        &self.raft.common.config
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.raft.common.term
    }

    /// Who leads the current term, as far as this server knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.role.leader(self.id())
    }

    /// This server's role.
    pub fn role(&self) -> RoleKind {
        self.raft.role.kind()
    }

    /// Leader and role.
    pub fn soft_state(&self) -> SoftState {
        self.raft.soft_state()
    }

    /// Term, vote and commit index, stored or not.
    pub fn hard_state(&self) -> HardState {
        self.raft.common.hard_state()
    }

    /// The highest index known to be committed.
    pub fn commit_index(&self) -> LogIndex {
        self.raft.common.log.committed()
    }

    /// The last index that the state machine applied.
    pub fn applied_index(&self) -> LogIndex {
        self.raft.common.log.applied()
    }

    /// How many payload bytes count against
    /// [`uncommitted_bytes_max`](Config::uncommitted_bytes_max) on a leader; none
    /// on other roles.
    pub fn uncommitted_bytes(&self) -> u64 {
        match &self.raft.role {
            Role::Leader(leader) => leader.uncommitted_bytes(),
            Role::Follower(_) | Role::Candidate(_) => 0,
        }
    }

    /// The first index of the log.
    pub fn first_index(&self) -> LogIndex {
        self.raft.common.log.first_index()
    }

    /// The last index of the log.
    pub fn last_index(&self) -> LogIndex {
        self.raft.common.log.last_index()
    }

    /// The active configuration.
    pub fn membership(&self) -> &Membership {
        &self.raft.common.membership
    }

    /// The server that leadership is being handed to, on the leader.
    pub fn transferee(&self) -> Option<NodeId> {
        match &self.raft.role {
            Role::Leader(leader) => leader.transferee(),
            Role::Follower(_) | Role::Candidate(_) => None,
        }
    }

    /// What was read from the disk.
    pub fn storage(&self) -> &S {
        self.raft.common.log.storage()
    }

    /// The view of the disk, to be kept up with what was written.
    pub fn storage_mut(&mut self) -> &mut S {
        self.raft.common.log.storage_mut()
    }

    /// Why this node has stopped, if it has.
    pub fn failure(&self) -> Option<&StorageError> {
        self.raft.failure()
    }

    /// A copy of everything worth knowing.
    pub fn status(&self) -> Status {
        let common = &self.raft.common;
        let (transferee, progress) = match &self.raft.role {
            Role::Leader(leader) => (leader.transferee(), leader.progress_states()),
            Role::Follower(_) | Role::Candidate(_) => (None, Vec::new()),
        };
        Status {
            id: common.id(),
            hard_state: common.hard_state(),
            soft_state: self.soft_state(),
            applied: common.log.applied(),
            first_index: common.log.first_index(),
            last_index: common.log.last_index(),
            conf_state: common.membership.conf_state(),
            transferee,
            progress,
            lost_entries: common.quarantine,
        }
    }

    /// Checks every documented invariant; for tests, simulation and fuzzing.
    ///
    /// # Errors
    /// Names the first invariant that does not hold.
    pub fn check(&self) -> Result<(), BrokenInvariant> {
        crate::check::check(&self.raft)
    }

    // ── input ────────────────────────────────────────────────────────────────

    /// Takes a message from another server.
    ///
    /// # Errors
    /// Unless this node has stopped, a message that is not taken has changed
    /// nothing.
    pub fn step(&mut self, mut message: Message) -> Result<(), StepError> {
        self.raft.step(&mut message)
    }

    /// Takes a message out of the list in which it lies, without moving it: what
    /// this node keeps of it is taken out, and what is left means nothing, also
    /// after an error. Otherwise like [`step`](Self::step). A message is moved in
    /// pieces, and for a small one that is a good part of what it costs.
    ///
    /// # Errors
    /// As of [`step`](Self::step).
    pub fn step_in_place(&mut self, message: &mut Message) -> Result<(), StepError> {
        self.raft.step(message)
    }

    /// A tick has passed.
    ///
    /// # Errors
    /// This node has stopped.
    pub fn tick(&mut self) -> Result<(), Halted> {
        self.raft.tick()
    }

    /// The last message to `id` could not be delivered. A leader then sends one
    /// message at a time until `id` answers.
    pub fn report_unreachable(&mut self, id: NodeId) {
        self.raft.report_unreachable(id);
    }

    /// How the journey of a snapshot to `id` ended. A leader sends nothing to
    /// `id` before it hears of it, or from `id`.
    pub fn report_snapshot(&mut self, id: NodeId, outcome: SnapshotOutcome) {
        self.raft.report_snapshot(id, outcome);
    }

    /// The storage now has entries that it had not at hand (see
    /// [`StorageError::EntriesTemporarilyUnavailable`]), or knows that it cannot
    /// have them. A leader tries again whoever waits for them.
    ///
    /// # Errors
    /// This node has stopped.
    pub fn entries_available(&mut self) -> Result<(), Halted> {
        self.raft.entries_available()
    }

    /// The disk of this server lost entries that it had acknowledged (see
    /// [`Misbehaved::CommitBeyondLog`](crate::Misbehaved)). From now on it
    /// neither votes nor campaigns.
    pub fn quarantine(&mut self, evidence: LostEntries) {
        self.raft.quarantine(evidence);
    }

    // ── commands ─────────────────────────────────────────────────────────────

    /// Proposes a command for the state machine.
    ///
    /// # Errors
    /// It is in no log, and will not be.
    pub fn propose(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        self.raft
            .propose(Proposals::from_buf([Proposal::normal(data)]))
    }

    /// Proposes several entries at once. They are appended together or not at
    /// all, and sent together.
    ///
    /// # Errors
    /// They are in no log, and will not be.
    pub fn propose_batch(&mut self, proposals: Vec<Proposal>) -> Result<Proposed, ProposeError> {
        self.raft.propose(proposals.into())
    }

    /// Proposes a change of the configuration. A leader that can tell that it
    /// is impossible appends an empty entry instead and says why.
    ///
    /// # Errors
    /// It is in no log, and will not be.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, ProposeError> {
        self.raft
            .propose(Proposals::from_buf([change.to_proposal()]))
    }

    /// Proposes a change in etcd's first format.
    ///
    /// # Errors
    /// It is in no log, and will not be.
    pub fn propose_conf_change_v1(
        &mut self,
        change: &ConfChangeV1,
    ) -> Result<Proposed, ProposeError> {
        self.raft
            .propose(Proposals::from_buf([change.to_proposal()]))
    }

    /// Moves to the configuration after a committed change. Call it for every
    /// configuration entry that is applied.
    ///
    /// # Errors
    /// The change cannot be made from the current configuration. It is void, on
    /// every server alike, and nothing has changed.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, ConfChangeError> {
        self.raft.apply_conf_change(change)
    }

    /// Asks for an index at which a read is linearizable. The answer is a
    /// [`ReadState`](crate::ReadState) with this context; it may be lost.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), ReadIndexError> {
        self.raft.read_index(context)
    }

    /// Campaigns now, if this server may.
    ///
    /// # Errors
    /// This node has stopped.
    pub fn campaign(&mut self) -> Result<(), Halted> {
        self.raft.campaign()
    }

    /// Asks the leader to hand leadership to `to`.
    ///
    /// # Errors
    /// This node has stopped.
    pub fn transfer_leadership(&mut self, to: NodeId) -> Result<(), Halted> {
        self.raft.transfer_leadership(to)
    }

    /// Stops leading, as if no quorum had been heard of. On any other role
    /// nothing happens.
    pub fn step_down(&mut self) {
        self.raft.step_down();
    }

    /// Says whether this server campaigns from now on. Withholding does not end
    /// a leadership; see [`step_down`](Self::step_down).
    pub fn set_candidacy(&mut self, candidacy: Candidacy) {
        self.raft.set_candidacy(candidacy);
    }

    /// Forgets who leads, so that this server votes before its timeout.
    pub fn forget_leader(&mut self) {
        self.raft.forget_leader();
    }

    /// Fixes the time after which this server campaigns, until it is drawn
    /// anew. For tests that need a certain server to be first.
    pub fn set_randomized_election_timeout(&mut self, ticks: u32) {
        self.raft.common.timer.set_randomized_timeout(ticks);
    }
}
