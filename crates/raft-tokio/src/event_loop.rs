//! # The event loop
//!
//! One spawned task, one `select!`. What may come in depends on the state, and
//! the loop says so the way etcd's `node.run` does with nil channels: a channel
//! that is closed for now is a `None`, and its branch never completes.
//!
//! | channel | is `Some` while |
//! |---|---|
//! | `propc` | somebody leads, this node was not removed, and the host has room |
//! | `readyc` | something is ready, and no Ready is being carried out |
//! | `advancec` | a Ready is being carried out (never with asynchronous writes) |
//! | idleness | the host keeps something back until there is nothing else to do |
//! | all others | always |
//!
//! Each gate is a function of the state, looked at in every turn. (etcd moves
//! its gates at certain edges, and misses some: a node that was removed and
//! added again under the same leader takes no proposals there.)
//!
//! Two hosts share the loop: [`Node`](crate::Node), which hands Readys to its
//! user, and the replica behind [`Raft`](crate::Raft), which carries them out
//! itself, in the same task.
//!
//! # Cancel safety
//! Every branch is a channel receive or a timer, and loses nothing when another
//! branch wins. The only other await lets tasks run that were ready before. While
//! the node is stepped, the task runs through.
//!
//! # Wakes
//! A wake of another thread costs more than everything that a turn does. So what
//! the loop itself gives rise to goes through no channel that would wake it, and a
//! turn takes what is there with a waker that does nothing. The task's own is
//! registered only before it sleeps, and stays there if nothing else is to come. What
//! seldom comes is behind a doorbell, and polled only when that has rung.
//!
//! # Batches
//! The first of many clients that wakes the loop would get an append of its own,
//! since a runtime runs a task that was just woken before those that wait; and so
//! would everybody after it, since the answers of peers come the same way. So
//! where the host expects more, proposals are only taken after the loop has let
//! every task run that was ready before it.
//!
//! - Owns: the node, the channels' receiving ends.
//! - Source: etcd `node.run`.

use std::future::pending;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use raft_core::{Halted, RawNode, Ready, Storage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use crate::doorbell::Doorbell;
use crate::fairness::let_others_run;
use crate::queue;

/// How many waiting things one turn takes from one channel. Enough to fill a
/// batch under load, few enough that a tick is never far away.
const PROPOSALS_PER_TURN_MAX: usize = 4096;
const INPUTS_PER_TURN_MAX: usize = 1024;
const EVENTS_PER_TURN_MAX: usize = 1024;

/// How many turns may follow one another before the loop looks at its clock, and
/// whether it is to stop.
const TURNS_WITHOUT_WAIT_MAX: u32 = 8;

/// What a loop serves: how input reaches the node, and what becomes of its
/// effects.
pub(crate) trait Host: Sized + Send + 'static {
    /// The node's view of its log.
    type Storage: Storage + Send + 'static;
    /// What waits in `propc`.
    type Proposal: Send + 'static;
    /// What comes in through `recvc`.
    type Input: Send + 'static;
    /// What comes in through `controlc`.
    type Command: Send + 'static;
    /// What the host's own workers report.
    type Event: Send + 'static;

    /// Takes everything that queued up, as one append.
    fn on_proposals(
        &mut self,
        node: &mut RawNode<Self::Storage>,
        proposals: &mut Vec<Self::Proposal>,
    );

    fn on_input(&mut self, node: &mut RawNode<Self::Storage>, input: Self::Input);

    fn on_command(&mut self, node: &mut RawNode<Self::Storage>, command: Self::Command);

    fn on_event(&mut self, node: &mut RawNode<Self::Storage>, event: Self::Event);

    /// A tick has passed; the node was ticked already. `waiting` is `propc`
    /// while it is gated, so that what has waited too long can be refused.
    fn on_tick(
        &mut self,
        node: &mut RawNode<Self::Storage>,
        gated: Option<&mut queue::Receiver<Self::Proposal>>,
    );

    /// Whether the host has room for proposals.
    fn has_room(&self, _node: &RawNode<Self::Storage>) -> bool {
        true
    }

    /// Whether proposals that came are probably the first of several.
    fn expects_more(&self) -> bool {
        false
    }

    /// Whether the host keeps something back until there is nothing else to do.
    fn keeps_back(&self) -> bool {
        false
    }

    /// There is nothing else to do on this thread for now.
    fn on_idle(&mut self, _node: &mut RawNode<Self::Storage>) {}

    /// The loop has ended, and these were never taken.
    fn refuse_untaken(&mut self, _proposals: &mut Vec<Self::Proposal>) {}

    /// A turn ends: carries effects out, if the host does that itself.
    ///
    /// # Errors
    /// The loop ends.
    fn settle(&mut self, node: &mut RawNode<Self::Storage>) -> Result<(), Halted>;

    /// The loop has ended; nothing comes any more.
    fn on_stop(self, node: &mut RawNode<Self::Storage>) -> Option<Cleanup>;
}

