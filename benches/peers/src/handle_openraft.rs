//! # openraft under the handle load
//!
//! In the manner of its own minimal benchmark: a log in a `BTreeMap`, a state
//! machine without data, calls instead of a network, and that benchmark's
//! configuration.
//!
//! - Owns: a log, a state machine and a router for openraft.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, RemoteError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::{self, EmptyNode};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::vote::RaftLeaderId;
use openraft::{
    Config, EntryPayload, OptionalSend, Raft, RaftTypeConfig, SnapshotMeta, StoredMembership,
};

use crate::handle_load::{Client, Layout, PAYLOAD, Runtimes};

#[derive(Clone, Debug)]
pub struct Command(pub Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.len())
    }
}

#[derive(Clone, Debug)]
pub struct Done;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = Done;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, EmptyNode>;
    type Entry = impls::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type Responder<T>
        = impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type ErrorSource = impls::BoxedErrorSource;
}

type OpenRaft = Raft<Types, Machine>;
type Entry = <Types as RaftTypeConfig>::Entry;

#[derive(Clone, Default)]
struct Log(Arc<RwLock<LogContent>>);

#[derive(Default)]
struct LogContent {
    vote: Option<VoteOf<Types>>,
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogIdOf<Types>>,
}

impl Log {
    fn with<T>(&self, change: impl FnOnce(&mut LogContent) -> T) -> T {
        change(&mut self.0.write().expect("no panic while it is locked"))
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let content = self.0.read().expect("no panic while it is locked");
        Ok(content
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(self.with(|content| content.vote))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.with(|content| LogState {
            last_purged_log_id: content.purged,
            last_log_id: content
                .entries
                .values()
                .next_back()
                .map(RaftEntry::log_id)
                .or(content.purged),
        }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        self.with(|content| content.vote = Some(*vote));
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.with(|content| {
            content
                .entries
                .extend(entries.into_iter().map(|entry| (entry.index(), entry)));
        });
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index() + 1);
        self.with(|content| content.entries.split_off(&from));
        Ok(())
    }

    async fn purge(&mut self, id: LogIdOf<Types>) -> Result<(), io::Error> {
        self.with(|content| {
            content.purged = Some(id);
            content.entries = content.entries.split_off(&(id.index() + 1));
        });
        Ok(())
    }
}

/// Remembers how far it is, and nothing else.
#[derive(Clone, Default)]
struct Machine {
    state: Arc<Mutex<MachineState>>,
}

#[derive(Clone, Default)]
struct MachineState {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
}

impl Machine {
    fn with<T>(&self, change: impl FnOnce(&mut MachineState) -> T) -> T {
        change(&mut self.state.lock().expect("no panic while it is locked"))
    }

    fn snapshot(&self) -> SnapshotOf<Types, ()> {
        self.with(|state| SnapshotOf::<Types, ()> {
            meta: SnapshotMeta {
                last_log_id: state.applied,
                last_membership: state.membership.clone(),
            },
            snapshot: (),
        })
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, ()>, io::Error> {
        Ok(self.snapshot())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        Ok(self.with(|state| (state.applied, state.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut applied = None;
        while let Some((entry, responder)) = entries.try_next().await? {
            applied = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                let membership = StoredMembership::new(applied, members);
                self.with(|state| state.membership = membership);
            }
            if let Some(responder) = responder {
                responder.send(Done);
            }
        }
        self.with(|state| state.applied = applied.or(state.applied));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        _snapshot: (),
    ) -> Result<(), io::Error> {
        self.with(|state| {
            state.applied = meta.last_log_id;
            state.membership = meta.last_membership.clone();
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, ()>>, io::Error> {
        Ok(Some(self.snapshot()))
    }
}

#[derive(Clone, Default)]
struct Router(Arc<Mutex<BTreeMap<u64, OpenRaft>>>);

impl Router {
    fn raft(&self, id: u64) -> Option<OpenRaft> {
        let table = self.0.lock().expect("no panic while it is locked");
        table.get(&id).cloned()
    }
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Line;

    async fn new_client(&mut self, to: u64, _node: &EmptyNode) -> Line {
        Line {
            to,
            raft: self.raft(to).expect("it was started"),
        }
    }
}

/// Direct calls to one replica.
struct Line {
    to: u64,
    raft: OpenRaft,
}

impl RaftNetworkV2<Types> for Line {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.raft
            .append_entries(request)
            .await
            .map_err(|error| Unreachable::new(&RemoteError::<Types, _>::new(self.to, error)).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.raft
            .vote(request)
            .await
            .map_err(|error| Unreachable::new(&RemoteError::<Types, _>::new(self.to, error)).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        self.raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }
}

impl Client for OpenRaft {
    async fn command(&self) {
        self.client_write(Command(PAYLOAD))
            .await
            .expect("it is committed");
    }
}

async fn start(members: u64) -> Vec<OpenRaft> {
    let config = Config {
        election_timeout_min: 200,
        election_timeout_max: 2000,
        purge_batch_size: 1024,
        max_payload_entries: 1024,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("a configuration"));
    let router = Router::default();
    let ids: BTreeSet<u64> = (0..members).collect();
    let mut rafts = Vec::new();
    for id in &ids {
        let machine = Machine::default();
        let raft = Raft::new(*id, config.clone(), router.clone(), Log::default(), machine)
            .await
            .expect("the replica starts");
        router
            .0
            .lock()
            .expect("no panic while it is locked")
            .insert(*id, raft.clone());
        rafts.push(raft);
    }
    rafts[0].initialize(ids).await.expect("it initializes");
    for raft in &rafts {
        raft.wait(Some(Duration::from_secs(10)))
            .applied_index_at_least(Some(1), "a leader")
            .await
            .expect("a leader is elected");
    }
    rafts
}

pub fn measure(layout: Layout, members: u64, clients: usize, time: Duration) -> f64 {
    let runtimes = Runtimes::new(layout);
    let rafts = runtimes
        .servers
        .block_on(runtimes.servers.spawn(start(members)))
        .expect("a cluster");
    let rate = runtimes.drive(clients, time, &rafts[0]);
    runtimes.servers.block_on(async {
        for raft in rafts {
            raft.shutdown().await.expect("it stops");
        }
    });
    rate
}
