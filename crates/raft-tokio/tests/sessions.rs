//! Commands that are tried again are applied once, on every replica alike.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesOrdered, StreamExt};
use raft_tokio::sessions::{SessionCommand, SessionReply, WINDOW_MAX};
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, MemoryNetwork, Raft, RaftConfig, SessionClient,
    SessionError, SessionId, SessionLimits, SessionPipeline, Sessions, SnapshotJob, SnapshotReader,
    StateMachine,
};
use support::{Journal, node_id};

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine that a test can look into while a replica uses it.
#[derive(Clone)]
struct Glass(Arc<Mutex<Sessions<Journal>>>);

impl Glass {
    fn new(limits: SessionLimits) -> Self {
        let machine = Sessions::new(Journal::default(), limits);
        Self(Arc::new(Mutex::new(machine)))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Sessions<Journal>) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// Everything in it, as bytes.
    fn state(&self) -> Bytes {
        self.with(StateMachine::snapshot).into_bytes().unwrap()
    }

    fn set_state(&mut self, state: Bytes) -> Result<(), BoxError> {
        self.restore(&mut SnapshotReader::of_bytes(state))
    }

    fn step(&mut self, index: u64, command: &SessionCommand) -> SessionReply {
        let reply = self.apply(LogIndex::new(index), &command.encode());
        SessionReply::decode(reply).unwrap()
    }

    fn open(&mut self, index: u64) -> SessionId {
        match self.step(index, &SessionCommand::Open) {
            SessionReply::Opened(session) => session,
            reply => panic!("{reply:?}"),
        }
    }
}

impl StateMachine for Glass {
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Bytes {
        self.with(|machine| machine.apply(index, command))
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.with(|machine| machine.query(query))
    }

    fn snapshot(&mut self) -> SnapshotJob {
        self.with(StateMachine::snapshot)
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.with(|machine| machine.restore(snapshot))
    }
}

/// The command of a client that has one under way.
fn in_session(session: SessionId, sequence: u64, command: &'static str) -> SessionCommand {
    under_way(session, sequence, sequence.saturating_sub(1), command)
}

/// The command of a client that still waits for what is behind `acknowledged`.
fn under_way(
    session: SessionId,
    sequence: u64,
    acknowledged: u64,
    command: &'static str,
) -> SessionCommand {
    SessionCommand::InSession {
        session,
        sequence,
        acknowledged,
        command: Bytes::from_static(command.as_bytes()),
    }
}

fn applied(reply: &'static str) -> SessionReply {
    SessionReply::Applied(Bytes::from_static(reply.as_bytes()))
}

#[test]
fn a_repeated_command_gets_the_first_reply_and_an_old_one_none() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    assert_eq!(
        machine.step(3, &in_session(session, 1, "a")),
        applied("1:a")
    );
    assert_eq!(
        machine.step(4, &in_session(session, 1, "a")),
        applied("1:a")
    );
    // A gap: the client gave up on 2.
    assert_eq!(
        machine.step(5, &in_session(session, 3, "b")),
        applied("2:b")
    );
    let too_old = SessionReply::TooOld { applied: 3 };
    for sequence in [1, 2] {
        let late = in_session(session, sequence, "late");
        assert_eq!(machine.step(6 + sequence, &late), too_old);
    }
    assert_eq!(machine.query(&Bytes::new()), "2");
}

#[test]
fn a_number_of_zero_is_no_number() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    let reply = machine.step(3, &in_session(session, 0, "a"));
    assert_eq!(reply, SessionReply::Malformed);
}

#[test]
fn commands_that_are_under_way_together_are_applied_in_order_and_remembered() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    let second = under_way(session, 2, 0, "b");
    let early = SessionReply::TooEarly { applied: 0 };
    assert_eq!(machine.step(3, &second), early);
    let first = under_way(session, 1, 0, "a");
    assert_eq!(machine.step(4, &first), applied("1:a"));
    assert_eq!(machine.step(5, &second), applied("2:b"));
    let third = under_way(session, 3, 0, "c");
    assert_eq!(machine.step(6, &third), applied("3:c"));
    for (index, command, reply) in [(7, &second, "2:b"), (8, &first, "1:a"), (9, &third, "3:c")] {
        assert_eq!(machine.step(index, command), applied(reply));
    }
    // The client has the replies of the first two.
    let fourth = under_way(session, 4, 2, "d");
    assert_eq!(machine.step(10, &fourth), applied("4:d"));
    assert_eq!(
        machine.step(11, &second),
        SessionReply::TooOld { applied: 4 }
    );
    assert_eq!(machine.step(12, &third), applied("3:c"));
    assert_eq!(machine.query(&Bytes::new()), "4");
}

