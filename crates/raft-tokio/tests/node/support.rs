//! One node whose Readys the test carries out, and words for what waits.
//!
//! Nothing in here sleeps. The clock is paused, so it only moves once every task
//! has nothing left to do: a timeout that fires says that nothing more happens.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{
    AppendOutcome, AppendResponse, Body, ConfState, Config, Entries, EntryId, InitialState,
    LogIndex, MemoryStorage, Message, NodeId, Proposal, Proposed, Ready, Round, Snapshot, Storage,
    StorageError, Term, VoteResponse,
};
use raft_tokio::{
    ConfChange, ConfChangeType, Node, NodeProposeError, Readys, SharedStorage, Stopped,
};
use tokio::task::JoinHandle;

/// On a paused clock: until nothing more happens.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

/// Waits for what must come.
///
/// # Panics
/// If nothing more happens, and it has not come.
pub(crate) async fn comes<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(QUIET, future)
        .await
        .expect("it comes before nothing more happens")
}

/// Whether `future` still waits when nothing more happens.
pub(crate) async fn waits<F: Future>(future: Pin<&mut F>) -> bool {
    tokio::time::timeout(QUIET, future).await.is_err()
}

/// Until nothing more happens.
pub(crate) async fn quiet() {
    tokio::time::sleep(QUIET).await;
}

/// What a test did with Readys.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) messages: Vec<Message>,
    pub(crate) applied: Vec<Bytes>,
}

impl Carried {
    /// The entries of each append message that has some.
    pub(crate) fn appends(&self) -> Vec<Vec<Bytes>> {
        let entries = |message: &Message| match &message.body {
            Body::Append { entries, .. } if !entries.is_empty() => Some(data_of(entries)),
            _ => None,
        };
        self.messages.iter().filter_map(entries).collect()
    }

    pub(crate) fn heartbeats(&self) -> usize {
        let is_heartbeat = |message: &&Message| matches!(message.body, Body::Heartbeat { .. });
        self.messages.iter().filter(is_heartbeat).count()
    }
}

pub(crate) fn data_of(entries: &Entries) -> Vec<Bytes> {
    entries.iter().map(|entry| entry.data().clone()).collect()
}

/// Node 1, and a storage that the test writes to.
pub(crate) struct Fixture {
    pub(crate) node: Node,
    pub(crate) readys: Readys,
    pub(crate) storage: SharedStorage,
}

impl Fixture {
    pub(crate) fn start(voters: u64) -> Self {
        Self::start_with(voters, |_| {})
    }

    /// No pre-vote and no check of the quorum, so that a test that plays the
    /// other servers has little to say.
    pub(crate) fn start_with(voters: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let storage = memory_storage(voters);
        Self::start_on(storage.clone(), storage, configure)
    }

    /// With a storage that can break.
    pub(crate) fn start_faulty(voters: u64) -> (Self, FaultyStorage) {
        let storage = memory_storage(voters);
        let faulty = FaultyStorage::on(storage.clone());
        (Self::start_on(faulty.clone(), storage, |_| {}), faulty)
    }

    fn start_on<S: Storage + Send + 'static>(
        to_read: S,
        storage: SharedStorage,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            pre_vote: false,
            check_quorum: false,
            ..Config::protected(node_id(1))
        };
        configure(&mut config);
        let (node, readys) = Node::start(config, to_read).expect("the node starts");
        Self {
            node,
            readys,
            storage,
        }
    }

    /// Alone, and leading. No wait for a Ready was cancelled, so none is asked
    /// for.
    pub(crate) async fn leading_alone() -> Self {
        let mut fixture = Self::start(1);
        fixture.node.campaign().await.unwrap();
        loop {
            let ready = fixture.next().await;
            let carried = fixture.carry_out(ready);
            comes(fixture.node.advance()).await.unwrap();
            if !carried.applied.is_empty() {
                return fixture;
            }
        }
    }

    /// Leads a cluster of two; node 2 has what the leader has.
    pub(crate) async fn leading_two(configure: impl FnOnce(&mut Config)) -> Self {
        let mut fixture = Self::start_with(2, configure);
        fixture.lead_two().await;
        fixture
    }

    /// As [`leading_two`](Self::leading_two), on a storage that can break.
    pub(crate) async fn leading_two_faulty() -> (Self, FaultyStorage) {
        let (mut fixture, storage) = Self::start_faulty(2);
        fixture.lead_two().await;
        (fixture, storage)
    }

    async fn lead_two(&mut self) {
        self.node.campaign().await.unwrap();
        self.carry_out_all().await;
        let vote = Body::VoteResponse {
            round: Round::Vote,
            vote: VoteResponse::Granted,
        };
        self.hear(2, vote).await;
        self.carry_out_all().await;
        self.acknowledge(1).await;
        self.carry_out_all().await;
    }

    /// Follows node 2, in a cluster of two.
    pub(crate) async fn following() -> Self {
        let mut fixture = Self::start(2);
        fixture.hear_leader().await;
        fixture.carry_out_all().await;
        fixture
    }

    /// A message of term 1 to this node.
    pub(crate) async fn hear(&self, from: u64, body: Body) {
        self.node.step(message(from, body)).await.unwrap();
    }

    /// Node 2 says that it leads term 1.
    pub(crate) async fn hear_leader(&self) {
        let heartbeat = Body::Heartbeat {
            commit: LogIndex::ZERO,
            context: Bytes::new(),
        };
        self.hear(2, heartbeat).await;
    }

    /// Node 2 has the leader's log up to `index`.
    pub(crate) async fn acknowledge(&self, index: u64) {
        let matched = LogIndex::new(index);
        self.hear(
            2,
            Body::AppendResponse(AppendResponse::Accepted { matched }),
        )
        .await;
    }

    pub(crate) async fn next(&mut self) -> Ready {
        comes(self.readys.next()).await.expect("the node runs")
    }

    /// Whether there is no Ready, and there will be none.
    pub(crate) async fn has_no_ready(&mut self) -> bool {
        waits(std::pin::pin!(self.readys.next())).await
    }

    /// Does what `ready` says, but for advancing.
    pub(crate) fn carry_out(&self, ready: Ready) -> Carried {
        let mut carried = Carried {
            messages: ready.messages,
            applied: Vec::new(),
        };
        if let Some(mut append) = ready.append {
            let responses = std::mem::take(&mut append.responses);
            self.storage.write(append).expect("the log has no gap");
            for outcome in responses {
                match outcome {
                    AppendOutcome::Send(message) => carried.messages.push(message),
                    AppendOutcome::Receipt(receipt) => {
                        panic!("{receipt:?} with synchronous writes")
                    }
                }
            }
        }
        if let Some(apply) = ready.apply {
            carried.applied = data_of(&apply.entries);
        }
        carried
    }

    /// Carries out Readys until there is none.
    pub(crate) async fn carry_out_all(&mut self) -> Carried {
        let mut all = Carried::default();
        while let Ok(next) = tokio::time::timeout(QUIET, self.readys.next()).await {
            let carried = self.carry_out(next.expect("the node runs"));
            all.messages.extend(carried.messages);
            all.applied.extend(carried.applied);
            comes(self.node.advance()).await.unwrap();
        }
        all
    }

    pub(crate) async fn last_index(&self) -> LogIndex {
        comes(self.node.status()).await.unwrap().last_index
    }
}

