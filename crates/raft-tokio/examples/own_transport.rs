//! A transport of one's own: channels between three replicas in one process.
//! A real one would encode packets with raft-wire, or in any way of its own.
//!
//! ```text
//! cargo run -p raft-tokio --example own_transport
//! ```

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft_tokio::core::{Body, Message, SnapshotOutcome};
use raft_tokio::snapshot::SnapshotExchange;
use raft_tokio::transport::{Inbound, Inbox, Packet, Transport};
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, NodeId, Raft, RaftConfig, SnapshotJob, SnapshotReader,
    StateMachine,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Packets that may wait for one replica. What does not fit is dropped, which
/// Raft makes up for.
const PACKETS_WAITING_MAX: usize = 1024;

type Wires = HashMap<NodeId, mpsc::Sender<Packet>>;

/// Where each replica takes snapshots in. A real transport has a connection.
type Doors = Arc<Mutex<HashMap<NodeId, Ends>>>;

#[derive(Clone)]
struct Ends {
    inbox: Inbox,
    snapshots: SnapshotExchange,
}

struct ChannelTransport {
    id: NodeId,
    wires: Wires,
    doors: Doors,
    /// `None` once it is served.
    incoming: Option<mpsc::Receiver<Packet>>,
    ends: Option<Ends>,
    /// Everything that runs for this replica.
    tasks: JoinSet<()>,
}

/// A transport for each of these, connected to the others.
fn connect(ids: &[NodeId]) -> Vec<ChannelTransport> {
    let mut wires = Wires::new();
    let doors = Doors::default();
    let mut ends = Vec::new();
    for id in ids {
        let (wire, incoming) = mpsc::channel(PACKETS_WAITING_MAX);
        wires.insert(*id, wire);
        ends.push((*id, incoming));
    }
    let transport = |(id, incoming)| ChannelTransport {
        id,
        wires: wires.clone(),
        doors: doors.clone(),
        incoming: Some(incoming),
        ends: None,
        tasks: JoinSet::new(),
    };
    ends.into_iter().map(transport).collect()
}

/// Takes a snapshot's data over, then its message: whether it got there. Never
/// in the way of other packets, which matter more.
async fn carry(from: &Ends, to: Option<Ends>, message: Message) -> bool {
    let (Some(to), Body::Snapshot(snapshot)) = (to, &message.body) else {
        return false;
    };
    match from.snapshots.copy(snapshot, &to.snapshots).await {
        Ok(received) => received.deliver(&to.inbox, message).await,
        Err(_) => false,
    }
}

impl Transport for ChannelTransport {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        let ends = Ends { inbox, snapshots };
        if let Ok(mut doors) = self.doors.lock() {
            doors.insert(self.id, ends.clone());
        }
        let inbox = ends.inbox.clone();
        self.ends = Some(ends);
        let Some(mut incoming) = self.incoming.take() else {
            return;
        };
        self.tasks.spawn(async move {
            while let Some(packet) = incoming.recv().await {
                // Waits for room, which holds up whoever sends to this replica.
                if !inbox.deliver(Inbound::Packet(packet)).await {
                    break;
                }
            }
        });
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        let Some(ends) = &self.ends else { return };
        match packet {
            Packet::Raft(message) if matches!(message.body, Body::Snapshot(_)) => {
                let door = self.doors.lock().ok();
                let door = door.and_then(|doors| doors.get(&to).cloned());
                let ends = ends.clone();
                while self.tasks.try_join_next().is_some() {}
                self.tasks.spawn(async move {
                    let outcome = if carry(&ends, door, message).await {
                        SnapshotOutcome::Arrived
                    } else {
                        SnapshotOutcome::Failed
                    };
                    // The replica must hear of it, so this waits for room.
                    let report = Inbound::SnapshotReport { to, outcome };
                    ends.inbox.deliver(report).await;
                });
            }
            packet => {
                let wire = self.wires.get(&to);
                if wire.is_none_or(|wire| wire.try_send(packet).is_err()) {
                    ends.inbox.try_deliver(Inbound::Unreachable(to));
                }
            }
        }
    }

    fn stop(&mut self) {
        // The others find their wires to this replica cut.
        self.wires.clear();
        self.ends = None;
        if let Ok(mut doors) = self.doors.lock() {
            doors.remove(&self.id);
        }
        self.tasks.abort_all();
    }

    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut tasks = std::mem::take(&mut self.tasks);
        Box::pin(async move { while tasks.join_next().await.is_some() {} })
    }
}

/// Counts what it is told, and says how often.
#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        self.0 += 1;
        Bytes::from(self.0.to_string())
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::from(self.0.to_string())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::bytes(self.0.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        self.0 = u64::from_le_bytes(snapshot.read_whole()?.as_ref().try_into()?);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
    let mut rafts = Vec::new();
    for (id, transport) in ids.iter().zip(connect(&ids)) {
        let config = RaftConfig::new(*id, ids.clone());
        rafts.push(Raft::start(config, Count::default(), MemoryLogStore::new(), transport).await?);
    }
    rafts[0].campaign().await?;
    for raft in &rafts {
        // Followers pass the command on through the same transport.
        let applied = raft.propose("tick").await?;
        println!("through node {}: {:?}", raft.id(), applied.reply);
    }
    for raft in &rafts {
        println!("node {} has {:?}", raft.id(), raft.query("count").await?);
    }
    for raft in &rafts {
        raft.shutdown().await;
    }
    Ok(())
}