#[test]
fn what_was_given_up_is_never_applied_later() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    // The first was lost, and its client has stopped waiting.
    assert_eq!(
        machine.step(3, &under_way(session, 2, 1, "b")),
        applied("1:b")
    );
    let too_old = SessionReply::TooOld { applied: 2 };
    assert_eq!(machine.step(4, &under_way(session, 1, 0, "a")), too_old);
    // Even if that is learned from a command that is not taken itself.
    let early = SessionReply::TooEarly { applied: 4 };
    assert_eq!(machine.step(5, &under_way(session, 6, 4, "f")), early);
    let too_old = SessionReply::TooOld { applied: 4 };
    assert_eq!(machine.step(6, &under_way(session, 3, 2, "c")), too_old);
    assert_eq!(machine.query(&Bytes::new()), "1");
}

#[test]
fn a_client_that_acknowledges_nothing_is_stopped_at_the_window() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    for sequence in 1..=WINDOW_MAX {
        let reply = machine.step(2 + sequence, &under_way(session, sequence, 0, "x"));
        assert!(matches!(reply, SessionReply::Applied(_)), "{reply:?}");
    }
    let beyond = WINDOW_MAX + 1;
    let early = SessionReply::TooEarly {
        applied: WINDOW_MAX,
    };
    assert_eq!(
        machine.step(1000, &under_way(session, beyond, 0, "x")),
        early
    );
    let reply = machine.step(1001, &under_way(session, beyond, 1, "x"));
    assert!(matches!(reply, SessionReply::Applied(_)), "{reply:?}");
}

#[test]
fn commands_without_a_session_or_of_an_unknown_one_are_told_apart() {
    let mut machine = Glass::new(SessionLimits::default());
    let plain = SessionCommand::Plain(Bytes::from_static(b"p"));
    assert_eq!(machine.step(2, &plain), applied("1:p"));
    assert_eq!(machine.step(3, &plain), applied("2:p"));
    let stranger = in_session(SessionId::new(99), 1, "x");
    assert_eq!(machine.step(4, &stranger), SessionReply::UnknownSession);
    let session = machine.open(5);
    assert_eq!(
        machine.step(6, &SessionCommand::Close(session)),
        SessionReply::Closed
    );
    let late = in_session(session, 1, "x");
    assert_eq!(machine.step(7, &late), SessionReply::UnknownSession);
    for garbage in [&b""[..], b"x\x01", b"x\x02", b"\x03", b"\x09", b"x\xf8"] {
        let reply = machine.apply(LogIndex::new(8), &Bytes::from_static(garbage));
        assert_eq!(SessionReply::decode(reply), Some(SessionReply::Malformed));
    }
    assert_eq!(machine.query(&Bytes::new()), "2");
}

#[test]
fn a_session_is_forgotten_when_it_was_idle_or_when_there_are_too_many() {
    let mut machine = Glass::new(SessionLimits {
        sessions_max: 2,
        idle_entries_max: 10,
        reply_bytes_max: 1000,
    });
    let idle = machine.open(2);
    let busy = machine.open(3);
    assert_eq!(machine.step(11, &in_session(busy, 1, "a")), applied("1:a"));
    assert_eq!(machine.step(12, &in_session(idle, 1, "b")), applied("2:b"));
    assert_eq!(
        machine.step(23, &in_session(idle, 2, "c")),
        SessionReply::UnknownSession
    );
    assert_eq!(machine.with(|machine| machine.len()), 0);
    let (first, second, third) = (machine.open(24), machine.open(25), machine.open(26));
    assert_eq!(
        machine.step(27, &in_session(first, 1, "d")),
        SessionReply::UnknownSession
    );
    assert_eq!(
        machine.step(28, &in_session(second, 1, "d")),
        applied("3:d")
    );
    assert_eq!(machine.step(29, &in_session(third, 1, "e")), applied("4:e"));
}

