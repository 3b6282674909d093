//! # The transport inside a process
//!
//! Owns who has joined a [`MemoryNetwork`], and the faults that a test asked
//! for. Packets move from one replica into the [`Inbox`] of another: nothing is
//! encoded, and without faults nothing is locked. The data of a snapshot is
//! copied from exchange to exchange by a task of its own, before its message goes
//! the same way; the copy ends with either of the two replicas.
//!
//! Reads: the directory of members, looked up anew only when it has changed.
//! Emits: packets, and to their sender what became of snapshots and peers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_core::{Body, Message, NodeId, Snapshot, SnapshotOutcome};
use tokio::runtime::Handle;

use super::scope::Scope;
use super::{Inbound, Inbox, Packet, Transport};
use crate::snapshot::SnapshotExchange;

/// A network inside this process, with faults to order. Clones are the same
/// network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    hub: Arc<Hub>,
}

/// One replica's end of a [`MemoryNetwork`].
///
/// A peer that has not started, has stopped or whose inbox is full is reported
/// unreachable when the first packet is dropped, and again after packets went
/// through in between. A packet that a fault swallows is not reported, just as
/// a real network says nothing; only a snapshot's loss always is.
#[derive(Debug)]
pub struct MemoryTransport {
    id: NodeId,
    hub: Arc<Hub>,
    scope: Scope,
    attachment: Option<Attachment>,
    routes: Vec<Route>,
    routes_version: u64,
    /// Reports that the replica had no room for yet.
    overdue: VecDeque<Inbound>,
}

/// What a started transport has.
#[derive(Debug)]
struct Attachment {
    inbox: Inbox,
    seat: u64,
}

/// Where packets for one peer go.
#[derive(Debug)]
struct Route {
    to: NodeId,
    inbox: Option<Inbox>,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Reachable,
    ReportedUnreachable,
}

#[derive(Debug, Default)]
struct Hub {
    /// Grows whenever somebody joins or leaves.
    version: AtomicU64,
    members: Mutex<Vec<Member>>,
    /// Whether `faults` has to be asked at all.
    has_faults: AtomicBool,
    faults: Mutex<Faults>,
    snapshot_delay: Mutex<Duration>,
}

#[derive(Clone, Debug)]
struct Member {
    id: NodeId,
    /// Tells a member from its own successor after a restart.
    seat: u64,
    inbox: Inbox,
    snapshots: SnapshotExchange,
    /// Where its snapshots are copied, and until when.
    runtime: Handle,
    scope: Scope,
}

#[derive(Debug, Default)]
struct Faults {
    cuts: Vec<(NodeId, NodeId)>,
    isolated: Vec<NodeId>,
    loss: Option<Loss>,
    holds: Vec<(NodeId, NodeId)>,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Loss {
    random: fastrand::Rng,
    per_mille: u32,
}

#[derive(Debug)]
struct Held {
    from: NodeId,
    to: NodeId,
    packet: Packet,
}

/// What the faults do to a packet.
enum Fate {
    Passes(Packet),
    Lost,
    Held,
}

impl MemoryNetwork {
    /// A network without members and without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The end of the network for `id`. It can be reached once it is started;
    /// a second one takes the place of the first, as after a restart.
    pub fn join(&self, id: NodeId) -> MemoryTransport {
        MemoryTransport {
            id,
            hub: Arc::clone(&self.hub),
            scope: Scope::default(),
            attachment: None,
            routes: Vec::new(),
            routes_version: 0,
            overdue: VecDeque::new(),
        }
    }

    /// Loses everything from `from` to `to`, until [`heal`](Self::heal). The
    /// way back stays open.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.hub
            .change_faults(|faults| faults.cuts.push((from, to)));
    }

    /// Loses everything from and to `id`, until [`heal`](Self::heal).
    pub fn isolate(&self, id: NodeId) {
        self.hub.change_faults(|faults| faults.isolated.push(id));
    }

    /// Loses `per_mille` of a thousand packets, drawn from `seed`, until
    /// [`heal`](Self::heal).
    pub fn drop_rate(&self, seed: u64, per_mille: u32) {
        self.hub.change_faults(|faults| {
            faults.loss = Some(Loss {
                random: fastrand::Rng::with_seed(seed),
                per_mille,
            });
        });
    }

    /// Snapshots take this long, until [`heal`](Self::heal). Everything else
    /// passes them.
    pub fn delay_snapshots(&self, delay: Duration) {
        *locked(&self.hub.snapshot_delay) = delay;
    }

