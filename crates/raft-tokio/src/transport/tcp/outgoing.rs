//! # The way out
//!
//! Owns, for one peer, the queue of what is to be sent and the task that
//! connects and writes it out, everything that waits in one go. The queue is
//! bounded in packets and in bytes. What does not fit, or has no connection to
//! go over, is dropped and the peer reported unreachable: the replica never
//! waits, and what is old when the peer comes back was worth nothing anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use raft_core::{Message, NodeId, SnapshotOutcome};
use raft_wire::frame::{ConnectionPurpose, Packet as WirePacket, encode_packet};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::handshake::{Connection, OpenError, open};
use super::seldom::Seldom;
use super::stream::StreamError;
use super::{Ends, GROUP, TcpTransportConfig, report_snapshot, snapshot_send};
use crate::transport::inbox::{OVERHEAD_BYTES, payload_bytes};
use crate::transport::scope::Scope;
use crate::transport::{Inbound, Inbox, Packet};

/// From how many bytes on the buffer is written out although more waits.
const WRITE_BYTES: usize = 256 << 10;

/// The way to one peer. Dropping it closes its connections.
#[derive(Debug)]
pub(super) struct PeerLink {
    peer: Peer,
    queue: mpsc::Sender<Queued>,
    /// One snapshot at a time.
    snapshots: Arc<Semaphore>,
    ends: Ends,
    scope: Scope,
    closed: CancellationToken,
}

