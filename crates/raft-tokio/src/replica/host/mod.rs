//! # The replica's host
//!
//! What the loop does for [`Raft`](crate::Raft): takes requests, and carries
//! Readys out in the same task. Here it is decided which room an input of the
//! loop goes to, and what a turn ends with.
//!
//! | file | room |
//! |---|---|
//! | `requests.rs` | what this server's clients ask for |
//! | `packets.rs` | what other replicas send |
//! | `effects.rs` | what a Ready asks for |
//! | `notices.rs` | messages that can wait for the next one |
//! | `applying.rs` | how far the state machine is |
//! | `backlog.rs` | how much may be unapplied |
//! | `disk.rs` | writes that are not done, and a disk that stalls |
//! | `log_reads.rs` | old entries, for followers that lack them |
//! | `snapshots.rs` | snapshots of the own state machine, and what they cut off |
//! | `hold.rs` | what the log keeps for followers that get one |
//! | `reconfigure.rs` | changes of the members |
//! | `leadership.rs` | news of a leader, and handing over |
//! | `drain.rs` | the way to a stop |
//! | `report.rs` | the status |
//!
//! - Owns: how far the log was handed out and applied; each room's state.

mod applying;
mod backlog;
mod disk;
mod drain;
mod effects;
mod hold;
mod leadership;
mod log_reads;
mod notices;
mod packets;
mod reconfigure;
mod report;
mod requests;
mod snapshots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft_core::{Halted, LogIndex, NodeId, Proposal, RawNode, Ready, RoleKind};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::applying::Applying;
use self::disk::Writes;
use self::hold::Holds;
use self::notices::Notices;
use self::reconfigure::Removal;
use self::snapshots::Snapshots;
use super::apply::ApplyWork;
use super::changes::Changes;
use super::configuration::Configuration;
use super::forwards::Forwards;
use super::lease::Lease;
use super::log_view::LogView;
use super::owed::{Owed, Unanswered};
use super::reads::Reads;
use super::reports::{AppliedBatch, Reports};
use super::request::{ClientRequest, Command, Event};
use super::room::Room;
use super::waiters::Waiters;
use crate::config::RaftConfig;
use crate::error::{ProposeError, ReadError};
use crate::event_loop::{Cleanup, Host};
use crate::log_store::LogStore;
use crate::queue;
use crate::snapshot::SnapshotExchange;
use crate::status::ReplicaStatus;
use crate::task::{StopReason, Stopped, TaskControl};
use crate::transport::{Inbound, LargePackets, Transport};

type Node = RawNode<LogView>;

/// How many heartbeats a leader that was succeeded has to answer what it was
/// asked: it hears of its successor with the first, and of what is committed
/// with the next.
const HEARTBEATS_TO_ANSWER: u64 = 3;

pub(super) struct ReplicaHost {
    config: RaftConfig,
    control: TaskControl,
    log: Box<dyn LogStore>,
    transport: Box<dyn Transport>,
    apply: mpsc::UnboundedSender<ApplyWork>,
    events: mpsc::UnboundedSender<Event>,
    reports: Reports,
    owed: Owed,
    /// Reports that are being worked off, kept for their room.
    reported: Vec<AppliedBatch>,
    notices: Notices,
    /// The Ready that was carried out last, kept for its room.
    ready: Ready,
    writes: Writes,
    snapshots: Snapshots,
    holds: Holds,
    waiters: Waiters,
    /// Commands of the append that is being made, kept for its room.
    commands: Vec<Proposal>,
    reads: Reads,
    lease: Lease,
    /// Before this tick this server takes part in no election: it may have
    /// promised a leader its lease before it was restarted.
    votes_from_tick: u64,
    forwards: Forwards,
    changes: Changes,
    room: Room,
    large_packets: LargePackets,
    /// Servers that left, and when the transport may forget them: until then
    /// they may hear that they left.
    leaving: Vec<(NodeId, u64)>,
    removal: Removal,
    /// The tick in which a shutdown under way ends at the latest.
    drain_until: Option<u64>,
    /// Commands of other replicas' callers, to be proposed in this turn.
    remote: Vec<ClientRequest>,
    /// Requests that were taken out of a gated channel to see how old they are.
    parked: VecDeque<ClientRequest>,
    /// Everything up to here was handed to the state machine.
    handed_out: LogIndex,
    /// The configuration there.
    configuration: Configuration,
    applied: LogIndex,
    applying: Applying,
    /// Messages with entries for which the backlog had no room.
    appends_dropped: u64,
    /// How many requests came together the last time.
    taken_last: usize,
    tick: Arc<AtomicU64>,
    status: watch::Sender<ReplicaStatus>,
    status_stale: bool,
    leader_changes: u64,
    /// Proposals that this server refused.
    refused: u64,
    #[cfg(feature = "metrics")]
    recorder: crate::metrics::Recorder,
}