    /// Ends cuts, isolations, losses and delays. Held packets stay held, and
    /// snapshots that are on their way late.
    pub fn heal(&self) {
        *locked(&self.hub.snapshot_delay) = Duration::ZERO;
        self.hub.change_faults(|faults| {
            faults.cuts.clear();
            faults.isolated.clear();
            faults.loss = None;
        });
    }

    /// Keeps everything from `from` to `to` back, without a bound, until
    /// [`release`](Self::release).
    pub fn hold(&self, from: NodeId, to: NodeId) {
        self.hub
            .change_faults(|faults| faults.holds.push((from, to)));
    }

    /// Delivers what was held, in the order in which it was sent, and holds
    /// nothing more; snapshots begin to travel, and arrive when they do. What was
    /// held for an inbox that is full or gone is lost.
    pub fn release(&self) {
        let hub = &self.hub;
        hub.change_faults(|faults| {
            faults.holds.clear();
            for Held { from, to, packet } in faults.held.drain(..) {
                match packet.into() {
                    Load::Snapshot(message, snapshot) => hub.carry(from, to, message, snapshot),
                    Load::Light(packet) => {
                        if let Some(member) = hub.member(to) {
                            member.inbox.try_deliver(Inbound::Packet(packet));
                        }
                    }
                }
            }
        });
    }

    /// How many packets are held.
    pub fn held_count(&self) -> usize {
        locked(&self.hub.faults).held.len()
    }
}

impl Hub {
    fn member(&self, id: NodeId) -> Option<Member> {
        locked(&self.members)
            .iter()
            .find(|member| member.id == id)
            .cloned()
    }

    fn enter(&self, id: NodeId, inbox: Inbox, snapshots: SnapshotExchange, scope: Scope) -> u64 {
        let mut members = locked(&self.members);
        let seat = self.version.fetch_add(1, Ordering::Release) + 1;
        members.retain(|member| member.id != id);
        members.push(Member {
            id,
            seat,
            inbox,
            snapshots,
            runtime: Handle::current(),
            scope,
        });
        seat
    }

    /// Takes a snapshot to its receiver, and reports to its sender, both in the
    /// background. If one of them stops, its end waits for the end of this.
    fn carry(&self, from: NodeId, to: NodeId, message: Message, snapshot: Snapshot) {
        let (Some(sender), receiver) = (self.member(from), self.member(to)) else {
            return;
        };
        let delay = *locked(&self.snapshot_delay);
        let (runtime, scope) = (sender.runtime.clone(), sender.scope.clone());
        scope.spawn_on(&runtime, async move {
            let arrived = match receiver {
                Some(receiver) => {
                    let pass = pass_snapshot(&sender, &receiver, message, &snapshot, delay);
                    receiver.scope.within(pass).await.unwrap_or(false)
                }
                None => false,
            };
            sender.inbox.deliver(snapshot_report(to, arrived)).await;
        });
    }

    fn leave(&self, seat: u64) {
        let mut members = locked(&self.members);
        members.retain(|member| member.seat != seat);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes the faults. The flag follows under the same lock, so that no
    /// sender overtakes what is being released.
    fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = locked(&self.faults);
        change(&mut faults);
        self.has_faults.store(faults.any(), Ordering::Release);
    }

    fn fate(&self, from: NodeId, to: NodeId, packet: Packet) -> Fate {
        if !self.has_faults.load(Ordering::Acquire) {
            return Fate::Passes(packet);
        }
        locked(&self.faults).fate(from, to, packet)
    }
}

impl Faults {
    fn any(&self) -> bool {
        !self.cuts.is_empty()
            || !self.isolated.is_empty()
            || self.loss.is_some()
            || !self.holds.is_empty()
    }

    fn fate(&mut self, from: NodeId, to: NodeId, packet: Packet) -> Fate {
        if self.isolated.contains(&from)
            || self.isolated.contains(&to)
            || self.cuts.contains(&(from, to))
            || self.loss.as_mut().is_some_and(Loss::strikes)
        {
            return Fate::Lost;
        }
        if self.holds.contains(&(from, to)) {
            self.held.push(Held { from, to, packet });
            return Fate::Held;
        }
        Fate::Passes(packet)
    }
}

impl Loss {
    fn strikes(&mut self) -> bool {
        self.random.u32(0..1000) < self.per_mille
    }
}

