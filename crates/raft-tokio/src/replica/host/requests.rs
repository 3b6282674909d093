//! # Requests of clients
//!
//! What this server's clients ask for, taken together: commands become one
//! append of the leader or go to it one by one, reads wait for a round. Every
//! request that is not taken is refused with the reason.
//!
//! - Owns: nothing; who waits is in `waiters.rs`, `reads.rs` and `forwards.rs`.
//! - Emits: proposals, requests to the leader, refusals.

use std::collections::VecDeque;
use std::time::Duration;

use raft_core::{Proposal, ProposeError as CoreProposeError, Proposed, RoleKind};
use raft_wire::frame::RequestKind;
use tokio::time::Instant;

use super::reconfigure::is_removed;
use super::{Node, ReplicaHost};
use crate::error::{ProposeError, ReadError};
use crate::queue;
use crate::replica::apply::ApplyWork;
use crate::replica::forwards;
use crate::replica::reads::WaitingRead;
use crate::replica::request::{
    ClientRequest, ClientRequestKind, Condition, Freshness, PendingRead, SpecialProposal, Waiter,
};
use crate::replica::waiters::EmptyLists;
use crate::task::{StopReason, Stopped};
use crate::transport::Packet;

impl ReplicaHost {
    pub(super) fn take_requests(
        &mut self,
        node: &mut Node,
        requests: impl Iterator<Item = ClientRequest>,
    ) {
        if self.drain_until.is_some() {
            for request in requests {
                self.refuse_request(request, &ProposeError::Stopped(shutdown()));
            }
            return;
        }
        let mut commands = std::mem::take(&mut self.commands);
        let mut waiters = self.waiters.spare_list();
        let (at_least, _) = requests.size_hint();
        commands.reserve(at_least);
        waiters.reserve(at_least);
        let mut reads_room = None;
        for request in requests {
            let mut take = |command, reply| {
                commands.push(Proposal::normal(command));
                waiters.push_back(reply);
            };
            match request.kind {
                ClientRequestKind::Propose { command, reply } => take(command, reply),
                ClientRequestKind::ProposeSpecial(proposal) => {
                    let SpecialProposal {
                        command,
                        reply,
                        condition,
                        ..
                    } = *proposal;
                    let term = node.term();
                    match condition {
                        None => take(command, reply),
                        Some(Condition::Claimed(claim)) => {
                            if claim.take() {
                                take(command, reply);
                            }
                        }
                        Some(Condition::InTerm(wanted)) => {
                            if node.role() == RoleKind::Leader && term == wanted {
                                take(command, reply);
                            } else {
                                self.refuse(reply, ProposeError::OtherTerm { wanted, term });
                            }
                        }
                    }
                }
                ClientRequestKind::ProposeBatch(batch) => {
                    for (command, reply) in batch.commands.into_iter().zip(batch.replies) {
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

    fn propose(&mut self, node: &mut Node, mut commands: Vec<Proposal>, waiters: VecDeque<Waiter>) {
        if commands.is_empty() {
            self.commands = commands;
            self.waiters.keep_lists(EmptyLists::from_buf([waiters]));
            return;
        }
        match node.role() {
            RoleKind::Leader => {}
            RoleKind::Follower | RoleKind::PreCandidate | RoleKind::Candidate => {
                self.forward(node, commands, waiters);
                return;
            }
        }
        if commands.len() > 1 {
            self.propose_together(node, commands, waiters);
        } else if let Some(command) = commands.pop() {
            // Alone it needs no list, so the next one gets this one.
            self.commands = commands;
            match node.propose(command.data) {
                Ok(proposed) => self.on_proposed(&proposed, waiters),
                Err(error) => self.refuse_all(waiters, &ProposeError::of_core(&error)),
            }
        }
    }

    fn propose_together(
        &mut self,
        node: &mut Node,
        commands: Vec<Proposal>,
        waiters: VecDeque<Waiter>,
    ) {
        let individually = (!self.is_within_quota(node, &commands)).then(|| commands.clone());
        match (node.propose_batch(commands), individually) {
            (Ok(proposed), _) => self.on_proposed(&proposed, waiters),
            // No room for all; some may fit.
            (Err(CoreProposeError::QuotaExceeded { .. }), Some(commands)) => {
                for (command, waiter) in commands.into_iter().zip(waiters) {
                    match node.propose(command.data) {
                        Ok(proposed) => self.on_proposed(&proposed, VecDeque::from([waiter])),
                        Err(error) => self.refuse(waiter, ProposeError::of_core(&error)),
                    }
                }
            }
            (Err(error), _) => self.refuse_all(waiters, &ProposeError::of_core(&error)),
        }
    }

    fn refuse_all(&mut self, waiters: VecDeque<Waiter>, error: &ProposeError) {
        for waiter in waiters {
            self.refuse(waiter, error.clone());
        }
    }

    /// Whether the leader's log has room for all of these.
    fn is_within_quota(&self, node: &Node, commands: &[Proposal]) -> bool {
        let wanted = commands.iter().map(|command| command.data.len());
        let wanted = u64::try_from(wanted.sum::<usize>()).unwrap_or(u64::MAX);
        let bytes = node.uncommitted_bytes().saturating_add(wanted);
        bytes <= self.config.uncommitted_bytes_max
    }

    fn on_proposed(&mut self, proposed: &Proposed, waiters: VecDeque<Waiter>) {
        match proposed {
            Proposed::Appended { term, first, .. } => {
                let now = self.now();
                self.waiters.push(*term, *first, now, waiters);
            }
            // The core was told not to forward.
            Proposed::Forwarded { .. } => self.refuse_all(waiters, &ProposeError::OutcomeUnknown),
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
                    let id = self.forwards.push(reply, to, node.term(), now);
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

    /// Has the state machine answer these, behind what was handed out before.
    pub(super) fn hand_out_reads(&mut self, reads: VecDeque<WaitingRead>) {
        self.owed.push_reads(reads);
        // A state machine that has failed has said so in another event.
        let _ = self.apply.send(ApplyWork::Reads);
    }

    pub(super) fn refuse(&mut self, waiter: Waiter, error: ProposeError) {
        self.refused += 1;
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

    pub(super) fn refuse_request(&mut self, request: ClientRequest, error: &ProposeError) {
        let read_error = match error {
            ProposeError::Stopped(stopped) => ReadError::Stopped(stopped.clone()),
            ProposeError::NotMember => ReadError::NotMember,
            _ => ReadError::Timeout,
        };
        request.refuse(error.clone(), read_error, |waiter, error| {
            self.refuse(waiter, error);
        });
    }

    /// Refuses what has waited in the gated channel since before `deadline`, and
    /// what nobody waits for any more. The rest is parked, in order.
    pub(super) fn refuse_overdue(
        &mut self,
        node: &Node,
        gated: &mut queue::Receiver<ClientRequest>,
        deadline: u64,
    ) {
        let room = self.config.requests_waiting_max;
        let mut waiting = Vec::new();
        gated.take(&mut waiting, room.saturating_sub(self.parked.len()));
        self.parked.extend(waiting);
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

    pub(super) fn read_stale(
        &mut self,
        node: &Node,
        read: PendingRead,
        age_max: Duration,
        since_tick: u64,
    ) {
        if self.drain_until.is_some() {
            read.fail(ReadError::Stopped(shutdown()));
        } else if self
            .reads
            .is_fresh(Instant::now(), age_max, self.handed_out)
        {
            self.hand_out_reads(VecDeque::from([(read, since_tick)]));
        } else if is_removed(node) {
            read.fail(ReadError::NotMember);
        } else if self.reads.len() >= self.config.reads_waiting_max {
            read.fail(ReadError::QueueFull);
        } else {
            self.reads.push(read, Freshness::Confirmed, since_tick);
        }
    }
}

pub(super) fn shutdown() -> Stopped {
    Stopped {
        reason: StopReason::Shutdown,
    }
}