/// What the link and its task both know.
#[derive(Clone, Debug)]
struct Peer {
    id: NodeId,
    address: Arc<str>,
    config: Arc<TcpTransportConfig>,
    inbox: Inbox,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct Traffic {
    queued_bytes: AtomicUsize,
    /// Set when an attempt to connect fails. A connection that has just broken
    /// or was never tried may still come in time for what waits.
    is_down: AtomicBool,
    reports: Seldom,
}

#[derive(Debug)]
struct Queued {
    packet: Packet,
    bytes: usize,
}

impl PeerLink {
    pub(super) fn open(
        scope: &Scope,
        config: &Arc<TcpTransportConfig>,
        ends: &Ends,
        id: NodeId,
        address: &str,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(config.queue_packets_max.max(1));
        let peer = Peer {
            id,
            address: address.into(),
            config: Arc::clone(config),
            inbox: ends.inbox.clone(),
            traffic: Arc::new(Traffic {
                queued_bytes: AtomicUsize::new(0),
                is_down: AtomicBool::new(false),
                reports: Seldom::new(),
            }),
        };
        let closed = scope.part();
        let writer = Writer {
            peer: peer.clone(),
            queue: receiver,
            batch: Vec::new(),
        };
        let until = closed.clone();
        scope.spawn(async move {
            until.run_until_cancelled(writer.run()).await;
        });
        Self {
            peer,
            queue,
            snapshots: Arc::new(Semaphore::new(1)),
            ends: ends.clone(),
            scope: scope.clone(),
            closed,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.peer.id
    }

    pub(super) fn address(&self) -> &str {
        &self.peer.address
    }

    /// Queues a packet, or drops it.
    pub(super) fn send(&self, packet: Packet) {
        let traffic = &self.peer.traffic;
        let is_full =
            traffic.queued_bytes.load(Ordering::Relaxed) >= self.peer.config.queue_bytes_max;
        if is_full || traffic.is_down.load(Ordering::Relaxed) {
            self.peer.report_unreachable();
            return;
        }
        let bytes = payload_bytes(&packet).saturating_add(OVERHEAD_BYTES);
        traffic.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.queue.try_send(Queued { packet, bytes }).is_err() {
            traffic.take_off(bytes);
            self.peer.report_unreachable();
        }
    }

    /// Sends a snapshot on a connection of its own. While one is on its way,
    /// others are dropped, and the end of that one is reported.
    pub(super) fn send_snapshot(&self, message: Message) {
        let Peer { id, config, .. } = self.peer.clone();
        let node = config.node_id;
        let Ok(slot) = Arc::clone(&self.snapshots).try_acquire_owned() else {
            debug!(%node, peer = %id, "dropped a snapshot: another one is on its way");
            return;
        };
        let address = Arc::clone(&self.peer.address);
        let closed = self.closed.clone();
        let ends = self.ends.clone();
        self.scope.spawn(async move {
            let send = async {
                // Never closed, and waiting costs the follower only time.
                let _turn = ends.sending.acquire().await;
                snapshot_send::send(&config, &ends.snapshots, id, &address, message).await
            };
            let outcome = closed
                .run_until_cancelled(send)
                .await
                .unwrap_or(SnapshotOutcome::Failed);
            // Whoever hears of the end may send the next one at once.
            drop(slot);
            report_snapshot(ends.inbox, id, outcome).await;
        });
    }
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Traffic {
    /// These bytes do not wait any more.
    fn take_off(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Peer {
    fn report_unreachable(&self) {
        if self.traffic.reports.allows() && !self.inbox.try_deliver(Inbound::Unreachable(self.id)) {
            // There was no room: the next one that is dropped says it.
            self.traffic.reports.reset();
        }
    }
}

/// The task that writes to one peer.
struct Writer {
    peer: Peer,
    queue: mpsc::Receiver<Queued>,
    batch: Vec<Queued>,
}

/// Why the writer stopped writing.
enum Ended {
    /// The connection is lost.
    Broken(StreamError),
    /// Nothing will be sent any more.
    Closed,
}

impl Writer {
    async fn run(mut self) {
        let config = Arc::clone(&self.peer.config);
        let (node, peer) = (config.node_id, self.peer.id);
        let mut pause = Pause::new(&config);
        let mut complaint: Option<OpenError> = None;
        loop {
            let address = Arc::clone(&self.peer.address);
            match open(&config, peer, &address, ConnectionPurpose::Messages).await {
                Ok(connection) => {
                    info!(%node, %peer, %address, "connected to a peer");
                    complaint = None;
                    self.peer.traffic.is_down.store(false, Ordering::Relaxed);
                    self.peer.traffic.reports.reset();
                    let since = Instant::now();
                    match self.write_out(connection).await {
                        Ended::Broken(error) => {
                            info!(%node, %peer, %error, "lost the connection to a peer");
                        }
                        Ended::Closed => return,
                    }
                    // A peer that lets us in and throws us out is no success.
                    if since.elapsed() > config.reconnect_delay_max {
                        pause = Pause::new(&config);
                    }
                }
                Err(error) => {
                    self.go_down();
                    if !complaint
                        .as_ref()
                        .is_some_and(|known| known.is_like(&error))
                    {
                        warn!(%node, %peer, %address, %error, "cannot connect to a peer; trying on");
                        complaint = Some(error);
                    }
                }
            }
            sleep(pause.next()).await;
        }
    }

    /// Writes what is queued until the connection breaks.
    async fn write_out(&mut self, mut connection: Connection) -> Ended {
        let count_max = self.peer.config.queue_packets_max.max(1);
        loop {
            let error = tokio::select! {
                biased;
                count = self.queue.recv_many(&mut self.batch, count_max) => {
                    if count == 0 {
                        return Ended::Closed;
                    }
                    match self.write_batch(&mut connection).await {
                        Ok(()) => continue,
                        Err(error) => {
                            // The batch is lost, or at least not known to be
                            // there.
                            self.peer.report_unreachable();
                            error
                        }
                    }
                }
                error = connection.reader.closed() => error,
            };
            return Ended::Broken(error);
        }
    }

    /// Writes the batch out. Bytes count as queued until they are written, so
    /// that the limit holds for everything in between.
    async fn write_batch(&mut self, connection: &mut Connection) -> Result<(), StreamError> {
        let mut unwritten: usize = self.batch.iter().map(|queued| queued.bytes).sum();
        let mut encoded = 0_usize;
        let mut outcome = Ok(());
        let count = self.batch.len();
        for (position, Queued { packet, bytes }) in self.batch.drain(..).enumerate() {
            encode_bounded(&self.peer, packet, connection);
            encoded = encoded.saturating_add(bytes);
            let is_last = position.saturating_add(1) == count;
            if is_last || connection.writer.buffer().len() >= WRITE_BYTES {
                outcome = connection.writer.flush().await;
                if outcome.is_err() {
                    break;
                }
                self.peer.traffic.take_off(encoded);
                unwritten = unwritten.saturating_sub(encoded);
                encoded = 0;
            }
        }
        self.peer.traffic.take_off(unwritten);
        outcome
    }

    /// There is no connection: what waits is dropped, and so is what comes.
    fn go_down(&mut self) {
        self.peer.traffic.is_down.store(true, Ordering::Relaxed);
        let mut dropped = 0_usize;
        while let Ok(queued) = self.queue.try_recv() {
            dropped = dropped.saturating_add(queued.bytes);
        }
        if dropped > 0 {
            self.peer.traffic.take_off(dropped);
            self.peer.report_unreachable();
        }
    }
}

/// Encodes a packet into the connection's buffer, unless it is longer than the
/// other side would take.
fn encode_bounded(peer: &Peer, packet: Packet, connection: &mut Connection) {
    let buffer = connection.writer.buffer();
    let start = buffer.len();
    let config = &peer.config;
    let bytes_max = usize::try_from(config.frame_bytes_max).unwrap_or(usize::MAX);
    let encoded = encode_packet(&to_wire(packet), buffer);
    let bytes = buffer.len().saturating_sub(start);
    if encoded.is_err() || bytes > bytes_max {
        buffer.truncate(start);
        if peer.traffic.reports.allows() {
            let node = config.node_id;
            warn!(
                %node, peer = %peer.id, bytes, bytes_max,
                "dropped a packet that is too long: allow longer frames on every server, \
                 or send smaller commands"
            );
            peer.inbox.try_deliver(Inbound::Unreachable(peer.id));
        }
    }
}

fn to_wire(packet: Packet) -> WirePacket {
    match packet {
        Packet::Raft(message) => WirePacket::Raft {
            group: GROUP,
            message,
        },
        // Who asks is known from the handshake.
        Packet::Request {
            from: _,
            id,
            kind,
            payload,
        } => WirePacket::Request { id, kind, payload },
        Packet::Response {
            from: _,
            id,
            outcome,
        } => WirePacket::Response { id, outcome },
    }
}

/// The pauses between attempts: each twice the one before, and shortened by up
/// to a half, so that a cluster that lost a server does not call in step.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new(config: &TcpTransportConfig) -> Self {
        Self {
            next: config.reconnect_delay_min,
            longest: config.reconnect_delay_max,
        }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        pause.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}
