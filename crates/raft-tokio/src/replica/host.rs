//! # The replica's host
//!
//! What the loop does for [`Raft`](crate::Raft): takes requests, and carries
//! Readys out in the same task. A Ready's messages go out at once, its writes to
//! the log store, its committed entries to the state machine; the receipts come
//! back as events.
//!
//! Between a Ready and the hand-over of its effects there is no await, so no
//! effect can be lost to a cancellation.
//!
//! - Owns: writes that are not done, everybody who waits.
//! - Source: etcd `etcdserver/raft.go` (the Ready loop), thesis §10.2.1.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft_core::{
    AppendOutcome, Body, Candidacy, ConfChange, ConfChangeType, Entries, EntryId, EntryType, Flow,
    Halted, HardState, LogIndex, MemoryStorage, Message, NodeId, Proposal,
    ProposeError as CoreProposeError, Proposed, RawNode, Ready, RoleKind, Snapshot,
    SnapshotOutcome, SoftState, StepError, Storage, StorageAppend,
};
use raft_wire::frame::{RequestKind, ResponseOutcome};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::apply::{AppliedBatch, ApplyWork};
use super::changes::Changes;
use super::forwards::{self, Forwards};
use super::lease::Lease;
use super::membership::{self, MembershipGoal};
use super::propose::Room;
use super::reads::Reads;
use super::request::{
    ChangeReply, ClientRequest, ClientRequestKind, Command, Event, Freshness, PendingRead,
    TransferReply, Waiter,
};
use super::waiters::Waiters;
use crate::config::RaftConfig;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, TransferError};
use crate::event_loop::{Cleanup, Host};
use crate::log_store::{Durability, LogStore, LogStoreError, LogWrite, WriteDone};
use crate::state_machine::BoxError;
use crate::status::{ReplicaStatus, Waiting};
use crate::task::{StopReason, Stopped, TaskControl};
use crate::transport::{Inbound, Packet, Transport};

type Node = RawNode<MemoryStorage>;

/// A write of a Ready that was handed to the log store. Once it is done the view
/// of the disk follows, and receipts and messages go out.
#[derive(Debug)]
struct PendingWrite {
    hard_state: Option<HardState>,
    entries: Entries,
    snapshot: Option<Snapshot>,
    responses: Vec<AppendOutcome>,
    since_tick: u64,
}

/// Whether the disk keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiskState {
    Working,
    /// It has finished nothing for an election timeout.
    Stalled,
}

/// A snapshot of the own state machine that was handed to the log store. Once it
/// is stored the view drops the log up to `compact_to`.
#[derive(Debug)]
struct PendingCompaction {
    snapshot: Snapshot,
    compact_to: EntryId,
}

pub(super) struct ReplicaHost {
    config: RaftConfig,
    control: TaskControl,
    log: Box<dyn LogStore>,
    transport: Box<dyn Transport>,
    apply: mpsc::UnboundedSender<ApplyWork>,
    events: mpsc::UnboundedSender<Event>,
    writes: VecDeque<PendingWrite>,
    next_write: u64,
    first_write: u64,
    /// The tick in which a write was last done.
    written_tick: u64,
    disk: DiskState,
    waiters: Waiters,
    reads: Reads,
    lease: Lease,
    /// Before this tick this server takes part in no election: it may have
    /// promised a leader its lease before it was restarted.
    votes_from_tick: u64,
    forwards: Forwards,
    changes: Changes,
    room: Room,
    /// Servers that left, and when the transport may forget them: until then
    /// they may hear that they left.
    leaving: Vec<(NodeId, u64)>,
    /// The tick in which a shutdown under way ends at the latest.
    drain_until: Option<u64>,
    /// Commands of other replicas' callers, to be proposed in this turn.
    remote: Vec<ClientRequest>,
    /// Requests that were taken out of a gated channel to see how old they are.
    parked: VecDeque<ClientRequest>,
    /// Everything up to here was handed to the state machine.
    handed_out: LogIndex,
    applied: LogIndex,
    snapshot_index: LogIndex,
    /// The newest snapshot that was handed to the log store.
    newest_snapshot: LogIndex,
    snapshot_in_progress: bool,
    compaction: Option<PendingCompaction>,
    tick: Arc<AtomicU64>,
    status: watch::Sender<ReplicaStatus>,
    status_stale: bool,
    leader_changes: u64,
}

/// What a host is made of.
pub(super) struct Parts {
    pub(super) config: RaftConfig,
    pub(super) control: TaskControl,
    pub(super) log: Box<dyn LogStore>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) apply: mpsc::UnboundedSender<ApplyWork>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) applied: LogIndex,
    pub(super) tick: Arc<AtomicU64>,
    pub(super) status: watch::Sender<ReplicaStatus>,
    pub(super) room: Room,
    pub(super) votes_from_tick: u64,
}

