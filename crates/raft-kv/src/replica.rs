//! # The replica
//!
//! Joins the state machine and the server for clients to raft-tokio, and counts
//! what became of the requests.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, ProposeError, Raft, ReadError, ReplicaStatus, SnapshotJob, StateMachine,
};

use crate::machine::KvMachine;
use crate::server::{Backend, Refusal};

impl StateMachine for KvMachine {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        self.apply_batch(command)
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.query_batch(query)
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let image = self.image();
        Box::new(move || Ok(image.encode()))
    }

    fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError> {
        Ok(self.restore_image(&snapshot)?)
    }
}

/// What became of the requests of this node's clients, since it started.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts {
    pub(crate) writes_pending: AtomicU64,
    pub(crate) writes_failed: AtomicU64,
    pub(crate) reads_pending: AtomicU64,
    pub(crate) reads_failed: AtomicU64,
}

/// Does what clients ask for by way of a replica.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaBackend {
    raft: Raft,
    counts: Arc<RequestCounts>,
}

impl ReplicaBackend {
    pub(crate) fn new(raft: Raft) -> Self {
        Self {
            raft,
            counts: Arc::default(),
        }
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        self.raft.status()
    }

    pub(crate) fn counts(&self) -> &RequestCounts {
        &self.counts
    }
}

/// Counts a request as pending for as long as this lives.
struct Pending<'a>(&'a AtomicU64);

impl<'a> Pending<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backend for ReplicaBackend {
    fn write(&self, batch: Bytes) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static {
        let Self { raft, counts } = self.clone();
        async move {
            let _pending = Pending::new(&counts.writes_pending);
            match raft.propose(batch).await {
                Ok(applied) => Ok(applied.reply),
                Err(error) => {
                    counts.writes_failed.fetch_add(1, Ordering::Relaxed);
                    Err(write_refusal(&error))
                }
            }
        }
    }

    fn read(&self, batch: Bytes) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static {
        let Self { raft, counts } = self.clone();
        async move {
            let _pending = Pending::new(&counts.reads_pending);
            raft.query(batch).await.map_err(|error| {
                counts.reads_failed.fetch_add(1, Ordering::Relaxed);
                read_refusal(&error)
            })
        }
    }

    fn info(&self) -> String {
        let status = self.raft.status();
        let leader = status.leader.map_or(0, raft_tokio::NodeId::get);
        format!(
            "# Raft\r\nraft_id:{}\r\nraft_role:{}\r\nraft_term:{}\r\nraft_leader:{leader}\r\n\
             raft_commit:{}\r\nraft_applied:{}\r\nraft_first_index:{}\r\nraft_last_index:{}\r\n\
             raft_snapshot_index:{}",
            status.id,
            role_name(&status),
            status.term,
            status.commit,
            status.applied,
            status.first_index,
            status.last_index,
            status.snapshot_index,
        )
    }
}

/// The role in the words of the paper.
pub(crate) fn role_name(status: &ReplicaStatus) -> &'static str {
    use raft_tokio::RoleKind;
    match status.role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

fn write_refusal(error: &ProposeError) -> Refusal {
    let said = error.to_string();
    match error {
        ProposeError::NotLeader { leader: None }
        | ProposeError::NotMember
        | ProposeError::Stopped(_) => Refusal::NoLeader(said),
        error if error.is_retryable() => Refusal::TryAgain(said),
        ProposeError::TooLarge { .. } | ProposeError::Empty => Refusal::Never(said),
        // Whatever is not known to have failed may have happened.
        _ => Refusal::Uncertain("no reply came in time".to_owned()),
    }
}

fn read_refusal(error: &ReadError) -> Refusal {
    let said = error.to_string();
    match error {
        ReadError::QueueFull => Refusal::TryAgain(said),
        _ => Refusal::NoLeader(said),
    }
}
