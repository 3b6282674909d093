//! # The handle
//!
//! What users call: propose and await the reply, read, change the members, hand
//! leadership over, watch, stop. Cheap to clone, and usable from any task.
//!
//! - Owns: the sending ends of the loop's channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raft_core::{ConfChange, ConfState, LogIndex, NodeId, Term};
use tokio::sync::{mpsc, oneshot, watch};

use super::request::{ClientRequest, ClientRequestKind, Command, PendingRead, Waiter};
use crate::config::RaftConfig;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, StartError, TransferError};
use crate::log_store::LogStore;
use crate::state_machine::StateMachine;
use crate::status::ReplicaStatus;
use crate::task::{Stopped, TaskControl};
use crate::transport::Transport;

/// The reply of a command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What [`StateMachine::apply`] returned.
    pub reply: Bytes,
    /// Where the command stands in the log.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
}

/// A handle to a replica that runs in tasks of its own. Cheap to clone.
///
/// The replica ends with [`shutdown`](Raft::shutdown), or when every handle is
/// gone.
///
/// ```
/// # use bytes::Bytes;
/// # use raft_tokio::{BoxError, LogIndex, SnapshotJob, StateMachine};
/// use raft_tokio::{MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig};
/// # #[derive(Default)]
/// # struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
/// #         self.0 += 1;
/// #         Bytes::from(self.0.to_string())
/// #     }
/// #     fn query(&mut self, _query: &Bytes) -> Bytes { Bytes::from(self.0.to_string()) }
/// #     fn snapshot(&mut self) -> SnapshotJob { Box::new(|| Ok(Bytes::new())) }
/// #     fn restore(&mut self, _snapshot: Bytes) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = NodeId::new(1).expect("1 is a node id");
/// let network = MemoryNetwork::new();
/// let raft = Raft::start(
///     RaftConfig::new(id, vec![id]),
///     Counter::default(),
///     MemoryLogStore::new(),
///     network.join(id),
/// )
/// .await?;
///
/// raft.campaign().await?;
/// let applied = raft.propose("increment").await?;
/// assert_eq!(applied.reply, "1");
/// assert_eq!(raft.query("value").await?, "1");
/// raft.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: NodeId,
    pub(super) propc: mpsc::Sender<ClientRequest>,
    pub(super) controlc: mpsc::Sender<Command>,
    pub(super) tick: Arc<AtomicU64>,
    pub(super) status: watch::Sender<ReplicaStatus>,
    pub(super) control: TaskControl,
    pub(super) command_bytes_max: usize,
}

impl Raft {
    /// Starts a replica with what is in `log`, on the current runtime: reads the
    /// log back, restores the state machine, begins to listen.
    ///
    /// # Errors
    /// The log or the snapshot cannot be read, or the configuration contradicts
    /// itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime with a clock (`enable_time`).
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing runs.
    pub async fn start(
        config: RaftConfig,
        machine: impl StateMachine,
        log: impl LogStore,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        super::start::start(config, machine, log, transport).await
    }

