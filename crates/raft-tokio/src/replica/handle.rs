//! # The handle
//!
//! What users call: read, hand leadership over, watch, stop; the start, proposals
//! and members have files of their own. Cheap to clone, and usable from any task.
//!
//! - Owns: the sending ends of the loop's channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use std::time::Duration;

use bytes::Bytes;
use raft_core::{LogIndex, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use super::request::{ClientRequest, ClientRequestKind, Command, Event, Freshness, PendingRead};
use super::room::Room;
use crate::error::{ReadError, TransferError};
use crate::queue::{self, TrySendError};
use crate::status::{Health, ReplicaStatus};
use crate::task::{Stopped, TaskControl};

/// A handle to a replica that runs in tasks of its own. Cheap to clone.
///
/// The replica ends with [`shutdown`](Raft::shutdown), or when every handle is
/// gone.
///
/// ```
/// # use bytes::Bytes;
/// # use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};
/// use raft_tokio::{MemoryLogStore, MemoryNetwork, NodeId, Raft, RaftConfig};
/// # #[derive(Default)]
/// # struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
/// #         self.0 += 1;
/// #         Bytes::from(self.0.to_string())
/// #     }
/// #     fn query(&mut self, _query: &Bytes) -> Bytes { Bytes::from(self.0.to_string()) }
/// #     fn snapshot(&mut self) -> SnapshotJob { SnapshotJob::bytes("") }
/// #     fn restore(&mut self, _snapshot: &mut SnapshotReader) -> Result<(), BoxError> { Ok(()) }
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
    pub(super) propc: queue::Sender<ClientRequest>,
    pub(super) controlc: mpsc::Sender<Command>,
    pub(super) tick: Arc<AtomicU64>,
    pub(super) status: watch::Sender<ReplicaStatus>,
    pub(super) control: TaskControl,
    /// Tells the loop to drain: never full.
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) room: Room,
    pub(super) command_bytes_max: usize,
    pub(super) catch_up_timeout: Duration,
    pub(super) election_timeout: Duration,
}

