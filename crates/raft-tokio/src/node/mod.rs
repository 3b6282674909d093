//! # Node
//!
//! A node in a task of its own, for users who carry Readys out themselves: the
//! counterpart of etcd's `Node`. [`Raft`](crate::Raft) does that work for you.
//!
//! - Owns: the sending ends of the loop's channels.
//! - Source: etcd `node.go`.

mod host;
mod shared_storage;

use bytes::Bytes;
use raft_core::{
    AppendReceipt, ApplyReceipt, Body, ConfChange, ConfChangeError, ConfState, Config, Message,
    NodeId, Proposal, Proposed, RawNode, Ready, SnapshotOutcome, StartError, Status, Storage,
};
use tokio::sync::{mpsc, oneshot};

use crate::event_loop::{Advanced, EventLoop, ReadyRequest, Ticks};
use crate::queue;
use crate::task::{Stopped, TaskControl};

use host::{NodeCommand, NodeHost, NodeInput, NodeProposal};
pub use shared_storage::SharedStorage;

/// Ticks that may wait while the loop is busy (etcd's number). More are dropped:
/// a node that is so late should not catch up in a burst of elections.
const TICKS_WAITING_MAX: usize = 128;
const PROPOSALS_WAITING_MAX: usize = 4096;
const INPUTS_WAITING_MAX: usize = 4096;
const COMMANDS_WAITING_MAX: usize = 64;

/// A handle to a node that runs in a task of its own. Cheap to clone.
///
/// The task ends with [`stop`](Node::stop), or when every handle is gone.
///
/// ```
/// use bytes::Bytes;
/// use raft_tokio::core::{Config, ConfState, MemoryStorage, NodeId};
/// use raft_tokio::{Node, SharedStorage};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = NodeId::new(1).expect("1 is a node id");
/// let storage = SharedStorage::new(MemoryStorage::with_conf_state(ConfState::of_voters([id])));
/// let (node, mut readys) = Node::start(Config::protected(id), storage.clone())?;
///
/// node.campaign().await?;
/// let proposer = node.clone();
/// let proposal = tokio::spawn(async move { proposer.propose(Bytes::from_static(b"hi")).await });
/// let mut applied = Vec::new();
/// while applied.is_empty() {
///     let Some(ready) = readys.next().await else { break };
///     if let Some(append) = ready.append {
///         storage.write(append)?; // A real one writes to a disk here.
///     }
///     // A cluster of more than one sends `ready.messages` and the responses.
///     let committed = ready.apply.map(|apply| apply.entries).unwrap_or_default();
///     applied.extend(committed.iter().map(|e| e.data().clone()).filter(|d| !d.is_empty()));
///     node.advance().await?;
/// }
/// assert_eq!(applied, ["hi"]);
/// proposal.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    propc: queue::Sender<NodeProposal>,
    recvc: mpsc::Sender<NodeInput>,
    controlc: mpsc::Sender<NodeCommand>,
    tickc: mpsc::Sender<()>,
    advancec: mpsc::Sender<Advanced>,
    id: NodeId,
    control: TaskControl,
}