    /// This server.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Proposes a command, and waits for the state machine's reply: the command
    /// is then on the disks of a quorum, and applied here or at the leader. On a
    /// follower it goes to the leader, and its reply comes back.
    ///
    /// While nobody leads the command waits, at most `proposal_timeout`.
    ///
    /// # Errors
    /// [`ProposeError::is_retryable`] says whether it certainly did not happen
    /// and may be tried again; [`ProposeError::is_indeterminate`] whether it may
    /// have happened, or may still.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, the command is not proposed.
    /// Dropped later, it may be applied all the same: dropping stops the wait,
    /// not the command.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<Applied, ProposeError> {
        let (request, answer) = self.proposal(command.into())?;
        if self.inner.propc.send(request).await.is_err() {
            return Err(self.inner.control.stopped().await.into());
        }
        self.reply(answer).await
    }

    /// Proposes a command if there is room for it now.
    ///
    /// # Errors
    /// With [`ProposeError::QueueFull`] too many requests are waiting; else as
    /// for [`propose`](Self::propose).
    ///
    /// # Cancel safety
    /// As for [`propose`](Self::propose).
    pub async fn try_propose(&self, command: impl Into<Bytes>) -> Result<Applied, ProposeError> {
        let (request, answer) = self.proposal(command.into())?;
        match self.inner.propc.try_send(request) {
            Ok(()) => self.reply(answer).await,
            Err(mpsc::error::TrySendError::Full(_)) => Err(ProposeError::QueueFull),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(self.inner.control.stopped().await.into())
            }
        }
    }

    fn proposal(&self, command: Bytes) -> Result<(ClientRequest, ReplyReceiver), ProposeError> {
        let (bytes, bytes_max) = (command.len(), self.inner.command_bytes_max);
        if bytes == 0 {
            return Err(ProposeError::Empty);
        }
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max });
        }
        let (reply, answer) = oneshot::channel();
        let reply = Waiter::Local(reply);
        let kind = ClientRequestKind::Propose { command, reply };
        Ok((self.request(kind), answer))
    }

    fn request(&self, kind: ClientRequestKind) -> ClientRequest {
        ClientRequest {
            kind,
            since_tick: self.inner.tick.load(Ordering::Relaxed),
        }
    }

    async fn reply(&self, answer: ReplyReceiver) -> Result<Applied, ProposeError> {
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    /// Asks the state machine of this replica a question, linearizably: the
    /// answer reflects every command that was committed when this was called.
    /// Many queries share one round of confirmation by a quorum.
    ///
    /// # Errors
    /// No leader confirmed it in time, or the replica has stopped. Queries
    /// change nothing, so they may be tried again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn query(&self, query: impl Into<Bytes>) -> Result<Bytes, ReadError> {
        let (reply, answer) = oneshot::channel();
        let query = query.into();
        self.read_request(PendingRead::Query { query, reply })
            .await?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    /// Waits until this replica's state machine has applied every command that
    /// was committed when this was called, and returns how far it is. What is
    /// read from the state machine's own data after that is linearizable.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read(&self) -> Result<LogIndex, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.read_request(PendingRead::Barrier { reply }).await?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    async fn read_request(&self, read: PendingRead) -> Result<(), ReadError> {
        let request = self.request(ClientRequestKind::Read { read });
        if self.inner.propc.send(request).await.is_err() {
            return Err(self.inner.control.stopped().await.into());
        }
        Ok(())
    }

    /// Changes the members of the cluster, and waits until the change is in
    /// effect: applied at the leader, and a joint configuration with auto-leave
    /// left again. Only on the leader.
    ///
    /// # Errors
    /// The change is refused or impossible, or its outcome is unknown.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, nothing happens; later, the
    /// change is made all the same.
    pub async fn change_membership(
        &self,
        change: ConfChange,
    ) -> Result<ConfState, ChangeMembershipError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::ChangeMembership { change, reply };
        self.command(command).await.map_err(ProposeError::from)?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::from(self.inner.control.stopped().await).into()),
        }
    }

    /// Hands leadership to `to`, and waits until it leads. Only on the leader.
    ///
    /// # Errors
    /// `to` was not elected within an election timeout, or cannot be.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, nothing happens; later, the
    /// transfer goes on.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Transfer { to, reply }).await?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    /// Campaigns now instead of after an election timeout.
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn campaign(&self) -> Result<(), Stopped> {
        self.command(Command::Campaign).await
    }

    /// Takes a snapshot and compacts the log, without waiting for the policy.
    /// [`ReplicaStatus::snapshot_index`] shows when it is done.
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn snapshot(&self) -> Result<(), Stopped> {
        self.command(Command::Snapshot).await
    }

    /// Tells the transport where `id` is reached from now on; `None` forgets it.
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn set_peer(&self, id: NodeId, address: Option<String>) -> Result<(), Stopped> {
        self.command(Command::SetPeer { id, address }).await
    }

    async fn command(&self, command: Command) -> Result<(), Stopped> {
        if self.inner.controlc.send(command).await.is_err() {
            return Err(self.inner.control.stopped().await);
        }
        Ok(())
    }

    /// What the replica is doing, as of the last tick or change of leader.
    pub fn status(&self) -> ReplicaStatus {
        self.inner.status.borrow().clone()
    }

    /// Follows what the replica is doing. While somebody watches, the status is
    /// brought up to date with every turn of the loop.
    pub fn watch(&self) -> watch::Receiver<ReplicaStatus> {
        self.inner.status.subscribe()
    }

    /// Waits until the status is as wanted, and returns it.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::Stopped> {
    /// let status = raft.wait_for(|status| status.leader.is_some()).await?;
    /// println!("node {} leads", status.leader.expect("waited for it"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_for(
        &self,
        mut wanted: impl FnMut(&ReplicaStatus) -> bool,
    ) -> Result<ReplicaStatus, Stopped> {
        let mut status = self.inner.status.subscribe();
        loop {
            {
                let now = status.borrow_and_update();
                if wanted(&now) {
                    return Ok(now.clone());
                }
                if let Some(reason) = &now.stopped {
                    return Err(Stopped {
                        reason: reason.clone(),
                    });
                }
            }
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return Err(self.inner.control.stopped().await);
                    }
                }
                stopped = self.inner.control.stopped() => return Err(stopped),
            }
        }
    }

    /// Stops the replica: refuses whoever waits, writes what is on its way,
    /// closes the log. Returns when it is done. Idempotent.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the replica stops all the same.
    pub async fn shutdown(&self) -> Stopped {
        self.inner.control.stop();
        self.inner.control.stopped().await
    }
}

type ReplyReceiver = oneshot::Receiver<Result<Applied, ProposeError>>;