impl Raft {
    /// This server.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Asks the state machine of this replica a question, linearizably: the
    /// answer reflects every command that was committed when this was called.
    /// Many queries share one round of confirmation by a quorum.
    ///
    /// While nobody leads the query waits, at most `proposal_timeout`.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ReadError> {
    /// let answer = raft.query("balance of alice").await?;
    /// println!("{answer:?}, and nothing older");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No leader confirmed it in time, or the replica has stopped. Queries
    /// change nothing, so they may be tried again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn query(&self, query: impl Into<Bytes>) -> Result<Bytes, ReadError> {
        self.query_by(query.into(), Freshness::Confirmed).await
    }

    /// Like [`query`](Self::query), but a leader that has a lease answers on its
    /// own, without asking a quorum. Without one, and on a follower, it is a
    /// `query`, and renews the lease.
    ///
    /// Linearizable as long as the servers' clocks do not differ in speed by
    /// more than [`lease_drift_per_mille`](crate::RaftConfig::lease_drift_per_mille),
    /// and [`lease_reads`](crate::RaftConfig::lease_reads) is set on all of them
    /// or on none. The clock is a monotonic one, never the time of day.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ReadError> {
    /// // Mostly without a message to anybody, if this replica leads.
    /// let answer = raft.query_lease("balance of alice").await?;
    /// println!("{answer:?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn query_lease(&self, query: impl Into<Bytes>) -> Result<Bytes, ReadError> {
        self.query_by(query.into(), Freshness::Leased).await
    }

    /// Asks the state machine of this replica a question whose answer may be
    /// old: it reflects every command that was committed `age_max` ago, and may
    /// reflect later ones. If this replica has had no confirmation for that
    /// long it asks for one, as [`query`](Self::query) does.
    ///
    /// The age is measured from when a quorum was asked, so it is an upper
    /// bound however slow the network is. Answers of one replica never go back
    /// in time; those of several may.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ReadError> {
    /// use std::time::Duration;
    ///
    /// let answer = raft.query_stale("balance of alice", Duration::from_secs(2)).await?;
    /// println!("{answer:?}, two seconds old at most");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`query`](Self::query). Without a leader, an answer that is young
    /// enough is still given.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn query_stale(
        &self,
        query: impl Into<Bytes>,
        age_max: Duration,
    ) -> Result<Bytes, ReadError> {
        let (reply, answer) = oneshot::channel();
        let query = query.into();
        self.command(Command::ReadStale {
            read: PendingRead::Query { query, reply },
            age_max,
            since_tick: self.inner.tick.load(Ordering::Relaxed),
        })
        .await?;
        self.answer(answer).await
    }

    /// Waits until this replica's state machine has applied every command that
    /// was committed when this was called, and returns how far it is. What is
    /// read from the state machine's own data after that is linearizable.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ReadError> {
    /// let index = raft.read().await?;
    /// println!("what was committed is applied here, up to {index}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read(&self) -> Result<LogIndex, ReadError> {
        self.read_by(Freshness::Confirmed).await
    }

    /// Like [`read`](Self::read), by the lease of the leader: see
    /// [`query_lease`](Self::query_lease).
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::ReadError> {
    /// raft.read_lease().await?;
    /// // Look at what the state machine shares with you.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read_lease(&self) -> Result<LogIndex, ReadError> {
        self.read_by(Freshness::Leased).await
    }

    async fn query_by(&self, query: Bytes, freshness: Freshness) -> Result<Bytes, ReadError> {
        let (reply, answer) = oneshot::channel();
        let read = PendingRead::Query { query, reply };
        self.enqueue(ClientRequestKind::Read { read, freshness })
            .await?;
        self.answer(answer).await
    }

    async fn read_by(&self, freshness: Freshness) -> Result<LogIndex, ReadError> {
        let (reply, answer) = oneshot::channel();
        let read = PendingRead::Barrier { reply };
        self.enqueue(ClientRequestKind::Read { read, freshness })
            .await?;
        self.answer(answer).await
    }

    async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    /// Hands leadership to `to`, and waits until it leads. Only on the leader.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, two: raft_tokio::NodeId) -> Result<(), raft_tokio::TransferError> {
    /// match raft.transfer_leadership(two).await {
    ///     Ok(()) => println!("node {two} leads"),
    ///     Err(error) => println!("it did not happen: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `to` was not elected within an election timeout, or cannot be.
    ///
    /// # Cancel safety
    /// Dropped before the replica has taken it, which it does in its next turn,
    /// nothing happens; later, the transfer goes on.
    /// [`ReplicaStatus::transferee`] shows that.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Transfer { to, reply }).await?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.control.stopped().await.into()),
        }
    }

    /// Campaigns now instead of after an election timeout. With `lease_reads`,
    /// nothing happens while a leader is known: it may have a lease.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::Stopped> {
    /// raft.campaign().await?;
    /// raft.wait_for(|status| status.is_leader()).await?;
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), raft_tokio::Stopped> {
    /// let before = raft.status().snapshot_index;
    /// raft.snapshot().await?;
    /// raft.wait_for(|status| status.snapshot_index > before).await?;
    /// # Ok(())
    /// # }
    /// ```
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
    /// Only this replica's: it holds until the cluster agrees on another address
    /// ([`move_member`](Self::move_member)), or the replica restarts. It needs no
    /// leader, so it also helps where addresses are wrong and none can be elected.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft, two: raft_tokio::NodeId) -> Result<(), raft_tokio::Stopped> {
    /// raft.set_peer(two, Some("10.0.0.2:7000".to_owned())).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The replica has stopped.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing happens.
    pub async fn set_peer(&self, id: NodeId, address: Option<String>) -> Result<(), Stopped> {
        self.command(Command::SetPeer { id, address }).await
    }

    pub(super) fn request(&self, kind: ClientRequestKind) -> ClientRequest {
        ClientRequest {
            kind,
            since_tick: self.inner.tick.load(Ordering::Relaxed),
        }
    }

    pub(super) async fn enqueue(&self, kind: ClientRequestKind) -> Result<(), Stopped> {
        // There nearly always is room, and then there is nothing to wait for.
        // Room that others wait for is theirs already.
        let Err(not_sent) = self.inner.propc.try_send(self.request(kind)) else {
            return Ok(());
        };
        let wait = async {
            if let TrySendError::Full(request) = not_sent
                && self.inner.propc.send(request).await.is_ok()
            {
                return Ok(());
            }
            Err(self.inner.control.stopped().await)
        };
        Box::pin(wait).await
    }

    pub(super) async fn command(&self, command: Command) -> Result<(), Stopped> {
        if self.inner.controlc.send(command).await.is_err() {
            return Err(self.inner.control.stopped().await);
        }
        Ok(())
    }

    /// What the replica is doing, as of the last tick or change of leader.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), std::convert::Infallible> {
    /// let status = raft.status();
    /// println!("{:?} in term {}, applied {}", status.role, status.term, status.applied);
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self) -> ReplicaStatus {
        self.inner.status.borrow().clone()
    }

    /// Follows what the replica is doing. While somebody watches, the status is
    /// brought up to date with every turn of the loop.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), std::convert::Infallible> {
    /// let mut status = raft.watch();
    /// while status.changed().await.is_ok() {
    ///     println!("leader: {:?}", status.borrow_and_update().leader);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Whether the replica is alive and of use, and why not.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), std::convert::Infallible> {
    /// for reason in raft.health().reasons {
    ///     println!("not ready: {reason}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Health {
        self.inner.status.borrow().health()
    }

    /// Stops the replica. A leader hands over first; what the replica has taken
    /// is finished; new requests are refused. When that is done, or after an
    /// election timeout, whoever still waits hears that the outcome is unknown,
    /// the log is flushed and closed, and every task ends. Returns when all that
    /// is done: no thread and no file is left, and the next start finds the
    /// address and the folder free. Idempotent.
    ///
    /// Without this, the replica stops when the last handle is dropped, at once.
    ///
    /// ```no_run
    /// # async fn example(raft: raft_tokio::Raft) -> Result<(), std::convert::Infallible> {
    /// let stopped = raft.shutdown().await;
    /// println!("{stopped}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropped while it waits, the replica stops all the same.
    pub async fn shutdown(&self) -> Stopped {
        // A loop that is gone has nothing to hand over.
        let _ = self.inner.events.send(Event::Drain);
        self.inner.control.stopped().await
    }
}
