//! # A cluster without clocks
//!
//! Servers, and a network whose messages wait until the test delivers, drops,
//! repeats or reorders them. After every input each server is checked and the
//! history looks at what it did.
//!
//! - Owns: the servers, the messages in flight, the cut links, the history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bytes::Bytes;
use raft_core::{
    Body, ConfChange, ConfState, Config, Entries, Entry, Halted, HardState, LogIndex,
    MemoryStorage, Message, NodeId, ProposeError, Proposed, RawNode, ReadIndexError, RoleKind,
    StepError, Term, VoteResult,
};

use super::server::bootstrapped;
use super::{Disk, History, Server, SlowStorage, id};

/// Servers and the network between them.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    servers: BTreeMap<NodeId, Server>,
    in_flight: Vec<Message>,
    cut: BTreeSet<(NodeId, NodeId)>,
    history: History,
    reads: u64,
}

impl Cluster {
    /// Voters 1 to `voters`, with the defaults.
    pub(crate) fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    /// Voters 1 to `voters`, configured by `choose`.
    pub(crate) fn with(voters: u64, choose: impl Fn(Config) -> Config) -> Self {
        let conf_state = ConfState::of_voters((1..=voters).map(id));
        let mut cluster = Self::default();
        for number in 1..=voters {
            let config = choose(Config::protected(id(number)));
            cluster.add(config, bootstrapped(conf_state.clone()));
        }
        cluster
    }

