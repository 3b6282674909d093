//! # The transport inside a process
//!
//! Owns who has joined a [`MemoryNetwork`], and the faults that a test asked
//! for. Packets move from one replica into the [`Inbox`] of another: nothing is
//! encoded, and without faults nothing is locked.
//!
//! Reads: the directory of members, looked up anew only when it has changed.
//! Emits: packets, and to their sender what became of snapshots and peers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_core::{Body, NodeId, SnapshotOutcome};

use super::{Inbound, Inbox, Packet, Transport};

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
}

#[derive(Clone, Debug)]
struct Member {
    id: NodeId,
    /// Tells a member from its own successor after a restart.
    seat: u64,
    inbox: Inbox,
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

    /// Ends cuts, isolations and losses. Held packets stay held.
    pub fn heal(&self) {
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
    /// nothing more. What was held for an inbox that is full or gone is lost.
    pub fn release(&self) {
        let hub = &self.hub;
        hub.change_faults(|faults| {
            faults.holds.clear();
            for Held { from, to, packet } in faults.held.drain(..) {
                let is_snapshot = is_snapshot(&packet);
                let arrived = hub
                    .inbox(to)
                    .is_some_and(|inbox| inbox.try_deliver(Inbound::Packet(packet)));
                if is_snapshot && let Some(inbox) = hub.inbox(from) {
                    inbox.try_deliver(snapshot_report(to, arrived));
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
    fn inbox(&self, id: NodeId) -> Option<Inbox> {
        locked(&self.members)
            .iter()
            .find(|member| member.id == id)
            .map(|member| member.inbox.clone())
    }

    fn enter(&self, id: NodeId, inbox: Inbox) -> u64 {
        let mut members = locked(&self.members);
        let seat = self.version.fetch_add(1, Ordering::Release) + 1;
        members.retain(|member| member.id != id);
        members.push(Member { id, seat, inbox });
        seat
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

    /// Moves the packet into its receiver's inbox. `false` if it was dropped.
    fn pass(&mut self, to: NodeId, packet: Packet) -> bool {
        let Some(route) = self.routes.iter_mut().find(|route| route.to == to) else {
            // Remembered, so that its absence is reported once.
            self.routes.push(Route {
                to,
                inbox: None,
                health: Health::ReportedUnreachable,
            });
            self.report(Inbound::Unreachable(to));
            return false;
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
        arrived
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
    fn start(&mut self, inbox: Inbox) {
        let seat = self.hub.enter(self.id, inbox.clone());
        self.attachment = Some(Attachment { inbox, seat });
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        if self.attachment.is_none() {
            return;
        }
        self.refresh_routes();
        let is_snapshot = is_snapshot(&packet);
        let arrived = match self.hub.fate(self.id, to, packet) {
            Fate::Passes(packet) => self.pass(to, packet),
            Fate::Lost => false,
            // Its report comes when it is released.
            Fate::Held => return,
        };
        if is_snapshot {
            self.report(snapshot_report(to, arrived));
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
        self.routes.clear();
        self.overdue.clear();
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
