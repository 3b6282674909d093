//! # The transport
//!
//! Carries packets between replicas: fast, in order per peer, and without any
//! promise to arrive. Raft repeats what is lost; what a transport must never do
//! is to wait for a peer.

mod inbox;
mod memory;
mod scope;
mod tcp;

use std::future::{Future, ready};
use std::pin::Pin;

use bytes::Bytes;
use raft_core::{Message, NodeId, SnapshotOutcome};

use crate::snapshot::SnapshotExchange;

pub use inbox::Inbox;
pub(crate) use inbox::LargePackets;
pub use memory::{MemoryNetwork, MemoryTransport};
pub use raft_wire::frame::{RequestKind, ResponseOutcome};
pub use tcp::{TcpTransport, TcpTransportConfig, TransportError};

/// What one replica tells another.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// A message of the protocol.
    Raft(Message),
    /// Asks the other replica to do something for a client of this one.
    Request {
        /// Who asks.
        from: NodeId,
        /// The asker's own number for it.
        id: u64,
        /// What to do.
        kind: RequestKind,
        /// The command or the query.
        payload: Bytes,
    },
    /// Answers a request.
    Response {
        /// Who answers.
        from: NodeId,
        /// The asker's number.
        id: u64,
        /// How it ended.
        outcome: ResponseOutcome,
    },
}

/// What a transport tells its replica.
#[derive(Debug)]
pub enum Inbound {
    /// Another replica sent this.
    Packet(Packet),
    /// Something for this peer was dropped: it cannot be reached, or is slow.
    Unreachable(NodeId),
    /// A snapshot's journey ended.
    SnapshotReport {
        /// Who was to get it.
        to: NodeId,
        /// Whether it did.
        outcome: SnapshotOutcome,
    },
}

/// Carries packets. No method may block or wait.
pub trait Transport: Send + 'static {
    /// Begins to deliver what comes in. Called once, inside the runtime, before
    /// anything is sent. `snapshots` has the data of those that are to be sent,
    /// and takes the data of those that arrive.
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange);

    /// Sends a packet, soon, or drops it and reports the peer unreachable.
    /// Snapshots ([`raft_core::Body::Snapshot`], which carry a manifest) come here
    /// too. Their data travels first, from the sender's [`SnapshotExchange`] into
    /// the receiver's, without holding up other packets; then the receiver's
    /// replica gets the message
    /// ([`ReceivedSnapshot::deliver`](crate::snapshot::ReceivedSnapshot::deliver)),
    /// and the sender's a [`Inbound::SnapshotReport`], however it ended.
    fn send(&mut self, to: NodeId, packet: Packet);

    /// Everything of this turn was handed over: write it out.
    fn flush(&mut self) {}

    /// From now on `id` is reached at `address`, in whatever form this
    /// transport understands; `None` forgets it.
    fn set_peer(&mut self, id: NodeId, address: Option<&str>) {
        let _ = (id, address);
    }

    /// `id` was added to the cluster, perhaps after it had been removed.
    fn admit_peer(&mut self, id: NodeId) {
        let _ = id;
    }

    /// `id` was removed from the cluster. It is forgotten, and nothing that comes
    /// in its name is taken any more, until it is added again.
    fn remove_peer(&mut self, id: NodeId) {
        self.set_peer(id, None);
    }

    /// Stops delivering and closes every connection.
    fn stop(&mut self) {}

    /// Asked once, after [`stop`](Self::stop): ends when nothing of this transport
    /// runs any more, no task and no thread, and its addresses are free. A replica
    /// waits for that, for some seconds at most, before it says that it has
    /// stopped.
    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