    /// Servers with the paper's protocol and logs of these terms, from index 1,
    /// all in the latest of the terms.
    pub(crate) fn of_logs<'a>(servers: u64, terms: impl Fn(u64) -> &'a [u64]) -> Self {
        let mut cluster = Self::default();
        let latest = (1..=servers).flat_map(|number| terms(number).iter()).max();
        let latest = latest.copied().unwrap_or(0);
        for number in 1..=servers {
            let conf_state = ConfState::of_voters((1..=servers).map(id));
            let mut storage = MemoryStorage::with_conf_state(conf_state);
            let terms = terms(number);
            let batch = (1..).zip(terms).map(|(at, number)| {
                let data = Bytes::copy_from_slice(&number.to_be_bytes());
                Entry::normal(Term::new(*number), LogIndex::new(at), data)
            });
            let entries = Entries::from_batch(batch.collect()).expect("in order");
            storage.append(entries).expect("the storage is empty");
            storage.set_hard_state(HardState {
                term: Term::new(latest),
                ..HardState::EMPTY
            });
            let config = Config {
                pre_vote: false,
                check_quorum: false,
                ..Config::protected(id(number))
            };
            cluster.add(config, storage);
        }
        cluster
    }

    /// Adds a server with this storage.
    pub(crate) fn add(&mut self, config: Config, storage: MemoryStorage) {
        self.servers.insert(config.id, Server::new(config, storage));
    }

    /// Adds a server that has never run, to be told everything by a leader.
    pub(crate) fn add_empty(&mut self, number: u64) {
        self.add(Config::protected(id(number)), MemoryStorage::new());
    }

    // ── looking ──────────────────────────────────────────────────────────────

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    pub(crate) fn server(&self, number: u64) -> &Server {
        self.servers
            .get(&id(number))
            .expect("there is such a server")
    }

    pub(crate) fn server_mut(&mut self, number: u64) -> &mut Server {
        self.servers
            .get_mut(&id(number))
            .expect("there is such a server")
    }

    pub(crate) fn node(&self, number: u64) -> &RawNode<SlowStorage> {
        self.server(number).node()
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    pub(crate) fn in_flight(&self) -> &[Message] {
        &self.in_flight
    }

    /// The server that leads the latest term, if one does.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.servers
            .values()
            .filter(|server| server.is_up())
            .map(Server::node)
            .filter(|node| node.role() == RoleKind::Leader)
            .max_by_key(|node| node.term())
            .map(RawNode::id)
    }

    /// Every server's status, for whoever reads a failure.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for server in self.servers.values().filter(|server| server.is_up()) {
            let (state, status) = (server.state(), server.node().status());
            writeln!(text, "{state:?} {status:?}").expect("a string takes everything");
        }
        text
    }

    /// Whether no voter can be elected because somebody whose vote it needs has
    /// a longer log, and has applied a configuration in which it does not vote.
    pub(crate) fn is_wedged_by_who_left(&self) -> bool {
        let up: Vec<&Server> = self.servers.values().filter(|s| s.is_up()).collect();
        let votes_itself =
            |server: &Server| server.node().membership().voters().contains(server.id());
        let can_win = |candidate: &Server, counts_who_left: bool| {
            let result = candidate.node().membership().voters().vote_result(|id| {
                let voter = up.iter().find(|server| server.id() == id)?;
                let left = counts_who_left && !votes_itself(voter);
                Some(left || candidate.last_id().is_up_to_date_with(voter.last_id()))
            });
            result == VoteResult::Won
        };
        let candidates = || up.iter().filter(|server| votes_itself(server));
        !candidates().any(|server| can_win(server, false))
            && candidates().any(|server| can_win(server, true))
    }

    // ── input ────────────────────────────────────────────────────────────────

    /// Does something to a server, and sends what comes of it.
    pub(crate) fn with_node<T>(
        &mut self,
        number: u64,
        action: impl FnOnce(&mut RawNode<SlowStorage>) -> T,
    ) -> T {
        let result = action(self.server_mut(number).node_mut());
        self.pump(number);
        result
    }

    pub(crate) fn pump(&mut self, number: u64) {
        let server = self
            .servers
            .get_mut(&id(number))
            .expect("there is such a server");
        let messages = server.pump(&mut self.history);
        self.in_flight.extend(messages);
    }

    pub(crate) fn campaign(&mut self, number: u64) {
        self.with_node(number, RawNode::campaign)
            .expect("the node is alive");
    }

    /// Lets `ticks` ticks pass on one server.
    pub(crate) fn tick(&mut self, number: u64, ticks: u32) {
        for _ in 0..ticks {
            self.with_node(number, RawNode::tick)
                .expect("the node is alive");
        }
    }

    pub(crate) fn propose(&mut self, number: u64, data: Bytes) -> Result<Proposed, ProposeError> {
        self.with_node(number, |node| node.propose(data))
    }

    pub(crate) fn change(
        &mut self,
        number: u64,
        change: &ConfChange,
    ) -> Result<Proposed, ProposeError> {
        self.with_node(number, |node| node.propose_conf_change(change))
    }

    /// Asks to read, with a context of its own.
    pub(crate) fn read(&mut self, number: u64) -> Result<Bytes, ReadIndexError> {
        self.reads += 1;
        let context = Bytes::copy_from_slice(&self.reads.to_be_bytes());
        self.history.asks_to_read(context.clone());
        self.with_node(number, |node| node.read_index(context.clone()))
            .map(|()| context)
    }

    pub(crate) fn transfer(&mut self, number: u64, to: u64) -> Result<(), Halted> {
        self.with_node(number, |node| node.transfer_leadership(id(to)))
    }

    /// Completes one write of a server whose disk is held.
    pub(crate) fn complete_write(&mut self, number: u64) {
        let mut out = Vec::new();
        self.servers
            .get_mut(&id(number))
            .expect("there is such a server")
            .complete_write(&mut self.history, &mut out);
        self.in_flight.extend(out);
        self.pump(number);
    }

    /// Completes one read of entries that a server had not at hand: whether there
    /// was one.
    pub(crate) fn complete_read(&mut self, number: u64, count: u64) -> bool {
        let completed = self.server_mut(number).complete_read(count);
        if completed {
            self.pump(number);
        }
        completed
    }

    /// Completes one application of a server whose disk is held.
    pub(crate) fn complete_apply(&mut self, number: u64) {
        self.servers
            .get_mut(&id(number))
            .expect("there is such a server")
            .complete_apply(&mut self.history);
        self.pump(number);
    }

    /// Lets the disk of a server work at once from now on, and catch up.
    pub(crate) fn release_disk(&mut self, number: u64) {
        self.server_mut(number).hold_disk(Disk::Instant);
        self.pump(number);
    }

    /// A server stops; of the writes under way `completed` reach its disk.
    pub(crate) fn crash_after(&mut self, number: u64, completed: usize) {
        self.server_mut(number).crash(completed);
    }

    pub(crate) fn crash(&mut self, number: u64) {
        self.crash_after(number, 0);
    }

    pub(crate) fn restart(&mut self, number: u64) {
        self.server_mut(number).start();
        self.pump(number);
    }

    // ── network ──────────────────────────────────────────────────────────────

    /// Cuts all links between `some` and `others`, in both directions.
    pub(crate) fn partition(&mut self, some: &[u64], others: &[u64]) {
        for a in some {
            for b in others {
                self.cut.insert((id(*a), id(*b)));
                self.cut.insert((id(*b), id(*a)));
            }
        }
    }

    /// Cuts the link from one server to another, in this direction only.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((id(from), id(to)));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.in_flight.push(message);
    }

    /// Takes the message at `place` off the network.
    pub(crate) fn take_at(&mut self, place: usize) -> Message {
        self.in_flight.remove(place)
    }

    /// Takes the messages that `wanted` describes off the network.
    pub(crate) fn take(&mut self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let (taken, rest) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|message| wanted(message));
        self.in_flight = rest;
        taken
    }

    /// Delivers one message, unless its link is cut or its receiver is down.
    /// Correct servers never accuse each other.
    pub(crate) fn deliver(&mut self, message: Message) {
        // A forwarded message comes from whoever forwards it; the link of the
        // first sender stands for it.
        if self.cut.contains(&(message.from, message.to)) {
            return;
        }
        let Some(server) = self.servers.get_mut(&message.to) else {
            return;
        };
        if !server.is_up() {
            return;
        }
        let number = message.to.get();
        match server.node_mut().step(message) {
            Ok(()) | Err(StepError::PeerNotFound(_) | StepError::Propose(_)) => {}
            Err(error) => panic!("{number} refused a correct server: {error}"),
        }
        self.pump(number);
    }

    /// Delivers everything in the order in which it was sent, and what comes of
    /// it, until the network is empty.
    pub(crate) fn deliver_all(&mut self) {
        for _ in 0..10_000 {
            if self.in_flight.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.in_flight) {
                self.deliver(message);
            }
        }
        panic!("the network never becomes silent");
    }

    /// Ticks every server and delivers everything, `rounds` times.
    pub(crate) fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            for server in self.ids() {
                if self.server(server.get()).is_up() {
                    self.tick(server.get(), 1);
                }
            }
            self.deliver_all();
        }
    }

    /// Makes a server the leader.
    pub(crate) fn elect(&mut self, number: u64) {
        self.campaign(number);
        self.deliver_all();
        assert_eq!(
            self.node(number).role(),
            RoleKind::Leader,
            "server {number} was to be elected"
        );
    }

    /// Makes a server the leader by the votes of whoever it can reach. Nothing that
    /// it says as the leader is delivered.
    pub(crate) fn elect_unheard(&mut self, number: u64) {
        self.campaign(number);
        for request in self.take(|_| true) {
            self.deliver(request);
        }
        for vote in self.take(|message| message.to == id(number)) {
            self.deliver(vote);
        }
        assert_eq!(
            self.node(number).role(),
            RoleKind::Leader,
            "server {number} was to be elected"
        );
    }

    /// Makes a server the leader although its followers hear of another one.
    pub(crate) fn elect_again(&mut self, number: u64) {
        for server in self.ids() {
            self.with_node(server.get(), RawNode::forget_leader);
        }
        self.elect(number);
    }

    /// Lets time pass until somebody leads.
    pub(crate) fn elect_somebody(&mut self) {
        for _ in 0..300 {
            if self.leader().is_some() {
                return;
            }
            self.run(1);
        }
        panic!("nobody is elected:\n{}", self.describe());
    }

    /// Restarts a server with another configuration.
    pub(crate) fn reconfigure(&mut self, number: u64, choose: impl Fn(Config) -> Config) {
        self.crash(number);
        self.server_mut(number).choose(choose);
        self.restart(number);
    }

    /// Whether a message of this kind is on its way.
    pub(crate) fn is_sending(&self, wanted: impl Fn(&Body) -> bool) -> bool {
        self.in_flight.iter().any(|message| wanted(&message.body))
    }
}