#[test]
fn large_replies_push_out_the_sessions_that_were_quiet_longest() {
    let mut machine = Glass::new(SessionLimits {
        reply_bytes_max: 10,
        ..SessionLimits::default()
    });
    let (first, second) = (machine.open(2), machine.open(3));
    assert_eq!(
        machine.step(4, &in_session(first, 1, "12345")),
        applied("1:12345")
    );
    assert_eq!(
        machine.step(5, &in_session(second, 1, "67890")),
        applied("2:67890")
    );
    let again = in_session(second, 1, "67890");
    assert_eq!(machine.step(6, &again), applied("2:67890"));
    let gone = in_session(first, 1, "12345");
    assert_eq!(machine.step(7, &gone), SessionReply::UnknownSession);
}

#[test]
fn a_replica_that_began_from_a_snapshot_has_the_same_state_ever_after() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let limits = SessionLimits {
        sessions_max: 5,
        idle_entries_max: 40,
        reply_bytes_max: 30,
    };
    let mut one = Glass::new(limits);
    let mut other = one.clone();
    for index in 2..2_000_u64 {
        if random.u8(..) < 8 {
            // With other limits, as if somebody had changed the program.
            other = Glass::new(SessionLimits::default());
            other.set_state(one.state()).unwrap();
        }
        let session = SessionId::new(random.u64(index.saturating_sub(60)..=index));
        let command = match random.u8(0..10) {
            0 | 1 => SessionCommand::Open,
            2 => SessionCommand::Close(session),
            _ => {
                let sequence = random.u64(1..8);
                under_way(session, sequence, random.u64(0..sequence), "x")
            }
        };
        let other_is_same = Arc::ptr_eq(&one.0, &other.0);
        let reply = one.step(index, &command);
        if !other_is_same {
            assert_eq!(other.step(index, &command), reply, "at {index}");
            assert_eq!(other.state(), one.state(), "at {index}");
        }
        assert!(one.with(|machine| machine.len()) <= 5);
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    machine.step(3, &in_session(session, 1, "a"));
    let state = machine.state();
    for len in 0..state.len() - 1 {
        // The tail belongs to the wrapped machine, which takes any.
        let cut = state.slice(..len);
        if len < state.len() - "a".len() {
            assert!(machine.set_state(cut).is_err(), "{len} bytes");
            assert_eq!(machine.state(), state);
        }
    }
    let mut many = state.to_vec();
    many[25..33].fill(0xff);
    assert!(machine.set_state(many.into()).is_err());
}

struct Group {
    network: MemoryNetwork,
    replicas: Vec<Replica>,
    limits: SessionLimits,
}

struct Replica {
    raft: Raft,
    glass: Glass,
    store: MemoryLogStore,
}

impl Group {
    async fn start(limits: SessionLimits) -> Self {
        let mut group = Self {
            network: MemoryNetwork::new(),
            replicas: Vec::new(),
            limits,
        };
        for id in 1..=3 {
            let replica = group.spawn(id, MemoryLogStore::new()).await;
            group.replicas.push(replica);
        }
        group
    }

    async fn spawn(&self, id: u64, store: MemoryLogStore) -> Replica {
        let config = RaftConfig {
            snapshot_entries: 10,
            snapshot_keep_entries: 2,
            seed: id,
            ..RaftConfig::new(node_id(id), (1..=3).map(node_id).collect())
        };
        let glass = Glass::new(self.limits);
        let transport = self.network.join(node_id(id));
        let raft = Raft::start(config, glass.clone(), store.clone(), transport)
            .await
            .unwrap();
        Replica { raft, glass, store }
    }

    /// Stops every replica, and starts it with what it had stored.
    async fn restart(&mut self) {
        for replica in &self.replicas {
            replica.raft.shutdown().await;
        }
        for at in 0..self.replicas.len() {
            let id = self.replicas[at].raft.id().get();
            let store = self.replicas[at].store.clone();
            self.replicas[at] = self.spawn(id, store).await;
        }
    }

    async fn leader(&self) -> Raft {
        let status = self.replicas[0]
            .raft
            .wait_for(|status| status.leader.is_some())
            .await
            .unwrap();
        let leader = status.leader.unwrap();
        let replica = self
            .replicas
            .iter()
            .find(|replica| replica.raft.id() == leader);
        replica.unwrap().raft.clone()
    }

    async fn follower(&self) -> Raft {
        let leader = self.leader().await;
        let mut replicas = self.replicas.iter().map(|replica| &replica.raft);
        replicas
            .find(|raft| raft.id() != leader.id())
            .unwrap()
            .clone()
    }