/// A proposal that is in no log as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeProposeError {
    /// The node refused it. It is in no log, and will not be.
    #[error(transparent)]
    Refused(#[from] raft_core::ProposeError),
    /// The node has stopped. If the proposal had reached it, it may be in the
    /// log.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A configuration change was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyConfChangeError {
    /// It cannot be made from the current configuration; it is void everywhere.
    #[error(transparent)]
    Invalid(#[from] ConfChangeError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Node {
    /// Starts a node with what is in `storage`, on the current runtime. The
    /// [`Readys`] must be taken and carried out, or nothing happens.
    ///
    /// # Errors
    /// The configuration or the storage contradicts itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start<S>(config: Config, storage: S) -> Result<(Self, Readys), StartError>
    where
        S: Storage + Send + 'static,
    {
        let node = RawNode::new(config, storage)?;
        let (propc, propc_receiver) = queue::queue(PROPOSALS_WAITING_MAX);
        let (recvc, recvc_receiver) = mpsc::channel(INPUTS_WAITING_MAX);
        let (controlc, controlc_receiver) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (tickc, tickc_receiver) = mpsc::channel(TICKS_WAITING_MAX);
        let (readyc, readyc_receiver) = mpsc::channel(1);
        let (advancec, advancec_receiver) = mpsc::channel(1);
        let id = node.id();
        let control = TaskControl::new(id);
        let event_loop = EventLoop {
            node,
            host: NodeHost::new(control.clone()),
            ticks: Ticks::Channel(tickc_receiver),
            propc: propc_receiver,
            recvc: recvc_receiver,
            controlc: controlc_receiver,
            eventc: None,
            readyc: Some(readyc_receiver),
            advancec: Some(advancec_receiver),
            stop: control.stop_token(),
        };
        control.spawn(event_loop, || {});
        let node = Self {
            propc,
            recvc,
            controlc,
            tickc,
            advancec,
            id,
            control: control.clone(),
        };
        let readys = Readys {
            readyc,
            asked: None,
            control,
        };
        Ok((node, readys))
    }

    /// This server.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// A tick has passed. Never waits: if 128 ticks wait already the loop is
    /// blocked, and the tick is dropped with a warning. Does nothing on a node
    /// that has stopped.
    pub fn tick(&self) {
        if let Err(mpsc::error::TrySendError::Full(())) = self.tickc.try_send(()) {
            tracing::warn!(node = %self.id, "a tick was dropped: the node's loop is blocked");
        }
    }

    /// Proposes a command, and waits until the node has taken or refused it.
    /// While nobody leads, and on a node that was removed, proposals wait.
    ///
    /// `Ok` means that it is in this leader's log, or on its way to the leader;
    /// not that it is committed.
    ///
    /// # Errors
    /// It is in no log, unless the node stopped meanwhile.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the proposal is not made. Dropped later, it may
    /// have been.
    pub async fn propose(&self, data: Bytes) -> Result<Proposed, NodeProposeError> {
        self.propose_entry(Proposal::normal(data)).await
    }

    /// Proposes a change of the configuration, like [`propose`](Self::propose).
    ///
    /// # Errors
    /// It is in no log, unless the node stopped meanwhile.
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose).
    pub async fn propose_conf_change(
        &self,
        change: &ConfChange,
    ) -> Result<Proposed, NodeProposeError> {
        self.propose_entry(change.to_proposal()).await
    }

    async fn propose_entry(&self, proposal: Proposal) -> Result<Proposed, NodeProposeError> {
        let (reply, answer) = oneshot::channel();
        let proposal = NodeProposal::Local { proposal, reply };
        if self.propc.send(proposal).await.is_err() {
            return Err(self.control.stopped().await.into());
        }
        match answer.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self.control.stopped().await.into()),
        }
    }

    /// Hands over a message from another server. Proposals among them wait like
    /// local ones, so a server that reads messages from a connection should not
    /// wait for them in the task that reads everything else. What the node makes
    /// of the message is not said: answers of servers that it does not know, and
    /// messages that no correct peer sends, are dropped.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the message is not delivered, but for a proposal
    /// that was just being taken.
    pub async fn step(&self, message: Message) -> Result<(), Stopped> {
        if matches!(message.body, Body::Propose { .. }) {
            let (taken, done) = oneshot::channel();
            let proposal = NodeProposal::Forwarded { message, taken };
            if self.propc.send(proposal).await.is_err() || done.await.is_err() {
                return Err(self.control.stopped().await);
            }
            return Ok(());
        }
        self.input(NodeInput::Message(message)).await
    }

    async fn input(&self, input: NodeInput) -> Result<(), Stopped> {
        if self.recvc.send(input).await.is_err() {
            return Err(self.control.stopped().await);
        }
        Ok(())
    }

    /// Campaigns now, if the node may.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn campaign(&self) -> Result<(), Stopped> {
        self.input(NodeInput::Campaign).await
    }

    /// Asks for an index at which a read is linearizable. The answer comes with
    /// a Ready, as a [`ReadState`](raft_core::ReadState) with this context, or
    /// is lost.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn read_index(&self, context: Bytes) -> Result<(), Stopped> {
        self.input(NodeInput::ReadIndex(context)).await
    }

    /// Asks the leader to hand leadership to `to`. Whether it does shows in the
    /// soft state of later Readys.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), Stopped> {
        self.input(NodeInput::TransferLeadership(to)).await
    }

    /// Forgets who leads, so that the node votes before its timeout.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn forget_leader(&self) -> Result<(), Stopped> {
        self.input(NodeInput::ForgetLeader).await
    }

    /// The last message to `id` could not be delivered.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn report_unreachable(&self, id: NodeId) -> Result<(), Stopped> {
        self.input(NodeInput::Unreachable(id)).await
    }

    /// How the journey of a snapshot to `id` ended.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn report_snapshot(
        &self,
        id: NodeId,
        outcome: SnapshotOutcome,
    ) -> Result<(), Stopped> {
        self.input(NodeInput::SnapshotReport(id, outcome)).await
    }

    /// A write is durable (asynchronous storage writes).
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the receipt is lost, and the node waits for it
    /// for ever: do not cancel.
    pub async fn persisted(&self, receipt: AppendReceipt) -> Result<(), Stopped> {
        self.input(NodeInput::Persisted(receipt)).await
    }

    /// Entries are applied (asynchronous storage writes).
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the receipt is lost, and the node waits for it
    /// for ever: do not cancel.
    pub async fn applied(&self, receipt: ApplyReceipt) -> Result<(), Stopped> {
        self.input(NodeInput::Applied(receipt)).await
    }

    /// The Ready taken last was carried out. Waits until one is outstanding:
    /// with asynchronous storage writes that is never the case.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits for a Ready to be outstanding, nothing happens.
    /// Dropped later, the Ready may have been advanced or not, and a second call
    /// would then wait for the next one: do not cancel it while a Ready is
    /// outstanding. The loop answers at once.
    pub async fn advance(&self) -> Result<(), Stopped> {
        let (advanced, done) = oneshot::channel();
        if self.advancec.send(advanced).await.is_err() || done.await.is_err() {
            return Err(self.control.stopped().await);
        }
        Ok(())
    }

    /// Moves to the configuration after a committed change. Call it for every
    /// configuration entry that is applied.
    ///
    /// # Errors
    /// The change is void, or the node has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing happens; later, the change is
    /// made.
    pub async fn apply_conf_change(
        &self,
        change: ConfChange,
    ) -> Result<ConfState, ApplyConfChangeError> {
        let (reply, answer) = oneshot::channel();
        let command = NodeCommand::ApplyConfChange { change, reply };
        if self.controlc.send(command).await.is_err() {
            return Err(self.control.stopped().await.into());
        }
        match answer.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self.control.stopped().await.into()),
        }
    }

    /// A copy of everything worth knowing.
    ///
    /// # Errors
    /// The node has stopped.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (reply, answer) = oneshot::channel();
        if self
            .controlc
            .send(NodeCommand::Status { reply })
            .await
            .is_err()
        {
            return Err(self.control.stopped().await);
        }
        match answer.await {
            Ok(status) => Ok(status),
            Err(_) => Err(self.control.stopped().await),
        }
    }

    /// Ends the loop, and waits until it has ended. Everybody who waits for the
    /// node gets an error. Idempotent.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the loop ends all the same.
    pub async fn stop(&self) -> Stopped {
        self.control.stop();
        self.control.stopped().await
    }
}