/// The last of a host. Only when it is done anybody hears that the node has
/// stopped.
pub(crate) struct Cleanup {
    /// Runs on a thread for blocking work.
    pub(crate) work: Box<dyn FnOnce() + Send>,
    /// Ends when what the host had running elsewhere has ended.
    pub(crate) elsewhere: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Where ticks come from.
#[derive(Debug)]
pub(crate) enum Ticks {
    /// The user's own clock.
    Channel(mpsc::Receiver<()>),
    /// The runtime's clock.
    Interval(Interval),
}

impl Ticks {
    async fn next(&mut self) {
        match self {
            Self::Channel(tickc) => match tickc.recv().await {
                Some(()) => {}
                // Whoever ticked is gone; `controlc` says when the loop ends.
                None => pending().await,
            },
            Self::Interval(interval) => {
                interval.tick().await;
            }
        }
    }
}

/// A consumer that waits for a Ready.
pub(crate) type ReadyRequest = oneshot::Sender<Ready>;

/// A consumer that has carried a Ready out, and waits until the node knows.
pub(crate) type Advanced = oneshot::Sender<()>;

pub(crate) struct EventLoop<H: Host> {
    pub(crate) node: RawNode<H::Storage>,
    pub(crate) host: H,
    pub(crate) ticks: Ticks,
    pub(crate) propc: queue::Receiver<H::Proposal>,
    pub(crate) recvc: mpsc::Receiver<H::Input>,
    pub(crate) controlc: mpsc::Receiver<H::Command>,
    pub(crate) eventc: Option<mpsc::UnboundedReceiver<H::Event>>,
    pub(crate) readyc: Option<mpsc::Receiver<ReadyRequest>>,
    pub(crate) advancec: Option<mpsc::Receiver<Advanced>>,
    pub(crate) stop: CancellationToken,
}

/// What a turn began with.
enum Turn<H: Host> {
    Stop,
    Tick,
    Idle,
    Proposals,
    Input(H::Input),
    Command(H::Command),
    Event(H::Event),
    Ready(ReadyRequest),
    Advance(Advanced),
}

/// What came in and is not worked off, kept so that a turn allocates nothing.
struct Taken<H: Host> {
    proposals: Vec<H::Proposal>,
    inputs: Vec<H::Input>,
    events: Vec<H::Event>,
}

/// What is polled only when it has something: with few clients, to poll in vain is a
/// good part of a turn.
struct Doorbells {
    /// Of the stop, the ticks and `controlc`.
    seldom: Doorbell,
    events: Doorbell,
}

/// Which channels a turn polls. To poll an empty one takes the loop's waker out of
/// it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Everywhere,
    WhereSomethingIs,
}

/// Waits for what seldom comes. Another one may be made as soon as this is dropped:
/// each of the three keeps its waker.
async fn seldom<H: Host>(
    stopped: Pin<&mut impl Future<Output = ()>>,
    ticks: &mut Ticks,
    controlc: &mut mpsc::Receiver<H::Command>,
) -> Turn<H> {
    tokio::select! {
        () = stopped => Turn::Stop,
        () = ticks.next() => Turn::Tick,
        command = controlc.recv() => match command {
            Some(command) => Turn::Command(command),
            // Every handle is gone.
            None => Turn::Stop,
        },
    }
}

/// Once there is nothing else to do on this thread, if that is waited for; else
/// never.
async fn idleness(is_awaited: Idleness) {
    match is_awaited {
        Idleness::Awaited => tokio::task::yield_now().await,
        Idleness::Ignored => pending().await,
    }
}

enum Idleness {
    Awaited,
    Ignored,
}

/// Receives, if the channel is open for now; else never.
async fn receive<T>(channel: Option<&mut mpsc::Receiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => pending().await,
    }
}

