//! # The node's host
//!
//! What the loop does for [`Node`](crate::Node): steps what comes in, and leaves
//! the effects to the user.
//!
//! - Owns: proposals that came through the gate just before it closed, and the
//!   way to say why the loop ended.
//! - Source: etcd `node.run`, `stepWithWaitOption`.

use bytes::Bytes;
use raft_core::{
    AppendReceipt, ApplyReceipt, ConfChange, ConfChangeError, ConfState, EntryType, Halted,
    Message, NodeId, Proposal, ProposeError, Proposed, RawNode, SnapshotOutcome, Status, StepError,
    Storage,
};
use std::marker::PhantomData;
use tokio::sync::oneshot;

use crate::event_loop::{Cleanup, Host, proposals_may_pass};
use crate::queue;
use crate::task::{StopReason, TaskControl};

type ProposeReply = oneshot::Sender<Result<Proposed, ProposeError>>;

/// What waits in `propc`.
#[derive(Debug)]
pub(super) enum NodeProposal {
    Local {
        proposal: Proposal,
        reply: ProposeReply,
    },
    /// From another server. Nobody here waits for the outcome, only for it to be
    /// taken.
    Forwarded {
        message: Message,
        taken: oneshot::Sender<()>,
    },
}

/// What comes in through `recvc`.
#[derive(Debug)]
pub(super) enum NodeInput {
    Message(Message),
    Campaign,
    ReadIndex(Bytes),
    TransferLeadership(NodeId),
    ForgetLeader,
    Unreachable(NodeId),
    SnapshotReport(NodeId, SnapshotOutcome),
    Persisted(AppendReceipt),
    Applied(ApplyReceipt),
}

/// What comes in through `controlc` (etcd's `confc` and `status`).
#[derive(Debug)]
pub(super) enum NodeCommand {
    ApplyConfChange {
        change: ConfChange,
        reply: oneshot::Sender<Result<ConfState, ConfChangeError>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

#[derive(Debug)]
pub(super) struct NodeHost<S> {
    control: TaskControl,
    /// Came through the gate in a turn in which it closed. They wait in here as
    /// they would have waited in `propc`.
    parked: Vec<NodeProposal>,
    storage: PhantomData<fn() -> S>,
}

impl<S: Storage> NodeHost<S> {
    pub(super) fn new(control: TaskControl) -> Self {
        Self {
            control,
            parked: Vec::new(),
            storage: PhantomData,
        }
    }

    /// Proposes what is parked, unless the gate is closed.
    fn propose_parked(&mut self, node: &mut RawNode<S>) {
        if self.parked.is_empty() || !proposals_may_pass(node) {
            return;
        }
        let mut batch = Batch::default();
        for waiting in self.parked.drain(..) {
            match waiting {
                // Whoever gave up while it waited does not want it any more.
                NodeProposal::Local { reply, .. } if reply.is_closed() => {}
                NodeProposal::Forwarded { taken, .. } if taken.is_closed() => {}
                NodeProposal::Local { proposal, reply } => {
                    // A configuration change may be refused on its own.
                    let alone = proposal.entry_type != EntryType::Normal;
                    if alone {
                        batch.propose(node);
                    }
                    batch.push(proposal, reply);
                    if alone {
                        batch.propose(node);
                    }
                }
                NodeProposal::Forwarded { message, taken } => {
                    batch.propose(node);
                    step(node, message);
                    let _ = taken.send(());
                }
            }
        }
        batch.propose(node);
    }
}

impl<S: Storage + Send + 'static> Host for NodeHost<S> {
    type Storage = S;
    type Proposal = NodeProposal;
    type Input = NodeInput;
    type Command = NodeCommand;
    type Event = std::convert::Infallible;

    fn on_proposals(&mut self, node: &mut RawNode<S>, proposals: &mut Vec<NodeProposal>) {
        self.parked.append(proposals);
        self.propose_parked(node);
    }

    fn on_input(&mut self, node: &mut RawNode<S>, input: NodeInput) {
        let id = node.id();
        match input {
            NodeInput::Message(message) => step(node, message),
            NodeInput::Campaign => ignore(id, node.campaign()),
            NodeInput::ReadIndex(context) => ignore(id, node.read_index(context)),
            NodeInput::TransferLeadership(to) => ignore(id, node.transfer_leadership(to)),
            NodeInput::ForgetLeader => node.forget_leader(),
            NodeInput::Unreachable(peer) => node.report_unreachable(peer),
            NodeInput::SnapshotReport(peer, outcome) => node.report_snapshot(peer, outcome),
            NodeInput::Persisted(receipt) => ignore(id, node.persisted(receipt)),
            NodeInput::Applied(receipt) => ignore(id, node.applied(receipt)),
        }
    }

    fn on_command(&mut self, node: &mut RawNode<S>, command: NodeCommand) {
        // Whoever asked may have given up.
        match command {
            NodeCommand::ApplyConfChange { change, reply } => {
                let _ = reply.send(node.apply_conf_change(&change));
            }
            NodeCommand::Status { reply } => {
                let _ = reply.send(node.status());
            }
        }
    }

    fn on_event(&mut self, _node: &mut RawNode<S>, event: std::convert::Infallible) {
        match event {}
    }

    fn on_tick(
        &mut self,
        _node: &mut RawNode<S>,
        _gated: Option<&mut queue::Receiver<NodeProposal>>,
    ) {
    }

    fn settle(&mut self, node: &mut RawNode<S>) -> Result<(), Halted> {
        self.propose_parked(node);
        match node.failure() {
            None => Ok(()),
            Some(error) => {
                self.control
                    .set_reason(StopReason::Storage(error.to_string()));
                Err(Halted)
            }
        }
    }

    fn on_stop(self, _node: &mut RawNode<S>) -> Option<Cleanup> {
        None
    }
}

/// Proposals that become one append, and who waits for each.
#[derive(Default)]
struct Batch {
    proposals: Vec<Proposal>,
    replies: Vec<ProposeReply>,
}

impl Batch {
    fn push(&mut self, proposal: Proposal, reply: ProposeReply) {
        self.proposals.push(proposal);
        self.replies.push(reply);
    }