/// The Readys of a node, one after the other.
#[derive(Debug)]
pub struct Readys {
    readyc: mpsc::Sender<ReadyRequest>,
    /// A Ready that was asked for by a wait that was cancelled.
    asked: Option<oneshot::Receiver<Ready>>,
    control: TaskControl,
}

impl Readys {
    /// The next Ready, once there is one and the one before was advanced. `None`
    /// once the node has stopped.
    ///
    /// # Cancel safety
    /// Cancel safe: a Ready that was on its way comes with the next call. After
    /// a wait that was cancelled the next Ready is made as soon as there is one,
    /// and what comes in later is in the one behind it.
    pub async fn next(&mut self) -> Option<Ready> {
        loop {
            let asked = if let Some(asked) = &mut self.asked {
                asked
            } else {
                let permit = tokio::select! {
                    permit = self.readyc.reserve() => permit.ok()?,
                    _ = self.control.stopped() => return None,
                };
                let (reply, answer) = oneshot::channel();
                permit.send(reply);
                self.asked.insert(answer)
            };
            let answer = asked.await;
            self.asked = None;
            match answer {
                Ok(ready) => return Some(ready),
                Err(_) if self.control.is_done() => return None,
                // The node had nothing after all: it halted, or is stopping.
                Err(_) => {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
