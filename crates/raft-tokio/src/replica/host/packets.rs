//! # Packets of other replicas
//!
//! Messages of the protocol go to the node, requests of other replicas' clients
//! to the next append, answers to whoever waits for them.
//!
//! - Owns: nothing.
//! - Emits: steps of the node, answers.

use raft_core::{Body, Message, NodeId, StepError};
use raft_wire::frame::{RequestKind, ResponseOutcome};

use super::{Node, ReplicaHost};
use crate::error::ProposeError;
use crate::event_loop::Host;
use crate::replica::request::{ClientRequest, ClientRequestKind, Waiter};
use crate::transport::Packet;

impl ReplicaHost {
    pub(super) fn on_packet(&mut self, node: &mut Node, packet: Packet) {
        match packet {
            // To the leader it is a lost message.
            Packet::Raft(message) if !self.has_room_for(node, &message) => {
                self.appends_dropped += 1;
            }
            Packet::Raft(message) if self.snapshots.admits(&message) => self.step(node, message),
            Packet::Raft(message) => {
                tracing::warn!(node = %node.id(), peer = %message.from,
                    "dropped a snapshot whose data did not come with it");
            }
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
                });
            }
            // Reads go through the protocol's own messages.
            Packet::Request { from, id, .. } => {
                self.respond(from, id, ResponseOutcome::Unknown);
            }
            Packet::Response { from, id, outcome } => self.forwards.answer(from, id, outcome),
        }
    }

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

    pub(super) fn respond(&mut self, to: NodeId, id: u64, outcome: ResponseOutcome) {
        let from = self.config.id;
        self.transport
            .send(to, Packet::Response { from, id, outcome });
    }
}