    /// Proposes what was gathered. If the quota has no room for all of it, each
    /// proposal is tried on its own: some may still fit.
    fn propose<S: Storage>(&mut self, node: &mut RawNode<S>) {
        let proposals = std::mem::take(&mut self.proposals);
        let replies = std::mem::take(&mut self.replies);
        if proposals.is_empty() {
            return;
        }
        let individually = (proposals.len() > 1).then(|| proposals.clone());
        match (node.propose_batch(proposals), individually) {
            (Err(ProposeError::QuotaExceeded { .. }), Some(proposals)) => {
                for (proposal, reply) in proposals.into_iter().zip(replies) {
                    let _ = reply.send(node.propose_batch(vec![proposal]));
                }
            }
            (
                Ok(Proposed::Appended {
                    term,
                    first,
                    refused,
                    ..
                }),
                _,
            ) => {
                let mut index = first;
                for reply in replies {
                    let _ = reply.send(Ok(Proposed::Appended {
                        term,
                        first: index,
                        last: index,
                        refused,
                    }));
                    index = index.next();
                }
            }
            // The loop ends with this turn, and tells them why.
            (Err(ProposeError::Halted(_)), _) => drop(replies),
            (result, _) => {
                for reply in replies {
                    let _ = reply.send(result.clone());
                }
            }
        }
    }
}

fn step<S: Storage>(node: &mut RawNode<S>, message: Message) {
    match node.step(message) {
        Ok(()) | Err(StepError::PeerNotFound(_)) => {}
        Err(error) => tracing::debug!(node = %node.id(), %error, "a message was not taken"),
    }
}

/// Nobody waits for these; what goes wrong shows in the state.
fn ignore<E: std::fmt::Display>(node: NodeId, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::debug!(%node, %error, "a request was not taken");
    }
}
