//! # The inbox
//!
//! Where a transport puts what it has for its replica. It is bounded in number by
//! its channel, and in bytes: the packets that are large enough to matter are
//! counted from when they are put in until the replica takes them out. Small ones
//! pass, since as many as may wait are little.
//!
//! - Owns: how many bytes wait.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raft_core::{Body, Message};
use tokio::sync::{Notify, mpsc};

use super::{Inbound, Packet, ResponseOutcome};
use crate::snapshot::ReceivedSnapshot;

/// Packets with a payload up to this, in bytes, are not counted.
const SMALL_BYTES: usize = 4 << 10;
/// What a packet, or a proposal in it, takes besides its payload, roughly.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// Where a transport puts what it has for its replica.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::Sender<Inbound>,
    large: LargePackets,
}

/// The large packets that wait in an inbox. Whoever takes out says so.
#[derive(Clone, Debug)]
pub(crate) struct LargePackets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: AtomicUsize,
    bytes_max: usize,
    freed: Notify,
}

impl LargePackets {
    /// So many bytes may wait; a packet that finds anything left may go over.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                bytes: AtomicUsize::new(0),
                bytes_max,
                freed: Notify::new(),
            }),
        }
    }

    /// This was taken out of the inbox.
    pub(crate) fn take_out(&self, inbound: &Inbound) {
        self.take_off(large_bytes(inbound));
    }

    fn take_off(&self, bytes: usize) {
        if bytes > 0 {
            let before = self.shared.bytes.fetch_sub(bytes, Ordering::SeqCst);
            if before >= self.shared.bytes_max {
                self.shared.freed.notify_waiters();
            }
        }
    }

    fn try_add(&self, bytes: usize) -> Option<Added<'_>> {
        let Shared {
            bytes: waiting,
            bytes_max,
            ..
        } = &*self.shared;
        let add = |now: usize| (now < *bytes_max).then(|| now.saturating_add(bytes));
        if bytes > 0 {
            waiting
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add)
                .ok()?;
        }
        Some(Added { large: self, bytes })
    }

    async fn add(&self, bytes: usize) -> Added<'_> {
        // There nearly always is room.
        if let Some(added) = self.try_add(bytes) {
            return added;
        }
        loop {
            let mut freed = pin!(self.shared.freed.notified());
            // From here on nothing is missed.
            freed.as_mut().enable();
            if let Some(added) = self.try_add(bytes) {
                return added;
            }
            freed.await;
        }
    }
}

/// Bytes that are counted, and count no more if the packet does not get in.
struct Added<'a> {
    large: &'a LargePackets,
    bytes: usize,
}

impl Added<'_> {
    /// The packet is in.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.large.take_off(self.bytes);
    }
}

impl Inbox {
    /// An inbox whose other end is a channel that bounds it in number alone: that
    /// of a test of a transport.
    pub fn new(sender: mpsc::Sender<Inbound>) -> Self {
        Self::bounded(sender, LargePackets::new(usize::MAX))
    }

    /// A replica's inbox.
    pub(crate) fn bounded(sender: mpsc::Sender<Inbound>, large: LargePackets) -> Self {
        Self { sender, large }
    }

    /// Puts something in, waiting for room. This is how a slow replica slows
    /// its peers' connections down. `false` if the replica is gone.
    ///
    /// # Cancel safety
    /// If it is cancelled the packet is dropped, which the protocol survives.
    pub async fn deliver(&self, inbound: Inbound) -> bool {
        let added = tokio::select! {
            biased;
            added = self.large.add(large_bytes(&inbound)) => added,
            () = self.sender.closed() => return false,
        };
        let delivered = self.sender.send(inbound).await.is_ok();
        if delivered {
            added.keep();
        }
        delivered
    }

    /// Room for one small thing, waiting for it; `None` if the replica is gone.
    async fn reserve(&self) -> Option<mpsc::Permit<'_, Inbound>> {
        self.sender.reserve().await.ok()
    }

    /// Puts something in if there is room. `false` if there is none, or the
    /// replica is gone.
    pub fn try_deliver(&self, inbound: Inbound) -> bool {
        let Some(added) = self.large.try_add(large_bytes(&inbound)) else {
            return false;
        };
        let delivered = self.sender.try_send(inbound).is_ok();
        if delivered {
            added.keep();
        }
        delivered
    }

    /// Puts something small in if there is room, and gives it back if there is
    /// none. What is for a replica that is gone is dropped.
    pub(crate) fn offer(&self, inbound: Inbound) -> Option<Inbound> {
        match self.sender.try_send(inbound) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(inbound)) => Some(inbound),
        }
    }

    /// Whether the replica is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// How a snapshot whose data is there gets to the replica.
impl ReceivedSnapshot {
    /// Puts the message that announced this snapshot into the inbox, waiting for
    /// room. `false` if the replica is gone, or the message speaks of another
    /// snapshot.
    ///
    /// # Cancel safety
    /// Cancelled, nothing is delivered.
    pub async fn deliver(self, inbox: &Inbox, message: Message) -> bool {
        let Some(message) = self.announced(message) else {
            return false;
        };
        let Some(room) = inbox.reserve().await else {
            return false;
        };
        // Nothing waits from here on.
        self.set_delivered();
        room.send(Inbound::Packet(Packet::Raft(message)));
        true
    }

    /// Like [`deliver`](Self::deliver), but `false` if there is no room.
    pub fn try_deliver(self, inbox: &Inbox, message: Message) -> bool {
        let Some(message) = self.announced(message) else {
            return false;
        };
        let delivered = inbox.try_deliver(Inbound::Packet(Packet::Raft(message)));
        if delivered {
            self.set_delivered();
        }
        delivered
    }
}

fn large_bytes(inbound: &Inbound) -> usize {
    match inbound {
        Inbound::Packet(packet) => match payload_bytes(packet) {
            0..=SMALL_BYTES => 0,
            bytes => bytes,
        },
        Inbound::Unreachable(_) | Inbound::SnapshotReport { .. } => 0,
    }
}

/// How many bytes of payload a packet carries, without looking at each entry.
pub(super) fn payload_bytes(packet: &Packet) -> usize {
    match packet {
        Packet::Raft(message) => match &message.body {
            Body::Append { entries, .. } => {
                usize::try_from(entries.encoded_bytes()).unwrap_or(usize::MAX)
            }
            Body::Propose { proposals } => proposals
                .iter()
                .map(|proposal| proposal.data.len().saturating_add(OVERHEAD_BYTES))
                .fold(0, usize::saturating_add),
            _ => 0,
        },
        Packet::Request { payload, .. } => payload.len(),
        Packet::Response { outcome, .. } => match outcome {
            ResponseOutcome::Done { payload } => payload.len(),
            ResponseOutcome::Refused { detail, .. } => detail.len(),
            _ => 0,
        },
    }
}
