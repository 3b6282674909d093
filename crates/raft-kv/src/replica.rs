//! # The replica
//!
//! Joins the state machine and the server for clients to raft-tokio, and counts
//! what became of the requests.
//!
//! Whatever gets no reply is tried again until the request's time is over. The
//! writes of a client go through a session of its own for as long as it is
//! connected, so they are done once and in order however often they are tried;
//! the next client goes on with that session.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_tokio::{
    BoxError, LogIndex, ProposeError, Raft, ReadError, ReplicaStatus, SessionError, SessionLimits,
    SessionPipeline, Sessions, SnapshotJob, SnapshotReader, StateMachine,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::machine::{Answers, KvMachine};
use crate::memory::Memory;
use crate::server::{Backend, Refusal};

impl StateMachine for KvMachine {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        self.apply_batch(command)
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.answer(query)
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let image = self.image();
        SnapshotJob::new(move |out| Ok(image.write_to(out)?))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        Ok(self.restore_image(snapshot)?)
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

/// How long a read that got no answer waits before it is tried again.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// As many sessions as three nodes have at the most with the default number of
/// clients, and as many again for nodes that were killed and left theirs behind.
const SESSION_LIMITS: SessionLimits = SessionLimits {
    sessions_max: 1 << 16,
    idle_entries_max: 10_000_000,
    reply_bytes_max: 256 << 20,
};

/// What is replicated: the keys, and the sessions of those who write them.
pub(crate) fn state_machine(memory: Memory) -> Sessions<KvMachine> {
    Sessions::new(KvMachine::within(memory), SESSION_LIMITS)
}

/// Does what clients ask for by way of a replica.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    raft: Raft,
    memory: Memory,
    request_timeout: Duration,
    counts: RequestCounts,
    /// The sessions of clients that are gone, for those to come.
    idle: Mutex<Vec<SessionPipeline>>,
}

impl ReplicaBackend {
    /// Answers within `request_timeout`, or says why not.
    pub(crate) fn new(raft: Raft, memory: Memory, request_timeout: Duration) -> Self {
        let shared = Shared {
            raft,
            memory,
            request_timeout,
            counts: RequestCounts::default(),
            idle: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The backend of one more client.
    pub(crate) fn for_client(&self) -> ClientBackend {
        let idle = self.shared.idle().pop();
        let writes = idle.unwrap_or_else(|| {
            SessionPipeline::new(self.shared.raft.clone(), self.shared.request_timeout)
        });
        ClientBackend {
            shared: self.shared.clone(),
            writes,
        }
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        self.shared.raft.status()
    }

    /// What all clients together hold, in bytes.
    pub(crate) fn client_bytes(&self) -> usize {
        self.shared.memory.bytes()
    }

    pub(crate) fn counts(&self) -> &RequestCounts {
        &self.shared.counts
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<SessionPipeline>> {
        // Nothing that is done under the lock can panic half way.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what one client asks for.
#[derive(Debug)]
pub(crate) struct ClientBackend {
    shared: Arc<Shared>,
    writes: SessionPipeline,
}

impl Drop for ClientBackend {
    fn drop(&mut self) {
        self.shared.idle().push(self.writes.clone());
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

impl Backend for ClientBackend {
    fn write(
        &self,
        batch: BytesMut,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static {
        let shared = self.shared.clone();
        let written = self.writes.propose(batch);
        async move {
            let _pending = Pending::new(&shared.counts.writes_pending);
            match written.await {
                Ok(applied) => Ok(applied.reply),
                Err(error) => {
                    let failed = &shared.counts.writes_failed;
                    failed.fetch_add(1, Ordering::Relaxed);
                    Err(write_refusal(&error))
                }
            }
        }
    }

    fn read(
        &self,
        batch: Bytes,
    ) -> impl Future<Output = Result<(Bytes, usize), Refusal>> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            let _pending = Pending::new(&shared.counts.reads_pending);
            let deadline = Instant::now() + shared.request_timeout;
            loop {
                let (refusal, may_succeed) = match shared.raft.query(batch.clone()).await {
                    Ok(answer) => match Answers::decode(answer) {
                        Some((_, 0)) => {
                            // What is refused was made ready all the same, so it is not
                            // asked for before there is room.
                            let room = shared.memory.something_left();
                            let _ = timeout_at(deadline, room).await;
                            (no_room(), true)
                        }
                        Some(answers) => return Ok(answers),
                        None => {
                            return Err(Refusal::Never("this version cannot read it".into()));
                        }
                    },
                    Err(error) => (read_refusal(&error), matches!(error, ReadError::Timeout)),
                };
                if !may_succeed || Instant::now() + READ_PAUSE > deadline {
                    let failed = &shared.counts.reads_failed;
                    failed.fetch_add(1, Ordering::Relaxed);
                    return Err(refusal);
                }
                sleep(READ_PAUSE).await;
            }
        }
    }

    fn info(&self) -> String {
        let status = self.shared.raft.status();
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

fn write_refusal(error: &SessionError) -> Refusal {
    let said = error.to_string();
    match error {
        SessionError::Propose(
            ProposeError::NotLeader { leader: None }
            | ProposeError::NotMember
            | ProposeError::Stopped(_),
        ) => Refusal::NoLeader(said),
        SessionError::Propose(error) if error.is_retryable() => Refusal::TryAgain(said),
        SessionError::Propose(ProposeError::TooLarge { .. } | ProposeError::Empty) => {
            Refusal::Never(said)
        }
        error if !error.is_indeterminate() => Refusal::TryAgain(said),
        // Whatever is not known to have failed may have happened.
        SessionError::Propose(ProposeError::OutcomeUnknown) => {
            Refusal::Uncertain("no reply came, or this node is stopping".to_owned())
        }
        _ => Refusal::Uncertain(said),
    }
}

fn no_room() -> Refusal {
    Refusal::TryAgain("other clients have not taken their replies, which leaves no room".into())
}

fn read_refusal(error: &ReadError) -> Refusal {
    let said = error.to_string();
    match error {
        ReadError::QueueFull => Refusal::TryAgain(said),
        _ => Refusal::NoLeader(said),
    }
}