async fn receive_event<T>(channel: Option<&mut mpsc::UnboundedReceiver<T>>) -> T {
    match channel {
        Some(channel) => match channel.recv().await {
            Some(event) => event,
            // The workers are gone, and will report nothing more.
            None => pending().await,
        },
        None => pending().await,
    }
}

async fn receive_many<T>(channel: Option<&mut queue::Receiver<T>>, into: &mut Vec<T>) -> usize {
    match channel {
        Some(channel) => channel.receive_many(into, PROPOSALS_PER_TURN_MAX).await,
        None => pending().await,
    }
}

/// Whether proposals may pass: somebody leads who could take them, and this node
/// is a member, or does not know the members yet.
pub(crate) fn proposals_may_pass<S: Storage>(node: &RawNode<S>) -> bool {
    let membership = node.membership();
    node.leader().is_some()
        && (membership.contains(node.id()) || membership.voters().incoming.is_empty())
}

impl<H: Host> EventLoop<H> {
    /// Runs until it is stopped, every handle is gone, or the node cannot go on.
    pub(crate) async fn run(mut self) -> Option<Cleanup> {
        let mut taken = Taken {
            proposals: Vec::new(),
            inputs: Vec::new(),
            events: Vec::new(),
        };
        // Registered once, not in every turn.
        let mut stopped = pin!(self.stop.clone().cancelled_owned());
        let mut doorbells = Doorbells {
            seldom: Doorbell::new(),
            events: Doorbell::new(),
        };
        let mut turns = 0;
        loop {
            if self.host.settle(&mut self.node).is_err() {
                break;
            }
            // So every test of a runtime looks at every invariant in every turn.
            debug_assert_eq!(self.node.check(), Ok(()), "the core is in disorder");
            // What a turn gives rise to is often there at once: a write that is
            // done, an answer from a peer in the same process.
            turns += 1;
            if turns < TURNS_WITHOUT_WAIT_MAX && self.take_what_waits(&mut taken, &doorbells) {
                continue;
            }
            turns = 0;
            let turn = self.next_turn(stopped.as_mut(), &mut doorbells, &mut taken.proposals);
            match turn.await {
                Turn::Stop => break,
                Turn::Tick => self.tick(),
                Turn::Idle => self.host.on_idle(&mut self.node),
                Turn::Proposals => {
                    if self.host.expects_more() {
                        let_others_run().await;
                    }
                    // With those that came meanwhile, and behind what else did:
                    // it may be the reason why none may pass.
                    self.take_inputs(&mut taken, &doorbells);
                    self.take_proposals(&mut taken);
                }
                Turn::Input(input) => self.host.on_input(&mut self.node, input),
                Turn::Command(command) => self.host.on_command(&mut self.node, command),
                Turn::Event(event) => self.host.on_event(&mut self.node, event),
                Turn::Ready(request) => self.hand_out_ready(request),
                Turn::Advance(advanced) => self.advance(advanced),
            }
            self.take_what_waits(&mut taken, &doorbells);
        }
        let mut proposals = taken.proposals;
        // Nobody waits for room any more, and whoever waited for a turn hears
        // that there will be none.
        self.propc.close();
        self.propc.take(&mut proposals, usize::MAX);
        self.host.refuse_untaken(&mut proposals);
        self.host.on_stop(&mut self.node)
    }

    fn takes_proposals(&self) -> bool {
        proposals_may_pass(&self.node) && self.host.has_room(&self.node)
    }

    /// Waits for whatever comes first. Besides, the loop only lets others run, before
    /// it takes what else was proposed.
    async fn next_turn(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
        doorbells: &mut Doorbells,
        proposals: &mut Vec<H::Proposal>,
    ) -> Turn<H> {
        let outstanding = self.node.is_ready_outstanding();
        let mut propc = None;
        if self.takes_proposals() {
            propc = Some(&mut self.propc);
        }
        let mut readyc = None;
        if !outstanding && self.readyc.is_some() && self.node.has_ready() {
            readyc = self.readyc.as_mut();
        }
        let mut advancec = None;
        if outstanding {
            advancec = self.advancec.as_mut();
        }
        let idle = if self.host.keeps_back() {
            Idleness::Awaited
        } else {
            Idleness::Ignored
        };
        let seldom = seldom(stopped, &mut self.ticks, &mut self.controlc);
        let event = receive_event(self.eventc.as_mut());
        // Unbiased: a flood on one channel must not starve another.
        tokio::select! {
            turn = doorbells.seldom.answer(seldom) => turn,
            event = doorbells.events.answer(event) => Turn::Event(event),
            () = idleness(idle) => Turn::Idle,
            Some(input) = self.recvc.recv() => Turn::Input(input),
            count = receive_many(propc, proposals) => {
                if count == 0 { Turn::Stop } else { Turn::Proposals }
            }
            Some(request) = receive(readyc) => Turn::Ready(request),
            Some(advanced) = receive(advancec) => Turn::Advance(advanced),
        }
    }

