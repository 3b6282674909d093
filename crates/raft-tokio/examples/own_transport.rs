//! A transport of one's own: channels between three replicas in one process.
//! A real one would encode packets with raft-wire, or in any way of its own.
//!
//! ```text
//! cargo run -p raft-tokio --example own_transport
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use raft_tokio::core::{Body, SnapshotOutcome};
use raft_tokio::transport::{Inbound, Inbox, Packet, Transport};
use raft_tokio::{
    BoxError, LogIndex, MemoryLogStore, NodeId, Raft, RaftConfig, SnapshotJob, StateMachine,
};
use tokio::sync::mpsc;

/// Packets that may wait for one replica. What does not fit is dropped, which
/// Raft makes up for.
const PACKETS_WAITING_MAX: usize = 1024;

type Wires = HashMap<NodeId, mpsc::Sender<Packet>>;

struct ChannelTransport {
    wires: Wires,
    /// `None` once it is served.
    incoming: Option<mpsc::Receiver<Packet>>,
    inbox: Option<Inbox>,
}

/// A transport for each of these, connected to the others.
fn connect(ids: &[NodeId]) -> Vec<ChannelTransport> {
    let mut wires = Wires::new();
    let mut ends = Vec::new();
    for id in ids {
        let (wire, incoming) = mpsc::channel(PACKETS_WAITING_MAX);
        wires.insert(*id, wire);
        ends.push(incoming);
    }
    let transport = |incoming| ChannelTransport {
        wires: wires.clone(),
        incoming: Some(incoming),
        inbox: None,
    };
    ends.into_iter().map(transport).collect()
}

impl Transport for ChannelTransport {
    fn start(&mut self, inbox: Inbox) {
        self.inbox = Some(inbox.clone());
        let Some(mut incoming) = self.incoming.take() else {
            return;
        };
        tokio::spawn(async move {
            while let Some(packet) = incoming.recv().await {
                // Waits for room, which holds up whoever sends to this replica.
                if !inbox.deliver(Inbound::Packet(packet)).await {
                    break;
                }
            }
        });
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        let is_snapshot =
            matches!(&packet, Packet::Raft(message) if matches!(message.body, Body::Snapshot(_)));
        let sent = self
            .wires
            .get(&to)
            .is_some_and(|wire| wire.try_send(packet).is_ok());
        let Some(inbox) = &self.inbox else { return };
        if !sent {
            inbox.try_deliver(Inbound::Unreachable(to));
        }
        if is_snapshot {
            let outcome = if sent {
                SnapshotOutcome::Arrived
            } else {
                SnapshotOutcome::Failed
            };
            // The replica must hear of it, so this waits for room.
            let inbox = inbox.clone();
            tokio::spawn(async move {
                inbox.deliver(Inbound::SnapshotReport { to, outcome }).await;
            });
        }
    }

    fn stop(&mut self) {
        // The others find their wires to this replica cut.
        self.wires.clear();
        self.inbox = None;
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
        let count = self.0;
        Box::new(move || Ok(Bytes::copy_from_slice(&count.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: Bytes) -> Result<(), BoxError> {
        self.0 = u64::from_le_bytes(snapshot.as_ref().try_into()?);
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
