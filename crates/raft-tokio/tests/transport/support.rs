//! A transport with somebody at its inbox.

use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, LogIndex, Message, NodeId, Snapshot, SnapshotMetadata, SnapshotOutcome, Term,
};
use raft_tokio::transport::{Inbound, Inbox, Packet, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing in these tests takes this long, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A started transport and the other end of its inbox.
pub(crate) struct End<T> {
    pub(crate) transport: T,
    inbox: mpsc::Receiver<Inbound>,
}

impl<T: Transport> End<T> {
    pub(crate) fn start(transport: T) -> Self {
        Self::with_room(transport, 16_384)
    }

    /// With room for `count` in its inbox.
    pub(crate) fn with_room(mut transport: T, count: usize) -> Self {
        let (sender, inbox) = mpsc::channel(count);
        transport.start(Inbox::new(sender));
        Self { transport, inbox }
    }

    pub(crate) fn send(&mut self, to: NodeId, packet: Packet) {
        self.transport.send(to, packet);
        self.transport.flush();
    }

    /// The next that comes.
    pub(crate) async fn next(&mut self) -> Inbound {
        self.next_within(PATIENCE).await.expect("nothing came")
    }

    pub(crate) async fn next_within(&mut self, limit: Duration) -> Option<Inbound> {
        timeout(limit, self.inbox.recv()).await.ok().flatten()
    }

    /// What is there already.
    pub(crate) fn waiting(&mut self) -> Option<Inbound> {
        self.inbox.try_recv().ok()
    }

    /// The next packet; anything else is passed over.
    pub(crate) async fn packet(&mut self) -> Packet {
        loop {
            if let Inbound::Packet(packet) = self.next().await {
                return packet;
            }
        }
    }

    /// Waits until `id` is reported unreachable.
    pub(crate) async fn unreachable(&mut self, id: NodeId) {
        while !matches!(self.next().await, Inbound::Unreachable(peer) if peer == id) {}
    }

    /// Waits for the end of a snapshot.
    pub(crate) async fn snapshot_outcome(&mut self) -> (NodeId, SnapshotOutcome) {
        loop {
            if let Inbound::SnapshotReport { to, outcome } = self.next().await {
                return (to, outcome);
            }
        }
    }
}

pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A heartbeat that carries a number, so that one can be told from another.
pub(crate) fn heartbeat(from: NodeId, to: NodeId, number: u64) -> Packet {
    Packet::Raft(Message {
        to,
        from,
        term: Term::new(1),
        body: Body::Heartbeat {
            commit: LogIndex::ZERO,
            context: Bytes::copy_from_slice(&number.to_be_bytes()),
        },
    })
}

/// The number that a heartbeat carries.
pub(crate) fn number_of(packet: &Packet) -> u64 {
    let Packet::Raft(Message {
        body: Body::Heartbeat { context, .. },
        ..
    }) = packet
    else {
        panic!("{packet:?} is no heartbeat");
    };
    u64::from_be_bytes(context.as_ref().try_into().unwrap())
}

pub(crate) fn snapshot(from: NodeId, to: NodeId, data: Bytes) -> Packet {
    Packet::Raft(Message {
        to,
        from,
        term: Term::new(3),
        body: Body::Snapshot(Box::new(Snapshot {
            metadata: SnapshotMetadata {
                index: LogIndex::new(7),
                term: Term::new(2),
                conf_state: ConfState::of_voters([from, to]),
            },
            data,
        })),
    })
}