    /// Waits until every replica has applied what one has now.
    async fn agree(&self) {
        let mut highest = LogIndex::ZERO;
        for replica in &self.replicas {
            highest = highest.max(replica.raft.read().await.unwrap());
        }
        for replica in &self.replicas {
            replica
                .raft
                .wait_for(|status| status.applied >= highest)
                .await
                .unwrap();
        }
        let first = self.replicas[0].glass.state();
        for replica in &self.replicas {
            assert_eq!(replica.glass.state(), first);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_lost_is_given_again_and_the_command_is_applied_once() {
    let group = Group::start(SessionLimits::default()).await;
    let leader = group.leader().await;
    let follower = group.follower().await;
    let mut client = SessionClient::open(follower.clone(), PATIENCE)
        .await
        .unwrap();
    let before = leader.read().await.unwrap();
    // The command gets through; its reply does not.
    group.network.cut(leader.id(), follower.id());
    let proposal = tokio::spawn(async move { client.propose("x").await });
    leader
        .wait_for(|status| status.applied > before)
        .await
        .unwrap();
    assert_eq!(leader.query("len").await.unwrap(), "1");
    tokio::time::sleep(Duration::from_secs(8)).await;
    group.network.heal();
    let applied = proposal.await.unwrap().unwrap();
    assert_eq!(applied.reply, "1:x");
    // It stands in the log twice.
    assert!(applied.index > before.next());
    assert_eq!(follower.query("len").await.unwrap(), "1");
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn commands_go_on_exactly_once_while_leaders_come_and_go() {
    let group = Group::start(SessionLimits::default()).await;
    group.leader().await;
    let mut clients = Vec::new();
    for replica in &group.replicas {
        let raft = replica.raft.clone();
        clients.push(tokio::spawn(async move {
            let mut client = SessionClient::open(raft, PATIENCE).await.unwrap();
            for n in 0..200 {
                client.propose(format!("{n}")).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        group.network.isolate(group.leader().await.id());
        tokio::time::sleep(Duration::from_secs(4)).await;
        group.network.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(group.leader().await.query("len").await.unwrap(), "600");
    group.agree().await;
}

fn command(client: usize, number: u32) -> BytesMut {
    BytesMut::from(format!("{client}/{number}").as_str())
}

/// What a pipeline that numbers its commands has in the state machine: its own
/// commands, in order.
fn commands_of(all: &Bytes, client: usize) -> Vec<u32> {
    let prefix = format!("{client}/");
    let all = std::str::from_utf8(all).unwrap();
    let own = all.lines().filter_map(|line| line.strip_prefix(&prefix));
    own.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn pipelines_keep_their_order_exactly_once_while_leaders_come_and_go() {
    let group = Group::start(SessionLimits::default()).await;
    group.leader().await;
    let mut clients = Vec::new();
    for (client, replica) in group.replicas.iter().enumerate() {
        let pipeline = SessionPipeline::new(replica.raft.clone(), PATIENCE);
        clients.push(tokio::spawn(async move {
            let mut under_way = FuturesOrdered::new();
            for number in 0..400 {
                under_way.push_back(pipeline.propose(command(client, number)));
                while under_way.len() >= 16 {
                    under_way.next().await.unwrap().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            while let Some(outcome) = under_way.next().await {
                outcome.unwrap();
            }
        }));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        group.network.isolate(group.leader().await.id());
        tokio::time::sleep(Duration::from_secs(4)).await;
        group.network.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    let all = group.leader().await.query("all").await.unwrap();
    for client in 0..3 {
        assert_eq!(commands_of(&all, client), (0..400).collect::<Vec<_>>());
    }
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_given_up_holds_up_nobody_and_does_not_come_later() {
    let group = Group::start(SessionLimits::default()).await;
    let leader = group.leader().await;
    let pipeline = SessionPipeline::new(leader.clone(), Duration::from_secs(20));
    pipeline.propose("a".into()).await.unwrap();
    group.network.isolate(leader.id());
    // Dropped while it is under way, and never polled.
    let dropped = tokio::time::timeout(Duration::from_secs(1), pipeline.propose("b".into())).await;
    assert!(dropped.is_err());
    drop(pipeline.propose("c".into()));
    let given_up = pipeline.propose("d".into()).await.unwrap_err();
    assert!(given_up.is_indeterminate(), "{given_up:?}");
    group.network.heal();
    let applied = pipeline.propose("e".into()).await.unwrap();
    let before = leader.query("all").await.unwrap();
    assert!(before.ends_with(b"e"), "{before:?}");
    assert!(applied.reply.ends_with(b":e"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(leader.query("all").await.unwrap(), before);
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_opens_another_session_when_its_own_has_expired() {
    let group = Group::start(SessionLimits {
        sessions_max: 2,
        ..SessionLimits::default()
    })
    .await;
    let raft = group.leader().await;
    let pipelines = [(); 3].map(|()| SessionPipeline::new(raft.clone(), PATIENCE));
    for round in 0..5_u32 {
        for (client, pipeline) in pipelines.iter().enumerate() {
            let (first, second) = tokio::join!(
                pipeline.propose(command(client, 2 * round)),
                pipeline.propose(command(client, 2 * round + 1)),
            );
            first.unwrap();
            second.unwrap();
        }
    }
    let all = raft.query("all").await.unwrap();
    for client in 0..3 {
        assert_eq!(commands_of(&all, client), (0..10).collect::<Vec<_>>());
    }
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_reply_survives_a_snapshot_and_a_restart() {
    let mut group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    client.propose("x").await.unwrap();
    let mut others = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    for _ in 0..30 {
        others.propose("y").await.unwrap();
    }
    raft.wait_for(|status| status.first_index.get() > 10)
        .await
        .unwrap();
    group.agree().await;
    group.restart().await;
    let raft = group.leader().await;
    client.set_raft(raft.clone());
    assert_eq!(client.retry("x").await.unwrap().reply, "1:x");
    assert_eq!(raft.query("len").await.unwrap(), "31");
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn every_replica_forgets_the_same_sessions() {
    let group = Group::start(SessionLimits {
        sessions_max: 3,
        idle_entries_max: 20,
        reply_bytes_max: 1000,
    })
    .await;
    let raft = group.leader().await;
    let mut first = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    first.propose("x").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
        client.propose("y").await.unwrap();
        clients.push(client);
        group.agree().await;
    }
    assert_eq!(first.propose("z").await, Err(SessionError::Expired));
    assert_eq!(first.retry("z").await, Err(SessionError::ExpiredMeanwhile));
    clients.pop().unwrap().close().await.unwrap();
    group.agree().await;
    assert_eq!(group.replicas[0].glass.with(|machine| machine.len()), 2);
    assert_eq!(raft.query("len").await.unwrap(), "6");
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_session_are_noticed() {
    let group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), PATIENCE).await.unwrap();
    client.propose("a").await.unwrap();
    client.propose("b").await.unwrap();
    let mut copy = SessionClient::resume(raft, client.session(), 0, PATIENCE);
    let outcome = copy.propose("c").await;
    assert_eq!(outcome, Err(SessionError::TooOld { applied: 2 }));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_the_client_gives_up_and_says_that_it_does_not_know() {
    let group = Group::start(SessionLimits::default()).await;
    let raft = group.leader().await;
    let mut client = SessionClient::open(raft.clone(), Duration::from_secs(20))
        .await
        .unwrap();
    group.network.isolate(raft.id());
    let outcome = client.propose("x").await.unwrap_err();
    assert!(outcome.is_indeterminate(), "{outcome:?}");
    group.network.heal();
    // Going on fences what was given up.
    assert!(client.propose("y").await.unwrap().reply.ends_with(b":y"));
    raft.shutdown().await;
    // A replica that has stopped took nothing; it is no use to ask it again.
    let outcome = client.propose("z").await.unwrap_err();
    assert!(!outcome.is_indeterminate(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_sessions_is_noticed() {
    let network = MemoryNetwork::new();
    let id = node_id(1);
    let config = RaftConfig::new(id, vec![id]);
    let raft = Raft::start(
        config,
        Journal::default(),
        MemoryLogStore::new(),
        network.join(id),
    )
    .await
    .unwrap();
    let outcome = SessionClient::open(raft.clone(), PATIENCE).await;
    assert_eq!(outcome.map(|_| ()), Err(SessionError::NoSessions));
    let pipeline = SessionPipeline::new(raft, PATIENCE);
    let outcome = pipeline.propose("a".into()).await;
    assert_eq!(outcome, Err(SessionError::NoSessions));
}