/// A message to node 1, of term 1 if it has one.
pub(crate) fn message(from: u64, body: Body) -> Message {
    let term = if body.is_termless() {
        Term::ZERO
    } else {
        Term::new(1)
    };
    Message {
        to: node_id(1),
        from: node_id(from),
        term,
        body,
    }
}

fn memory_storage(voters: u64) -> SharedStorage {
    let voters = ConfState::of_voters((1..=voters).map(node_id));
    SharedStorage::new(MemoryStorage::with_conf_state(voters))
}

pub(crate) fn bytes(text: impl std::fmt::Display) -> Bytes {
    Bytes::from(text.to_string())
}

/// What a storage does when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Fail,
    Panic,
}

/// What the panics and failures of a [`FaultyStorage`] say.
pub(crate) const FAULT_TEXT: &str = "the test pulled the disk out";

/// A storage that breaks when it is told to.
#[derive(Clone, Debug)]
pub(crate) struct FaultyStorage {
    inner: SharedStorage,
    fault: Arc<Mutex<Fault>>,
}

impl FaultyStorage {
    fn on(inner: SharedStorage) -> Self {
        Self {
            inner,
            fault: Arc::new(Mutex::new(Fault::None)),
        }
    }

    pub(crate) fn breaks(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many have it: the test, and the node's task until it ends.
    pub(crate) fn owners(&self) -> usize {
        Arc::strong_count(&self.fault)
    }

    fn check(&self) -> Result<(), StorageError> {
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Fault::None => Ok(()),
            Fault::Fail => Err(StorageError::Failed(FAULT_TEXT.into())),
            Fault::Panic => panic!("{FAULT_TEXT}"),
        }
    }
}

impl Storage for FaultyStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.check()?;
        self.inner.initial_state()
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.check()?;
        self.inner.entries(low, high, bytes_max)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.check()?;
        self.inner.term(index)
    }

    fn first_index(&self) -> LogIndex {
        self.inner.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.inner.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.check()?;
        self.inner.snapshot()
    }
}

/// Everybody who can wait for a node that knows no leader. Each says why its
/// wait ended, when the node has.
pub(crate) fn everybody_who_waits(
    node: &Node,
    mut readys: Readys,
) -> Vec<(&'static str, JoinHandle<Stopped>)> {
    fn ended(outcome: Result<Proposed, NodeProposeError>) -> Stopped {
        match outcome {
            Err(NodeProposeError::Stopped(stopped)) => stopped,
            other => panic!("{other:?} instead of the end"),
        }
    }
    let (proposer, changer, stepper) = (node.clone(), node.clone(), node.clone());
    let (advancer, consumer) = (node.clone(), node.clone());
    vec![
        (
            "a proposal",
            tokio::spawn(async move { ended(proposer.propose(bytes("gated")).await) }),
        ),
        (
            "a configuration change",
            tokio::spawn(async move {
                let change = ConfChange::single(ConfChangeType::AddNode, node_id(7));
                ended(changer.propose_conf_change(&change).await)
            }),
        ),
        (
            "a peer's proposal",
            tokio::spawn(async move { stepper.step(forwarded("gated")).await.unwrap_err() }),
        ),
        (
            "an early advance",
            tokio::spawn(async move { advancer.advance().await.unwrap_err() }),
        ),
        (
            "the consumer of Readys",
            tokio::spawn(async move {
                let none = readys.next().await;
                assert!(none.is_none(), "{none:?}");
                consumer.status().await.unwrap_err()
            }),
        ),
    ]
}

/// A proposal that node 2 passes on.
pub(crate) fn forwarded(data: &str) -> Message {
    let proposals = vec![Proposal::normal(bytes(data))];
    message(2, Body::Propose { proposals })
}

/// An append of node 2, which leads term 1, behind `prev`.
pub(crate) fn append_after(prev: EntryId) -> Message {
    message(
        2,
        Body::Append {
            prev,
            entries: Entries::new(),
            commit: LogIndex::ZERO,
        },
    )
}
