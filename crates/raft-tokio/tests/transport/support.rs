//! A transport with somebody at its inbox.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Body, ConfState, EntryId, LogIndex, Message, NodeId, Snapshot, SnapshotMetadata,
    SnapshotOutcome, Term,
};
use raft_tokio::AddressBook;
use raft_tokio::snapshot::{
    Fate, MemorySnapshots, SnapshotExchange, SnapshotManifest, SnapshotStorage,
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
    snapshots: SnapshotExchange,
    storage: MemorySnapshots,
}

impl<T: Transport> End<T> {
    pub(crate) fn start(transport: T) -> Self {
        Self::with_room(transport, 16_384)
    }

    /// With room for `count` in its inbox.
    pub(crate) fn with_room(transport: T, count: usize) -> Self {
        Self::with(transport, count, MemorySnapshots::new())
    }

    /// With what an earlier self has stored.
    pub(crate) fn start_with(transport: T, storage: MemorySnapshots) -> Self {
        Self::with(transport, 16_384, storage)
    }

    fn with(mut transport: T, count: usize, storage: MemorySnapshots) -> Self {
        let (sender, inbox) = mpsc::channel(count);
        let snapshots = SnapshotExchange::new(Arc::new(storage.clone()));
        transport.start(Inbox::new(sender), snapshots.clone());
        Self {
            transport,
            inbox,
            snapshots,
            storage,
        }
    }

    /// Sends a snapshot whose data is stored here, from `from` to `to`.
    pub(crate) fn send_snapshot(&mut self, from: NodeId, to: NodeId, data: &Bytes) {
        let mut sink = self
            .storage
            .create(&metadata(from, to), &AddressBook::default())
            .unwrap();
        sink.write_all(data).unwrap();
        sink.finish().unwrap();
        self.send(to, snapshot(from, to, data));
    }

    /// What is stored, once so much of a snapshot has arrived.
    pub(crate) async fn storage_with_part(&self, bytes: u64) -> MemorySnapshots {
        while self.storage.arriving_bytes() != bytes {
            tokio::task::yield_now().await;
        }
        self.storage.clone()
    }

    /// The data of a snapshot that arrived, or was sent.
    pub(crate) fn snapshot_data(&self) -> Bytes {
        let stored = self.storage.open(SNAPSHOT_ID).unwrap();
        let mut data = vec![0; usize::try_from(stored.manifest.data_bytes).unwrap()];
        stored.data.read_exact_at(&mut data, 0).unwrap();
        data.into()
    }

    /// Forgets the snapshot that arrived, as a replica does that does not need
    /// it.
    pub(crate) async fn refuse_snapshot(&mut self) {
        self.snapshots.settle(SNAPSHOT_ID, Fate::Refused);
        while self.storage.open(SNAPSHOT_ID).is_ok() {
            tokio::task::yield_now().await;
        }
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

const SNAPSHOT_ID: EntryId = EntryId::new(Term::new(2), LogIndex::new(7));

fn metadata(from: NodeId, to: NodeId) -> SnapshotMetadata {
    SnapshotMetadata {
        index: SNAPSHOT_ID.index,
        term: SNAPSHOT_ID.term,
        conf_state: ConfState::of_voters([from, to]),
    }
}

/// The message about a snapshot of this data.
pub(crate) fn snapshot(from: NodeId, to: NodeId, data: &[u8]) -> Packet {
    let snapshot: Snapshot = SnapshotManifest::of_data(data).snapshot(metadata(from, to));
    Packet::Raft(Message {
        to,
        from,
        term: Term::new(3),
        body: Body::Snapshot(Box::new(snapshot)),
    })
}