/// What a host is made of.
pub(super) struct Parts {
    pub(super) config: RaftConfig,
    pub(super) control: TaskControl,
    pub(super) log: Box<dyn LogStore>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) apply: mpsc::UnboundedSender<ApplyWork>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) reports: Reports,
    pub(super) owed: Owed,
    pub(super) snapshots: SnapshotExchange,
    pub(super) applied: LogIndex,
    pub(super) configuration: Configuration,
    /// Where the stored snapshot stands.
    pub(super) snapshot: LogIndex,
    pub(super) damaged_snapshot: Option<LogIndex>,
    pub(super) tick: Arc<AtomicU64>,
    pub(super) status: watch::Sender<ReplicaStatus>,
    pub(super) room: Room,
    pub(super) large_packets: LargePackets,
    pub(super) votes_from_tick: u64,
}

impl ReplicaHost {
    pub(super) fn new(parts: Parts) -> Self {
        let seed = crate::config::process_seed(parts.config.id);
        Self {
            lease: Lease::new(parts.config.lease_length()),
            votes_from_tick: parts.votes_from_tick,
            room: parts.room,
            large_packets: parts.large_packets,
            leaving: Vec::new(),
            removal: Removal::default(),
            drain_until: None,
            waiters: Waiters::default(),
            commands: Vec::new(),
            reads: Reads::new(seed),
            forwards: Forwards::new(seed),
            changes: Changes::default(),
            writes: Writes::new(parts.events.clone()),
            holds: Holds::default(),
            snapshots: Snapshots::new(parts.snapshot, parts.damaged_snapshot, parts.snapshots),
            remote: Vec::new(),
            parked: VecDeque::new(),
            handed_out: parts.applied,
            configuration: parts.configuration,
            applied: parts.applied,
            applying: Applying::default(),
            appends_dropped: 0,
            taken_last: 0,
            status_stale: true,
            leader_changes: 0,
            refused: 0,
            #[cfg(feature = "metrics")]
            recorder: crate::metrics::Recorder::new(parts.config.id),
            config: parts.config,
            control: parts.control,
            log: parts.log,
            transport: parts.transport,
            apply: parts.apply,
            events: parts.events,
            reports: parts.reports,
            owed: parts.owed,
            reported: Vec::new(),
            notices: Notices::default(),
            ready: Ready::default(),
            tick: parts.tick,
            status: parts.status,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Takes out the requests that were parked and whose callers still wait.
    fn take_parked(&mut self) -> VecDeque<ClientRequest> {
        let mut parked = std::mem::take(&mut self.parked);
        parked.retain(|request| !request.is_withdrawn());
        parked
    }

    fn ticks_to_time(&self, ticks: u64) -> Duration {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.config.tick.saturating_mul(ticks)
    }
}

impl Host for ReplicaHost {
    type Storage = LogView;
    type Proposal = ClientRequest;
    type Input = Inbound;
    type Command = Command;
    type Event = Event;

    fn on_proposals(&mut self, node: &mut Node, proposals: &mut Vec<ClientRequest>) {
        self.taken_last = proposals.len();
        // What was applied meanwhile is room for these.
        self.take_reports(node);
        // The gate may have closed while they gathered.
        if !crate::event_loop::proposals_may_pass(node) || !self.has_room(node) {
            self.parked.extend(proposals.drain(..));
            return;
        }
        // Whoever gave up while it waited does not want it any more. Looked at
        // before anything else: the callers' memory is far away, and a loop that
        // does nothing else waits for many of them at once.
        if proposals.iter().any(ClientRequest::is_withdrawn) {
            proposals.retain(|request| !request.is_withdrawn());
        }
        // What was parked came earlier.
        if self.parked.is_empty() {
            self.take_requests(node, proposals.drain(..));
        } else {
            let parked = self.take_parked();
            self.take_requests(node, parked.into_iter().chain(proposals.drain(..)));
        }
    }

    fn on_input(&mut self, node: &mut Node, input: Inbound) {
        self.large_packets.take_out(&input);
        match input {
            Inbound::Packet(packet) => self.on_packet(node, packet),
            Inbound::Unreachable(id) => node.report_unreachable(id),
            Inbound::SnapshotReport { to, outcome } => node.report_snapshot(to, outcome),
        }
    }

    fn on_command(&mut self, node: &mut Node, command: Command) {
        // Whether a change is pending is a question of what was applied.
        self.take_reports(node);
        match command {
            // Whoever gave up while it waited does not want it any more.
            Command::ChangeMembership { reply, .. } if reply.is_closed() => {}
            Command::Transfer { reply, .. } if reply.is_closed() => {}
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
            Event::LogRead { number, result } => Self::on_log_read(node, number, result),
            Event::Compacted(result) => self.on_compacted(node, result),
            // The turn ends with a look at the reports.
            Event::Written | Event::Applied => {}
            Event::SnapshotBuilt(built) => self.on_snapshot_built(node, built),
            Event::SnapshotDamaged(id) => self.on_snapshot_damaged(node, id),
            Event::RemoteReply { to, id, outcome } => self.respond(to, id, outcome),
            Event::Drain => self.begin_drain(node),
            Event::StateMachineFailed(why) => {
                tracing::error!(node = %node.id(), term = %node.term(), error = %why,
                    "the state machine failed; this node stops");
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

    fn on_tick(&mut self, node: &mut Node, gated: Option<&mut queue::Receiver<ClientRequest>>) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = now.saturating_sub(self.config.timeout_ticks());
        if let Some(gated) = gated {
            self.refuse_overdue(node, gated, deadline);
        }
        self.watch_disk(node, now);
        Self::watch_log_reads(node, now);
        self.watch_machine(node, now);
        self.forget_who_left(node, now);
        self.watch_removal(node, now);
        for waiter in self.waiters.take_older_than(deadline) {
            self.refuse(waiter, ProposeError::OutcomeUnknown);
        }
        let Unanswered { waiters, reads } = self.owed.take_older_than(deadline);
        for waiter in waiters {
            self.refuse(waiter, ProposeError::OutcomeUnknown);
        }
        for read in reads {
            read.fail(ReadError::Timeout);
        }
        if node.leader().is_some() {
            self.forwards.on_leader(node.term(), now);
        }
        let grace = HEARTBEATS_TO_ANSWER * u64::from(self.config.heartbeat_ticks);
        self.forwards.expire(deadline, now.saturating_sub(grace));
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
        self.send_notices();
        self.status_stale = true;
    }

    /// One client alone has nothing under way when it comes, and came alone.
    fn expects_more(&self) -> bool {
        self.taken_last > 1
            || !self.waiters.is_empty()
            || self.reads.len() > 0
            || self.forwards.len() > 0
    }

    fn keeps_back(&self) -> bool {
        !self.notices.is_empty()
    }

    fn on_idle(&mut self, _node: &mut Node) {
        self.send_notices();
    }

    fn settle(&mut self, node: &mut Node) -> Result<(), Halted> {
        self.take_reports(node);
        if !self.parked.is_empty()
            && crate::event_loop::proposals_may_pass(node)
            && self.has_room(node)
        {
            let parked = self.take_parked();
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
        // A write may be done as soon as it is handed over, and give rise to more.
        while self.take_written(node) | node.has_ready() {
            if let Err(error) = self.carry_out_next(node) {
                tracing::error!(node = %node.id(), %error, "no Ready");
                break;
            }
        }
        self.read_log(node);
        self.snapshots.settle_refused();
        let reads = self.reads.take_reached(self.handed_out);
        if !reads.is_empty() {
            self.hand_out_reads(reads);
        }
        self.transport.flush();
        self.drain(node);
        self.publish(node);
        self.want_reports(node);
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
        self.send_notices();
        self.transport.flush();
        self.transport.stop();
        for read in self.reads.take_all() {
            read.fail(ReadError::Stopped(stopped.clone()));
        }
        self.changes.clear();
        tracing::info!(node = %node.id(), %reason, "stopped");
        self.status
            .send_modify(|status| status.stopped = Some(reason));
        let elsewhere = self.transport.stopped();
        let mut log = self.log;
        Some(Cleanup {
            work: Box::new(move || log.close()),
            elsewhere,
        })
    }
}