impl ReplicaHost {
    pub(super) fn new(parts: Parts) -> Self {
        let seed = crate::config::process_seed(parts.config.id);
        Self {
            lease: Lease::new(parts.config.lease_length()),
            votes_from_tick: parts.votes_from_tick,
            room: parts.room,
            leaving: Vec::new(),
            drain_until: None,
            written_tick: 0,
            disk: DiskState::Working,
            waiters: Waiters::default(),
            reads: Reads::new(seed),
            forwards: Forwards::new(seed),
            changes: Changes::default(),
            writes: VecDeque::new(),
            next_write: 0,
            first_write: 0,
            remote: Vec::new(),
            parked: VecDeque::new(),
            handed_out: parts.applied,
            applied: parts.applied,
            snapshot_index: parts.applied,
            newest_snapshot: parts.applied,
            snapshot_in_progress: false,
            compaction: None,
            status_stale: true,
            leader_changes: 0,
            config: parts.config,
            control: parts.control,
            log: parts.log,
            transport: parts.transport,
            apply: parts.apply,
            events: parts.events,
            tick: parts.tick,
            status: parts.status,
        }
    }

    fn now(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    // ── requests ─────────────────────────────────────────────────────────────

    fn propose(&mut self, node: &mut Node, commands: Vec<Proposal>, waiters: VecDeque<Waiter>) {
        if commands.is_empty() {
            return;
        }
        match node.role() {
            RoleKind::Leader => {}
            RoleKind::Follower | RoleKind::PreCandidate | RoleKind::Candidate => {
                self.forward(node, commands, waiters);
                return;
            }
        }
        let individually = (commands.len() > 1 && self.config.uncommitted_bytes_max != u64::MAX)
            .then(|| commands.clone());
        match (node.propose_batch(commands), individually) {
            (Ok(proposed), _) => self.on_proposed(&proposed, waiters),
            // No room for all; some may fit.
            (Err(CoreProposeError::QuotaExceeded { .. }), Some(commands)) => {
                for (command, waiter) in commands.into_iter().zip(waiters) {
                    match node.propose_batch(vec![command]) {
                        Ok(proposed) => self.on_proposed(&proposed, VecDeque::from([waiter])),
                        Err(error) => self.refuse(waiter, convert(&error)),
                    }
                }
            }
            (Err(error), _) => {
                for waiter in waiters {
                    self.refuse(waiter, convert(&error));
                }
            }
        }
    }

    fn on_proposed(&mut self, proposed: &Proposed, waiters: VecDeque<Waiter>) {
        match proposed {
            Proposed::Appended { term, first, .. } => {
                let now = self.now();
                self.waiters.push(*term, *first, now, waiters);
            }
            // The core was told not to forward.
            Proposed::Forwarded { .. } => {
                for waiter in waiters {
                    self.refuse(waiter, ProposeError::OutcomeUnknown);
                }
            }
        }
    }

    /// Passes commands on to the leader. Commands that were passed on to this
    /// server are refused: one hop, or they could circulate.
    fn forward(&mut self, node: &Node, commands: Vec<Proposal>, waiters: VecDeque<Waiter>) {
        let leader = node.leader();
        let now = self.now();
        for (command, waiter) in commands.into_iter().zip(waiters) {
            match (waiter, leader) {
                (waiter, _) if self.forwards.len() >= self.config.requests_waiting_max => {
                    self.refuse(waiter, ProposeError::QueueFull);
                }
                (Waiter::Local(reply), Some(to)) if self.config.forwarding => {
                    let id = self.forwards.push(reply, to, now);
                    let packet = Packet::Request {
                        from: self.config.id,
                        id,
                        kind: RequestKind::Propose,
                        payload: command.data,
                    };
                    self.transport.send(to, packet);
                }
                (waiter, leader) => self.refuse(waiter, ProposeError::NotLeader { leader }),
            }
        }
    }

    fn refuse(&mut self, waiter: Waiter, error: ProposeError) {
        match waiter {
            Waiter::Local(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(Err(error));
            }
            Waiter::Remote { from, id } => {
                let outcome = forwards::encode_outcome(&error);
                self.respond(from, id, outcome);
            }
        }
    }

    fn respond(&mut self, to: NodeId, id: u64, outcome: ResponseOutcome) {
        let from = self.config.id;
        self.transport
            .send(to, Packet::Response { from, id, outcome });
    }

    fn change_membership(&mut self, node: &mut Node, goal: MembershipGoal, reply: ChangeReply) {
        if node.role() != RoleKind::Leader {
            let leader = node.leader();
            let _ = reply.send(Err(ChangeMembershipError::NotLeader { leader }));
            return;
        }
        let change = match membership::plan(node.membership(), goal) {
            Ok(Some(change)) => change,
            Ok(None) => {
                let _ = reply.send(Ok(node.membership().conf_state()));
                return;
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        match node.propose_conf_change(&change) {
            Ok(Proposed::Appended {
                refused: Some(why), ..
            }) => {
                let _ = reply.send(Err(why.into()));
            }
            Ok(Proposed::Appended { term, last, .. }) => {
                let now = self.now();
                self.changes.await_change(term, last, now, reply);
            }
            Ok(Proposed::Forwarded { .. }) => {
                let _ = reply.send(Err(ProposeError::OutcomeUnknown.into()));
            }
            Err(error) => {
                let _ = reply.send(Err(convert(&error).into()));
            }
        }
    }

    fn transfer(&mut self, node: &mut Node, to: NodeId, reply: TransferReply) {
        if node.role() != RoleKind::Leader {
            let leader = node.leader();
            let _ = reply.send(Err(TransferError::NotLeader { leader }));
            return;
        }
        if to == node.id() {
            let _ = reply.send(Ok(()));
            return;
        }
        if !node.membership().voters().contains(to) {
            let _ = reply.send(Err(TransferError::NotVoter { to }));
            return;
        }
        let now = self.now();
        self.changes.await_transfer(to, node.term(), now, reply);
        self.hand_over(node, to);
    }

    fn hand_over(&mut self, node: &mut Node, to: NodeId) {
        self.lease.bar(node.term());
        // A node that has halted ends the loop with the next turn.
        let _ = node.transfer_leadership(to);
    }

    // ── from other replicas ──────────────────────────────────────────────────

    fn step(&mut self, node: &mut Node, message: Message) {
        let is_vote_request = matches!(
            message.body,
            Body::RequestVote {
                transfer: false,
                ..
            }
        );
        if is_vote_request && self.now() < self.votes_from_tick {
            return;
        }
        Self::step_checked(node, message);
        if node.transferee().is_some() {
            self.lease.bar(node.term());
        }
    }

    fn step_checked(node: &mut Node, message: Message) {
        match node.step(message) {
            Ok(()) | Err(StepError::PeerNotFound(_)) => {}
            Err(StepError::Misbehaved {
                from,
                why: raft_core::Misbehaved::CommitBeyondLog { commit, last },
            }) => {
                tracing::error!(
                    node = %node.id(), peer = %from, acknowledged = %commit, last = %last,
                    "this node's disk lost entries that it had acknowledged; it no longer votes. \
                     Remove it from the cluster, wipe its folder and add it anew"
                );
                node.quarantine(raft_core::LostEntries {
                    acknowledged: commit,
                    last,
                });
            }
            Err(error) => tracing::warn!(node = %node.id(), %error, "a message was not taken"),
        }
    }

    fn on_packet(&mut self, node: &mut Node, packet: Packet) {
        match packet {
            Packet::Raft(message) => self.step(node, message),
            Packet::Request {
                from,
                id,
                kind: RequestKind::Propose,
                payload,
            } => {
                let reply = Waiter::Remote { from, id };
                let (bytes, bytes_max) = (payload.len(), self.config.command_bytes_max);
                if bytes == 0 {
                    self.refuse(reply, ProposeError::Empty);
                    return;
                }
                if bytes > bytes_max {
                    self.refuse(reply, ProposeError::TooLarge { bytes, bytes_max });
                    return;
                }
                // What comes from other replicas has no queue to wait in.
                if !self.has_room(node) || self.remote.len() >= self.config.requests_waiting_max {
                    self.refuse(reply, ProposeError::QuotaExceeded);
                    return;
                }
                let kind = ClientRequestKind::Propose {
                    command: payload,
                    reply,
                };
                self.remote.push(ClientRequest {
                    kind,
                    since_tick: self.now(),
                    _room: None,
                });
            }
            // Reads go through the protocol's own messages.
            Packet::Request { from, id, .. } => {
                self.respond(from, id, ResponseOutcome::Unknown);
            }
            Packet::Response { from, id, outcome } => self.forwards.answer(from, id, outcome),
        }
    }

    fn take_requests(&mut self, node: &mut Node, requests: impl Iterator<Item = ClientRequest>) {
        if self.drain_until.is_some() {
            for request in requests {
                self.refuse_request(request, &ProposeError::Stopped(shutdown()));
            }
            return;
        }
        let mut commands = Vec::new();
        let mut waiters = VecDeque::new();
        let mut reads_room = None;
        for request in requests {
            let mut take = |command, reply| {
                commands.push(Proposal::normal(command));
                waiters.push_back(reply);
            };
            match request.kind {
                // Whoever gave up while it waited does not want it any more.
                ClientRequestKind::Propose { reply, .. }
                | ClientRequestKind::ProposeClaimed { reply, .. }
                | ClientRequestKind::ProposeInTerm { reply, .. }
                    if reply.is_gone() => {}
                ClientRequestKind::Propose { command, reply } => take(command, reply),
                ClientRequestKind::ProposeClaimed {
                    command,
                    reply,
                    claim,
                } => {
                    if claim.take() {
                        take(command, reply);
                    }
                }
                ClientRequestKind::ProposeInTerm {
                    command,
                    reply,
                    term: wanted,
                } => {
                    let term = node.term();
                    if node.role() == RoleKind::Leader && term == wanted {
                        take(command, reply);
                    } else {
                        self.refuse(reply, ProposeError::OtherTerm { wanted, term });
                    }
                }
                ClientRequestKind::ProposeBatch { commands, replies } => {
                    for (command, reply) in commands.into_iter().zip(replies) {
                        if !reply.is_closed() {
                            take(command, Waiter::Local(reply));
                        }
                    }
                }
                ClientRequestKind::Read { read, freshness } => {
                    let room = reads_room.get_or_insert_with(|| {
                        self.config
                            .reads_waiting_max
                            .saturating_sub(self.reads.len())
                    });
                    if *room == 0 {
                        read.fail(ReadError::QueueFull);
                    } else {
                        *room -= 1;
                        self.reads.push(read, freshness, request.since_tick);
                    }
                }
            }
        }
        self.propose(node, commands, waiters);
    }

    fn read_stale(&mut self, node: &Node, read: PendingRead, age_max: Duration, since_tick: u64) {
        if self.drain_until.is_some() {
            read.fail(ReadError::Stopped(shutdown()));
        } else if self
            .reads
            .is_fresh(Instant::now(), age_max, self.handed_out)
        {
            // A state machine that has failed has said so in another event.
            let _ = self.apply.send(ApplyWork::Reads(vec![read]));
        } else if is_removed(node) {
            read.fail(ReadError::NotMember);
        } else if self.reads.len() >= self.config.reads_waiting_max {
            read.fail(ReadError::QueueFull);
        } else {
            self.reads.push(read, Freshness::Confirmed, since_tick);
        }
    }

    fn refuse_request(&mut self, request: ClientRequest, error: &ProposeError) {
        let read_error = match error {
            ProposeError::Stopped(stopped) => ReadError::Stopped(stopped.clone()),
            ProposeError::NotMember => ReadError::NotMember,
            _ => ReadError::Timeout,
        };
        request.refuse(error.clone(), read_error, |waiter, error| {
            self.refuse(waiter, error);
        });
    }

    // ── carrying a Ready out ─────────────────────────────────────────────────

    fn carry_out(&mut self, node: &mut Node, ready: Ready) {
        for message in ready.messages {
            if Self::is_stale_snapshot(&message) {
                // Not again before the next heartbeat; by then there is one.
                node.report_snapshot(message.to, SnapshotOutcome::Failed);
                self.begin_snapshot();
            } else {
                self.send(message);
            }
        }
        if let Some(append) = ready.append {
            self.write(append, ready.must_sync);
        }
        if let Some(apply) = ready.apply {
            self.hand_out(node, &apply.entries, apply.receipt);
        }
        for read in ready.read_states {
            let asked = self.reads.confirm(&read.context, read.index);
            if let Some(asked) = asked
                && node.role() == RoleKind::Leader
            {
                self.lease.extend(node.term(), asked);
            }
        }
        if let Some(soft_state) = ready.soft_state {
            self.on_soft_state(node, soft_state);
        }
    }

    fn send(&mut self, message: Message) {
        self.transport.send(message.to, Packet::Raft(message));
    }

    /// Whether a message carries a snapshot from before its receiver joined. The
    /// receiver would not take it, since it is not in the configuration there.
    fn is_stale_snapshot(message: &Message) -> bool {
        match &message.body {
            Body::Snapshot(snapshot) => !snapshot.metadata.conf_state.contains(message.to),
            _ => false,
        }
    }

    fn write(&mut self, append: StorageAppend, must_sync: bool) {
        let StorageAppend {
            hard_state,
            entries,
            snapshot,
            responses,
        } = append;
        let write = LogWrite {
            hard_state,
            entries: entries.clone(),
            snapshot: snapshot.clone(),
            durability: if must_sync || snapshot.is_some() {
                Durability::Synced
            } else {
                Durability::Ordered
            },
        };
        if let Some(snapshot) = &snapshot {
            self.newest_snapshot = snapshot.metadata.index;
        }
        self.writes.push_back(PendingWrite {
            hard_state,
            entries,
            snapshot,
            responses,
            since_tick: self.now(),
        });
        let sequence = self.next_write;
        self.next_write += 1;
        let events = self.events.clone();
        let done = WriteDone::new(move |result| {
            // A loop that is gone no longer waits.
            let _ = events.send(Event::Written { sequence, result });
        });
        self.log.append(write, done);
    }

    fn hand_out(
        &mut self,
        node: &mut Node,
        entries: &Entries,
        receipt: Option<raft_core::ApplyReceipt>,
    ) {
        let mut superseded = Vec::new();
        let waiters = self.waiters.take_committed(entries, &mut superseded);
        for waiter in superseded {
            self.refuse(waiter, ProposeError::Superseded);
        }
        let mut conf_states = Vec::new();
        for entry in entries.iter() {
            if entry.entry_type() == EntryType::Normal {
                continue;
            }
            let result = match entry.conf_change() {
                Ok(Some(change)) => {
                    let result = node.apply_conf_change(&change);
                    if result.is_ok() {
                        self.on_reconfigured(node, &change);
                    }
                    result
                }
                Ok(None) => continue,
                Err(malformed) => Err(malformed.into()),
            };
            match &result {
                Ok(conf_state) => {
                    tracing::info!(node = %node.id(), index = %entry.index(), ?conf_state,
                        "the configuration changed");
                    conf_states.push((entry.index(), conf_state.clone()));
                }
                Err(error) => {
                    tracing::warn!(node = %node.id(), index = %entry.index(), %error,
                        "a committed configuration change is void");
                }
            }
            self.changes
                .on_conf_change(entry.term(), entry.index(), &result);
        }
        if let Some(last) = entries.last_id() {
            self.handed_out = last.index;
        }
        // A state machine that has failed has said so in another event.
        let _ = self.apply.send(ApplyWork::Entries {
            entries: entries.clone(),
            waiters,
            receipt,
            conf_states,
        });
    }

    /// The members changed: the transport learns who came and who left.
    fn on_reconfigured(&mut self, node: &Node, change: &ConfChange) {
        self.lease.reconfigured(Instant::now());
        self.status_stale = true;
        if let Some((id, address)) = membership::decode_address(&change.context)
            && id != node.id()
        {
            self.transport.set_peer(id, Some(address));
        }
        let forget_at = self.now() + u64::from(self.config.election_ticks);
        for single in &change.changes {
            let Some(id) = single.node_id else { continue };
            self.leaving.retain(|(leaving, _)| *leaving != id);
            if single.change_type == ConfChangeType::RemoveNode && id != node.id() {
                self.leaving.push((id, forget_at));
            }
        }
        if is_removed(node) {
            tracing::warn!(node = %node.id(), term = %node.term(),
                "this node was removed from the cluster; it takes no more requests");
        }
    }

    fn forget_who_left(&mut self, node: &Node, now: u64) {
        let Self {
            leaving, transport, ..
        } = self;
        leaving.retain(|(id, at)| {
            let is_due = *at <= now;
            // In a joint configuration whoever leaves is needed until the end.
            if is_due && !node.membership().contains(*id) {
                transport.set_peer(*id, None);
                return false;
            }
            true
        });
    }

    fn on_soft_state(&mut self, node: &Node, soft_state: SoftState) {
        self.status_stale = true;
        if soft_state.leader.is_some() && soft_state.leader != self.status.borrow().leader {
            self.leader_changes += 1;
            tracing::info!(node = %node.id(), term = %node.term(), leader = ?soft_state.leader,
                role = ?soft_state.role, "a leader was elected");
        }
        // Whom the round was asked of may never answer.
        self.reads.abandon_round();
        self.changes.on_leader(
            node.term(),
            soft_state.leader,
            soft_state.role == RoleKind::Leader,
            node.transferee(),
        );
    }

    // ── stalls and the end ───────────────────────────────────────────────────

    /// A leader whose disk does not answer holds everybody up: it hands over, or
    /// stops leading, and does not campaign before the disk works again.
    fn watch_disk(&mut self, node: &mut Node, now: u64) {
        let patience = u64::from(self.config.election_ticks);
        let quiet = self.writes.front().map_or(0, |oldest| {
            now.saturating_sub(oldest.since_tick.max(self.written_tick))
        });
        match self.disk {
            DiskState::Working if quiet >= patience => {
                self.disk = DiskState::Stalled;
                tracing::warn!(node = %node.id(), term = %node.term(), ticks = quiet,
                    "the disk has finished nothing for an election timeout; \
                     this node leaves leading to others");
                if node.membership().voters().is_singleton() {
                    // There are no others.
                    return;
                }
                node.set_candidacy(Candidacy::Withheld);
                if node.role() == RoleKind::Leader {
                    match successor(node, Successor::CaughtUp) {
                        Some(to) => self.hand_over(node, to),
                        None => node.step_down(),
                    }
                }
            }
            DiskState::Stalled if quiet < patience => {
                self.disk = DiskState::Working;
                tracing::info!(node = %node.id(), term = %node.term(), "the disk works again");
                node.set_candidacy(Candidacy::Allowed);
            }
            // The hand-over failed.
            DiskState::Stalled
                if quiet >= 2 * patience && !node.membership().voters().is_singleton() =>
            {
                node.step_down();
            }
            DiskState::Working | DiskState::Stalled => {}
        }
    }

    /// How old the oldest write is that is not done.
    fn disk_lag(&self) -> Duration {
        let ticks = self
            .writes
            .front()
            .map_or(0, |oldest| self.now().saturating_sub(oldest.since_tick));
        self.config
            .tick
            .saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    fn begin_drain(&mut self, node: &mut Node) {
        if self.drain_until.is_some() {
            return;
        }
        self.status_stale = true;
        self.drain_until = Some(self.now() + u64::from(self.config.election_ticks));
        if node.role() == RoleKind::Leader
            && let Some(to) = successor(node, Successor::Best)
        {
            tracing::info!(node = %node.id(), term = %node.term(), peer = %to,
                "shutting down; leadership is handed over");
            self.hand_over(node, to);
        }
    }

    /// Stops the loop once everything that was taken is finished.
    fn drain(&self, node: &Node) {
        let Some(until) = self.drain_until else {
            return;
        };
        let handing_over = match node.role() {
            RoleKind::Leader => node.transferee().is_some(),
            // Whoever is being elected may need this server's vote.
            RoleKind::Follower | RoleKind::PreCandidate | RoleKind::Candidate => {
                node.leader().is_none() && !is_removed(node)
            }
        };
        let is_done = !handing_over
            && self.waiters.is_empty()
            && self.forwards.len() == 0
            && self.reads.len() == 0
            && self.writes.is_empty()
            && self.applied >= self.handed_out;
        if is_done || self.now() >= until {
            self.control.stop();
        }
    }

    // ── what the workers report ──────────────────────────────────────────────

    fn on_written(&mut self, node: &mut Node, sequence: u64, result: Result<(), LogStoreError>) {
        if let Err(error) = result {
            self.on_store_failed(node, &error);
            return;
        }
        self.written_tick = self.now();
        // Writes are done in order: everything up to this one is.
        while self.first_write <= sequence {
            let Some(write) = self.writes.pop_front() else {
                break;
            };
            self.first_write += 1;
            self.on_appended(node, write);
        }
    }

    /// What is on the disk is unknown now, and only a restart can tell.
    fn on_store_failed(&mut self, node: &Node, error: &dyn std::fmt::Display) {
        tracing::error!(node = %node.id(), %error, "a write failed; this node stops");
        self.control
            .set_reason(StopReason::Storage(error.to_string()));
        self.control.stop();
    }

    fn on_appended(&mut self, node: &mut Node, write: PendingWrite) {
        let PendingWrite {
            hard_state,
            entries,
            snapshot,
            responses,
            since_tick: _,
        } = write;
        let storage = node.storage_mut();
        if let Some(snapshot) = snapshot {
            let index = snapshot.metadata.index;
            if storage.apply_snapshot(snapshot.clone()).is_ok() {
                for waiter in self.waiters.take_up_to(index) {
                    self.refuse(waiter, ProposeError::OutcomeUnknown);
                }
                self.snapshot_index = index;
                self.handed_out = index;
                let _ = self.apply.send(ApplyWork::Restore(snapshot));
            }
        }
        if let Err(error) = node.storage_mut().append(entries) {
            self.on_store_failed(node, &error);
            return;
        }
        if let Some(hard_state) = hard_state {
            node.storage_mut().set_hard_state(hard_state);
        }
        for response in responses {
            match response {
                AppendOutcome::Send(message) => self.send(message),
                AppendOutcome::Receipt(receipt) => {
                    // That this server is no longer a member is no news here.
                    let _ = node.persisted(receipt);
                }
            }
        }
    }

    fn on_compacted(&mut self, node: &mut Node, result: Result<(), LogStoreError>) {
        self.snapshot_in_progress = false;
        self.status_stale = true;
        if let Err(error) = result {
            self.on_store_failed(node, &error);
            return;
        }
        let Some(PendingCompaction {
            snapshot,
            compact_to,
        }) = self.compaction.take()
        else {
            return;
        };
        let index = snapshot.metadata.index;
        let storage = node.storage_mut();
        let conf_state = snapshot.metadata.conf_state;
        if storage
            .create_snapshot(index, Some(conf_state), snapshot.data)
            .is_ok()
        {
            self.snapshot_index = index;
            // Shorter already is as good.
            let _ = storage.compact(compact_to.index);
        }
        // Much may have been applied meanwhile.
        self.snapshot_if_due();
    }

    fn on_applied(&mut self, node: &mut Node, batch: AppliedBatch) {
        self.applied = self.applied.max(batch.index);
        if let Some(receipt) = batch.receipt {
            // A node that has halted ends the loop with the next turn.
            let _ = node.applied(receipt);
        }
        self.snapshot_if_due();
    }

    fn snapshot_if_due(&mut self) {
        let every = self.config.snapshot_entries;
        if every > 0 && self.applied.distance_from(self.snapshot_index) >= every {
            self.begin_snapshot();
        }
    }

    fn begin_snapshot(&mut self) {
        if !self.snapshot_in_progress && self.applied > self.snapshot_index {
            self.snapshot_in_progress = true;
            let _ = self.apply.send(ApplyWork::Snapshot);
        }
    }

    fn on_snapshot_built(&mut self, node: &Node, built: Result<Snapshot, BoxError>) {
        match built {
            Ok(snapshot) if snapshot.metadata.index > self.newest_snapshot => {
                self.newest_snapshot = snapshot.metadata.index;
                let compact_to = self.compact_to(node, snapshot.metadata.index);
                self.compaction = Some(PendingCompaction {
                    snapshot: snapshot.clone(),
                    compact_to,
                });
                let events = self.events.clone();
                let done = WriteDone::new(move |result| {
                    // A loop that is gone no longer waits.
                    let _ = events.send(Event::Compacted(result));
                });
                self.log.compact(snapshot, compact_to, done);
            }
            // The leader's snapshot was faster.
            Ok(_) => self.snapshot_in_progress = false,
            Err(error) => {
                self.snapshot_in_progress = false;
                tracing::error!(node = %node.id(), %error,
                    "the state machine could not build a snapshot; the log keeps growing");
            }
        }
    }

    /// How far the log goes with a snapshot at `index`: a part of it stays, so
    /// that followers that are a little late need no snapshot.
    fn compact_to(&self, node: &Node, index: LogIndex) -> EntryId {
        let storage = node.storage();
        let start = storage.first_index().prev();
        let keep = self.config.snapshot_keep_entries;
        let wanted = LogIndex::new(index.get().saturating_sub(keep)).max(start);
        let term = storage.term(wanted).unwrap_or_default();
        EntryId::new(term, wanted)
    }

    // ── status ───────────────────────────────────────────────────────────────

    fn publish(&mut self, node: &Node) {
        let watched = self.status.receiver_count() > 0;
        if !self.status_stale && !watched {
            return;
        }
        self.status_stale = false;
        let (applied, snapshot_index, leader_changes) =
            (self.applied, self.snapshot_index, self.leader_changes);
        let waiting = Waiting {
            proposals: self.waiters.len(),
            forwards: self.forwards.len(),
            reads: self.reads.len(),
            writes: self.writes.len(),
        };
        let disk_lag = self.disk_lag();
        let disk_stalled = self.disk == DiskState::Stalled;
        let overloaded = self.is_overloaded(node);
        let shutting_down = self.drain_until.is_some();
        self.status.send_if_modified(|status| {
            let fresh = node.status();
            let next = ReplicaStatus {
                id: fresh.id,
                role: fresh.soft_state.role,
                term: fresh.hard_state.term,
                leader: fresh.soft_state.leader,
                commit: fresh.hard_state.commit,
                applied,
                first_index: fresh.first_index,
                last_index: fresh.last_index,
                snapshot_index,
                conf_state: fresh.conf_state,
                transferee: fresh.transferee,
                progress: fresh.progress,
                leader_changes,
                disk_lag,
                disk_stalled,
                overloaded,
                waiting,
                shutting_down,
                stopped: None,
            };
            let changed = *status != next;
            *status = next;
            changed
        });
    }
}

fn shutdown() -> Stopped {
    Stopped {
        reason: StopReason::Shutdown,
    }
}

/// Whether this server knows the members, and is none of them.
fn is_removed(node: &Node) -> bool {
    let membership = node.membership();
    !membership.contains(node.id()) && !membership.voters().incoming.is_empty()
}

/// Who could lead instead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// Whoever could right now.
    CaughtUp,
    /// Whoever is nearest to it.
    Best,
}

fn successor(node: &Node, wanted: Successor) -> Option<NodeId> {
    let last = node.last_index();
    node.status()
        .progress
        .into_iter()
        .filter(|(id, progress)| {
            *id != node.id()
                && node.membership().voters().contains(*id)
                && progress.flow == Flow::Replicate
                && (wanted == Successor::Best || progress.matched == last)
        })
        .max_by_key(|(_, progress)| (progress.recent_active, progress.matched))
        .map(|(id, _)| id)
}

/// A refusal of the core, in the handle's words.
fn convert(error: &CoreProposeError) -> ProposeError {
    match error {
        CoreProposeError::NoLeader => ProposeError::NotLeader { leader: None },
        CoreProposeError::ForwardingDisabled { leader } => ProposeError::NotLeader {
            leader: Some(*leader),
        },
        CoreProposeError::TransferInProgress { to } => ProposeError::TransferInProgress { to: *to },
        CoreProposeError::QuotaExceeded { .. } => ProposeError::QuotaExceeded,
        CoreProposeError::NotMember => ProposeError::NotMember,
        CoreProposeError::Empty => ProposeError::Empty,
        // The loop ends with the next turn; the caller cannot know how far the
        // proposal got.
        _ => ProposeError::OutcomeUnknown,
    }
}

impl Host for ReplicaHost {
    type Storage = MemoryStorage;
    type Proposal = ClientRequest;
    type Input = Inbound;
    type Command = Command;
    type Event = Event;

    fn on_proposals(&mut self, node: &mut Node, proposals: &mut Vec<ClientRequest>) {
        // What was parked came earlier.
        let parked = std::mem::take(&mut self.parked);
        self.take_requests(node, parked.into_iter().chain(proposals.drain(..)));
    }

    fn on_input(&mut self, node: &mut Node, input: Inbound) {
        match input {
            Inbound::Packet(packet) => self.on_packet(node, packet),
            Inbound::Unreachable(id) => node.report_unreachable(id),
            Inbound::SnapshotReport { to, outcome } => node.report_snapshot(to, outcome),
        }
    }

    fn on_command(&mut self, node: &mut Node, command: Command) {
        match command {
            Command::ChangeMembership { goal, reply } => {
                self.change_membership(node, goal, reply);
            }
            Command::ReadStale {
                read,
                age_max,
                since_tick,
            } => self.read_stale(node, read, age_max, since_tick),
            Command::Transfer { to, reply } => self.transfer(node, to, reply),
            // The leader may have a lease, which a campaign by hand would break.
            Command::Campaign if self.config.lease_reads && node.leader().is_some() => {}
            Command::Campaign => {
                // A node that has halted ends the loop with the next turn.
                let _ = node.campaign();
            }
            Command::Snapshot => self.begin_snapshot(),
            Command::SetPeer { id, address } => self.transport.set_peer(id, address.as_deref()),
        }
    }

    fn on_event(&mut self, node: &mut Node, event: Event) {
        match event {
            Event::Written { sequence, result } => self.on_written(node, sequence, result),
            Event::Compacted(result) => self.on_compacted(node, result),
            Event::Applied(batch) => self.on_applied(node, batch),
            Event::SnapshotBuilt(built) => self.on_snapshot_built(node, built),
            Event::RemoteReply { to, id, outcome } => self.respond(to, id, outcome),
            Event::Drain => self.begin_drain(node),
            Event::StateMachineFailed(why) => {
                tracing::error!(node = %node.id(), %why, "the state machine failed; this node stops");
                self.control.set_reason(StopReason::StateMachine(why));
                self.control.stop();
            }
        }
    }

    fn has_room(&self, node: &Node) -> bool {
        // Whoever is refused needs no room.
        self.drain_until.is_some() || !self.is_overloaded(node)
    }

    fn refuse_untaken(&mut self, proposals: &mut Vec<ClientRequest>) {
        let parked = std::mem::take(&mut self.parked);
        let error = ProposeError::Stopped(self.control.stopped_now());
        for request in parked.into_iter().chain(proposals.drain(..)) {
            self.refuse_request(request, &error);
        }
    }

    fn on_tick(&mut self, node: &mut Node, gated: Option<&mut mpsc::Receiver<ClientRequest>>) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = now.saturating_sub(self.config.timeout_ticks());
        if let Some(gated) = gated {
            self.refuse_overdue(node, gated, deadline);
        }
        self.watch_disk(node, now);
        self.forget_who_left(node, now);
        for waiter in self.waiters.take_older_than(deadline) {
            self.refuse(waiter, ProposeError::OutcomeUnknown);
        }
        self.forwards.expire(deadline);
        self.reads
            .retry_lost_round(now, u64::from(self.config.election_ticks));
        self.reads.expire(deadline);
        self.changes.expire(deadline);
        self.changes.on_leader(
            node.term(),
            node.leader(),
            node.role() == RoleKind::Leader,
            node.transferee(),
        );
        self.status_stale = true;
    }

    fn settle(&mut self, node: &mut Node) -> Result<(), Halted> {
        if !self.parked.is_empty()
            && crate::event_loop::proposals_may_pass(node)
            && self.has_room(node)
        {
            let parked = std::mem::take(&mut self.parked);
            self.take_requests(node, parked.into_iter());
        }
        if !self.remote.is_empty() {
            let remote = std::mem::take(&mut self.remote);
            self.take_requests(node, remote.into_iter());
        }
        if self.reads.wants_lease() {
            let now = Instant::now();
            let leads = node.role() == RoleKind::Leader && self.config.lease_reads;
            if leads && self.lease.covers(node.term(), now) {
                self.reads.grant_lease(now, node.commit_index());
            } else {
                self.reads.refuse_lease();
            }
        }
        let now = self.now();
        if node.leader().is_some()
            && let Some(context) = self.reads.start_round(now)
            && node.read_index(context).is_err()
        {
            self.reads.abandon_round();
        }
        while node.has_ready() {
            match node.ready() {
                Ok(ready) => self.carry_out(node, ready),
                Err(error) => {
                    tracing::error!(node = %node.id(), %error, "no Ready");
                    break;
                }
            }
        }
        let reads = self.reads.take_reached(self.handed_out);
        if !reads.is_empty() {
            // A state machine that has failed has said so in another event.
            let _ = self.apply.send(ApplyWork::Reads(reads));
        }
        self.transport.flush();
        self.drain(node);
        self.publish(node);
        match node.failure() {
            None => Ok(()),
            Some(error) => {
                self.control
                    .set_reason(StopReason::Storage(error.to_string()));
                Err(Halted)
            }
        }
    }

    fn on_stop(mut self, node: &mut Node) -> Option<Cleanup> {
        self.room.close();
        self.control.set_reason(StopReason::Shutdown);
        let reason = self.control.reason();
        let stopped = Stopped {
            reason: reason.clone(),
        };
        // These were proposed, and others may commit them.
        for waiter in self.waiters.take_all() {
            self.refuse(waiter, ProposeError::OutcomeUnknown);
        }
        for reply in self.forwards.take_all() {
            let _ = reply.send(Err(ProposeError::OutcomeUnknown));
        }
        self.transport.flush();
        self.transport.stop();
        for read in self.reads.take_all() {
            read.fail(ReadError::Stopped(stopped.clone()));
        }
        self.changes.clear();
        tracing::info!(node = %node.id(), %reason, "stopped");
        self.status
            .send_modify(|status| status.stopped = Some(reason));
        let mut log = self.log;
        Some(Box::new(move || log.close()))
    }
}

impl ReplicaHost {
    /// Whether a leader has as much that is not applied as it may have.
    fn is_overloaded(&self, node: &Node) -> bool {
        node.role() == RoleKind::Leader
            && node.last_index().distance_from(self.applied) >= self.config.unapplied_entries_max
    }

    /// Refuses what has waited in the gated channel since before `deadline`, and
    /// what nobody waits for any more. The rest is parked, in order.
    fn refuse_overdue(
        &mut self,
        node: &Node,
        gated: &mut mpsc::Receiver<ClientRequest>,
        deadline: u64,
    ) {
        while self.parked.len() < self.config.requests_waiting_max {
            let Ok(request) = gated.try_recv() else {
                break;
            };
            self.parked.push_back(request);
        }
        // What has no future is refused at once.
        let now_or_never = if self.drain_until.is_some() {
            Some(ProposeError::Stopped(shutdown()))
        } else if is_removed(node) {
            Some(ProposeError::NotMember)
        } else {
            None
        };
        let error = now_or_never.clone().unwrap_or_else(|| {
            if self.is_overloaded(node) {
                ProposeError::QuotaExceeded
            } else {
                let leader = node.leader();
                ProposeError::NotLeader { leader }
            }
        });
        while let Some(oldest) = self.parked.front() {
            if oldest.since_tick >= deadline && now_or_never.is_none() {
                break;
            }
            if let Some(request) = self.parked.pop_front() {
                self.refuse_request(request, &error);
            }
        }
    }
}