    /// Takes what else is there without waiting, so that one Ready serves it
    /// all. Whether there was anything. Where more proposals are expected they
    /// are left to gather.
    fn take_what_waits(&mut self, taken: &mut Taken<H>, doorbells: &Doorbells) -> bool {
        let took = self.take_inputs(taken, doorbells);
        took | (!self.host.expects_more() && self.take_proposals(taken))
    }

    /// Under load whoever sends while a turn lasts is to wake nobody: the loop looks
    /// at every channel again before it sleeps. Otherwise the wakers stay where they
    /// are, which is cheaper.
    fn looks(&self) -> Looks {
        if self.host.expects_more() {
            Looks::Everywhere
        } else {
            Looks::WhereSomethingIs
        }
    }

    /// Takes events and inputs. Whether there were any. Whoever sends events sees to
    /// it that there are few, so their channel keeps its waker under load too.
    fn take_inputs(&mut self, taken: &mut Taken<H>, doorbells: &Doorbells) -> bool {
        let Taken { inputs, events, .. } = taken;
        let looks = self.looks();
        let mut unwoken = Context::from_waker(Waker::noop());
        let mut took = false;
        if let Some(eventc) = &mut self.eventc
            && !eventc.is_empty()
        {
            // Whoever sent them has used the bell's waker up.
            doorbells.events.ring();
            if let Poll::Ready(1..) =
                eventc.poll_recv_many(&mut unwoken, events, EVENTS_PER_TURN_MAX)
            {
                took = true;
                for event in events.drain(..) {
                    self.host.on_event(&mut self.node, event);
                }
            }
        }
        if (looks == Looks::Everywhere || !self.recvc.is_empty())
            && let Poll::Ready(1..) =
                self.recvc
                    .poll_recv_many(&mut unwoken, inputs, INPUTS_PER_TURN_MAX)
        {
            took = true;
            for input in inputs.drain(..) {
                self.host.on_input(&mut self.node, input);
            }
        }
        took
    }

    /// Takes proposals, with those that were received. Whether there were any.
    fn take_proposals(&mut self, taken: &mut Taken<H>) -> bool {
        let proposals = &mut taken.proposals;
        let room = PROPOSALS_PER_TURN_MAX.saturating_sub(proposals.len());
        let is_there = self.looks() == Looks::Everywhere || !self.propc.is_empty();
        if room > 0 && is_there && self.takes_proposals() {
            self.propc.take(proposals, room);
        }
        if proposals.is_empty() {
            return false;
        }
        self.host.on_proposals(&mut self.node, proposals);
        proposals.clear();
        true
    }

    fn tick(&mut self) {
        if self.node.tick().is_err() {
            // The next turn's `settle` ends the loop.
            tracing::debug!(node = %self.node.id(), "a tick found the node halted");
        }
        let gated = !self.takes_proposals();
        self.host
            .on_tick(&mut self.node, gated.then_some(&mut self.propc));
    }

    /// Whoever gave up waiting has not carried anything out.
    fn advance(&mut self, advanced: Advanced) {
        if !advanced.is_closed() && self.node.advance().is_ok() {
            let _ = advanced.send(());
        }
    }

    /// A Ready is made when it is taken, not before: what came in meanwhile is
    /// in it. Whoever no longer waits gets none, so none is lost.
    fn hand_out_ready(&mut self, request: ReadyRequest) {
        if request.is_closed() {
            return;
        }
        match self.node.ready() {
            Ok(ready) => {
                // Asked for by a receiver that outlives a cancelled wait.
                let _ = request.send(ready);
            }
            Err(error) => {
                tracing::debug!(node = %self.node.id(), %error, "no Ready");
            }
        }
    }
}
