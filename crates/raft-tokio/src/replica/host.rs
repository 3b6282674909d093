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

use raft_core::{
    AppendOutcome, Body, ConfChange, Entries, EntryId, EntryType, Halted, HardState, LogIndex,
    MemoryStorage, Message, NodeId, Proposal, ProposeError as CoreProposeError, Proposed, RawNode,
    Ready, RoleKind, Snapshot, SnapshotOutcome, SoftState, StepError, Storage, StorageAppend,
};
use raft_wire::frame::{RequestKind, ResponseOutcome};
use tokio::sync::{mpsc, watch};

use super::apply::{AppliedBatch, ApplyWork};
use super::changes::Changes;
use super::forwards::{self, Forwards};
use super::reads::Reads;
use super::request::{
    ChangeReply, ClientRequest, ClientRequestKind, Command, Event, TransferReply, Waiter,
};
use super::waiters::Waiters;
use crate::config::RaftConfig;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, TransferError};
use crate::event_loop::{Cleanup, Host, proposals_may_pass};
use crate::log_store::{Durability, LogStore, LogStoreError, LogWrite, WriteDone};
use crate::state_machine::BoxError;
use crate::status::ReplicaStatus;
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
    waiters: Waiters,
    reads: Reads,
    forwards: Forwards,
    changes: Changes,
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
}

impl ReplicaHost {
    pub(super) fn new(parts: Parts) -> Self {
        let seed = crate::config::process_seed(parts.config.id);
        Self {
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

    fn change_membership(&mut self, node: &mut Node, change: &ConfChange, reply: ChangeReply) {
        if node.role() != RoleKind::Leader {
            let leader = node.leader();
            let _ = reply.send(Err(ChangeMembershipError::NotLeader { leader }));
            return;
        }
        match node.propose_conf_change(change) {
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
        self.changes.await_transfer(to, node.term(), reply);
        if node.transfer_leadership(to).is_err() {
            self.changes.clear();
        }
    }

    // ── from other replicas ──────────────────────────────────────────────────

    fn step(node: &mut Node, message: Message) {
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
            Packet::Raft(message) => Self::step(node, message),
            Packet::Request {
                from,
                id,
                kind: RequestKind::Propose,
                payload,
            } => {
                let reply = Waiter::Remote { from, id };
                if payload.is_empty() || payload.len() > self.config.command_bytes_max {
                    self.refuse(reply, ProposeError::OutcomeUnknown);
                    return;
                }
                let kind = ClientRequestKind::Propose {
                    command: payload,
                    reply,
                };
                self.remote.push(ClientRequest {
                    kind,
                    since_tick: self.now(),
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
        let mut commands = Vec::new();
        let mut waiters = VecDeque::new();
        for request in requests {
            match request.kind {
                // Whoever gave up while it waited does not want it any more.
                ClientRequestKind::Propose { reply, .. } if reply.is_gone() => {}
                ClientRequestKind::Propose { command, reply } => {
                    commands.push(Proposal::normal(command));
                    waiters.push_back(reply);
                }
                ClientRequestKind::Read { read } => self.reads.push(read, request.since_tick),
            }
        }
        self.propose(node, commands, waiters);
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
            self.reads.confirm(&read.context, read.index);
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
                Ok(Some(change)) => node.apply_conf_change(&change),
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

    fn on_soft_state(&mut self, node: &Node, soft_state: SoftState) {
        self.status_stale = true;
        if soft_state.leader.is_some() && soft_state.leader != self.status.borrow().leader {
            self.leader_changes += 1;
            tracing::info!(node = %node.id(), term = %node.term(), leader = ?soft_state.leader,
                role = ?soft_state.role, "a leader was elected");
        }
        self.changes.on_leader(
            node.term(),
            soft_state.leader,
            soft_state.role == RoleKind::Leader,
            node.transferee(),
        );
    }

    // ── what the workers report ──────────────────────────────────────────────

    fn on_written(&mut self, node: &mut Node, sequence: u64, result: Result<(), LogStoreError>) {
        if let Err(error) = result {
            self.on_store_failed(node, &error);
            return;
        }
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
                stopped: None,
            };
            let changed = *status != next;
            *status = next;
            changed
        });
    }
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
            Command::ChangeMembership { change, reply } => {
                self.change_membership(node, &change, reply);
            }
            Command::Transfer { to, reply } => self.transfer(node, to, reply),
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
            Event::StateMachineFailed(why) => {
                tracing::error!(node = %node.id(), %why, "the state machine failed; this node stops");
                self.control.set_reason(StopReason::StateMachine(why));
                self.control.stop();
            }
        }
    }

    fn on_tick(&mut self, node: &mut Node, gated: Option<&mut mpsc::Receiver<ClientRequest>>) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = now.saturating_sub(self.config.timeout_ticks());
        if let Some(gated) = gated {
            self.refuse_overdue(node, gated, deadline);
        }
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
        if !self.parked.is_empty() && proposals_may_pass(node) {
            let parked = std::mem::take(&mut self.parked);
            self.take_requests(node, parked.into_iter());
        }
        if !self.remote.is_empty() {
            let remote = std::mem::take(&mut self.remote);
            self.take_requests(node, remote.into_iter());
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
        self.transport.stop();
        self.control.set_reason(StopReason::Shutdown);
        let reason = self.control.reason();
        let stopped = Stopped {
            reason: reason.clone(),
        };
        for waiter in self.waiters.take_all() {
            self.refuse(waiter, ProposeError::Stopped(stopped.clone()));
        }
        for reply in self.forwards.take_all() {
            let _ = reply.send(Err(ProposeError::Stopped(stopped.clone())));
        }
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
        while let Some(oldest) = self.parked.front() {
            if oldest.since_tick >= deadline {
                break;
            }
            if let Some(request) = self.parked.pop_front() {
                match request.kind {
                    ClientRequestKind::Propose { reply, .. } => {
                        let leader = node.leader();
                        self.refuse(reply, ProposeError::NotLeader { leader });
                    }
                    ClientRequestKind::Read { read } => read.fail(ReadError::Timeout),
                }
            }
        }
    }
}
