//! Three low-level nodes whose effects this program carries out itself: it
//! writes, sends and applies what each `Ready` says. For those to whom
//! `Raft` decides too much.
//!
//! ```text
//! cargo run -p raft-tokio --example node
//! ```

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{
    AppendOutcome, ConfState, Config, EntryType, MemoryStorage, Message, NodeId, Ready,
};
use raft_tokio::{BoxError, Node, Readys, SharedStorage};
use tokio::sync::mpsc;

type Wires = HashMap<NodeId, mpsc::Sender<Message>>;

/// One server: a node, and what carries it out.
struct Server {
    node: Node,
    readys: Readys,
    storage: SharedStorage,
    wires: Wires,
    inbox: mpsc::Receiver<Message>,
    applied: mpsc::UnboundedSender<(NodeId, Bytes)>,
}

impl Server {
    async fn run(mut self) -> Result<(), BoxError> {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                _ = ticks.tick() => self.node.tick(),
                Some(message) = self.inbox.recv() => self.node.step(message).await?,
                ready = self.readys.next() => match ready {
                    Some(ready) => self.carry_out(ready).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn carry_out(&self, ready: Ready) -> Result<(), BoxError> {
        for message in ready.messages {
            self.send(message);
        }
        if let Some(mut append) = ready.append {
            let responses = std::mem::take(&mut append.responses);
            // A real server writes to its disk here, and waits if
            // `ready.must_sync` says so. Only then it answers.
            self.storage.write(append)?;
            for outcome in responses {
                match outcome {
                    AppendOutcome::Send(message) => self.send(message),
                    // Receipts come with asynchronous storage writes only.
                    AppendOutcome::Receipt(receipt) => self.node.persisted(receipt).await?,
                }
            }
        }
        let committed = ready.apply.map(|apply| apply.entries).unwrap_or_default();
        for entry in committed.iter() {
            if let Some(change) = entry.conf_change()? {
                self.node.apply_conf_change(change).await?;
            }
            // A new leader begins its term with an entry without content.
            if entry.entry_type() == EntryType::Normal && !entry.data().is_empty() {
                // Nobody listens any more when the program ends.
                let _ = self.applied.send((self.node.id(), entry.data().clone()));
            }
        }
        self.node.advance().await?;
        Ok(())
    }

    fn send(&self, message: Message) {
        if let Some(wire) = self.wires.get(&message.to) {
            // What does not fit is lost; Raft sends it again.
            let _ = wire.try_send(message);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
    let mut wires = Wires::new();
    let mut inboxes = Vec::new();
    for id in &ids {
        let (wire, inbox) = mpsc::channel(1024);
        wires.insert(*id, wire);
        inboxes.push(inbox);
    }
    let (applied, mut results) = mpsc::unbounded_channel();
    let mut nodes = Vec::new();
    for (id, inbox) in ids.iter().zip(inboxes) {
        let members = ConfState::of_voters(ids.iter().copied());
        let storage = SharedStorage::new(MemoryStorage::with_conf_state(members));
        let (node, readys) = Node::start(Config::protected(*id), storage.clone())?;
        nodes.push(node.clone());
        let server = Server {
            node,
            readys,
            storage,
            wires: wires.clone(),
            inbox,
            applied: applied.clone(),
        };
        tokio::spawn(server.run());
    }
    nodes[0].campaign().await?;
    // Waits until somebody leads.
    nodes[0].propose(Bytes::from_static(b"hello")).await?;
    for _ in &ids {
        let (id, data) = results.recv().await.ok_or("every server has ended")?;
        println!("node {id} applied {data:?}");
    }
    for node in &nodes {
        node.stop().await;
    }
    Ok(())
}