impl MemoryTransport {
    fn refresh_routes(&mut self) {
        let version = self.hub.version.load(Ordering::Acquire);
        if version == self.routes_version {
            return;
        }
        self.routes = locked(&self.hub.members)
            .iter()
            .map(|member| Route {
                to: member.id,
                inbox: Some(member.inbox.clone()),
                health: Health::Reachable,
            })
            .collect();
        self.routes_version = version;
    }

    /// Moves the packet into its receiver's inbox, or drops it.
    fn pass(&mut self, to: NodeId, packet: Packet) {
        let Some(route) = self.routes.iter_mut().find(|route| route.to == to) else {
            // Remembered, so that its absence is reported once.
            self.routes.push(Route {
                to,
                inbox: None,
                health: Health::ReportedUnreachable,
            });
            self.report(Inbound::Unreachable(to));
            return;
        };
        let arrived = route
            .inbox
            .as_ref()
            .is_some_and(|inbox| inbox.try_deliver(Inbound::Packet(packet)));
        if arrived {
            route.health = Health::Reachable;
        } else if route.health == Health::Reachable {
            route.health = Health::ReportedUnreachable;
            self.report(Inbound::Unreachable(to));
        }
    }

    /// Tells the replica, now or, if it has no room, at the next flush.
    fn report(&mut self, report: Inbound) {
        self.overdue.push_back(report);
        self.report_overdue();
    }

    fn report_overdue(&mut self) {
        let Some(attachment) = &self.attachment else {
            self.overdue.clear();
            return;
        };
        while let Some(report) = self.overdue.pop_front() {
            if let Some(report) = attachment.inbox.offer(report) {
                self.overdue.push_front(report);
                return;
            }
        }
    }
}

impl Transport for MemoryTransport {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        let scope = self.scope.clone();
        let seat = self.hub.enter(self.id, inbox.clone(), snapshots, scope);
        self.attachment = Some(Attachment { inbox, seat });
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        if self.attachment.is_none() {
            return;
        }
        self.refresh_routes();
        let is_snapshot = is_snapshot(&packet);
        match self.hub.fate(self.id, to, packet) {
            Fate::Passes(packet) => match packet.into() {
                Load::Snapshot(message, snapshot) => {
                    self.hub.carry(self.id, to, message, snapshot);
                }
                Load::Light(packet) => self.pass(to, packet),
            },
            Fate::Lost if is_snapshot => self.report(snapshot_report(to, false)),
            // A snapshot's report comes when it is released.
            Fate::Lost | Fate::Held => {}
        }
    }

    fn flush(&mut self) {
        if !self.overdue.is_empty() {
            self.report_overdue();
        }
    }

    fn stop(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            self.hub.leave(attachment.seat);
        }
        self.scope.stop();
        self.routes.clear();
        self.overdue.clear();
    }

    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.scope.stopped())
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_snapshot(packet: &Packet) -> bool {
    matches!(packet, Packet::Raft(message) if matches!(message.body, Body::Snapshot(_)))
}

/// A packet, by what it takes to bring it.
enum Load {
    /// The data of this snapshot goes first.
    Snapshot(Message, Snapshot),
    Light(Packet),
}

impl From<Packet> for Load {
    fn from(packet: Packet) -> Self {
        match packet {
            Packet::Raft(message) => match &message.body {
                Body::Snapshot(snapshot) => {
                    let snapshot = snapshot.as_ref().clone();
                    Self::Snapshot(message, snapshot)
                }
                _ => Self::Light(Packet::Raft(message)),
            },
            packet => Self::Light(packet),
        }
    }
}

/// Copies the data, then delivers the message. `false` if one of them failed.
async fn pass_snapshot(
    sender: &Member,
    receiver: &Member,
    message: Message,
    snapshot: &Snapshot,
    delay: Duration,
) -> bool {
    let copied = async {
        // From here on it can be read, whatever becomes of it.
        let source = sender.snapshots.outgoing(snapshot).await?;
        tokio::time::sleep(delay).await;
        receiver.snapshots.copy_from(source, snapshot).await
    };
    match copied.await {
        Ok(received) => received.try_deliver(&receiver.inbox, message),
        Err(error) => {
            let (node, peer) = (sender.id, receiver.id);
            tracing::warn!(%node, %peer, %error, "a snapshot did not arrive at a peer");
            false
        }
    }
}

fn snapshot_report(to: NodeId, arrived: bool) -> Inbound {
    Inbound::SnapshotReport {
        to,
        outcome: if arrived {
            SnapshotOutcome::Arrived
        } else {
            SnapshotOutcome::Failed
        },
    }
}

/// A panic elsewhere leaves nothing half done in here, so poison is no reason
/// to stop.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
