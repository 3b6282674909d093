//! Three nodes over plain channels: what a user of `Node` has to write.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::core::{
    AppendOutcome, ApplyReceipt, ConfState, Config, Entries, MemoryStorage, Message, StorageAppend,
    StorageWrites,
};
use raft_tokio::{Node, Readys, SharedStorage};
use tokio::sync::mpsc;

use crate::support::{bytes, node_id};

const NODES: u64 = 3;
const PROPOSALS: usize = 100;
const TICK: Duration = Duration::from_millis(10);

/// The wires between the nodes.
type Network = BTreeMap<u64, mpsc::UnboundedSender<Message>>;
/// What a node has applied, in order.
type Applied = mpsc::UnboundedReceiver<Bytes>;

/// What every task that serves one node needs.
#[derive(Clone)]
struct Server {
    node: Node,
    storage: SharedStorage,
    network: Network,
    applied: mpsc::UnboundedSender<Bytes>,
}

impl Server {
    fn send(&self, message: Message) {
        // A node that has ended hears nothing.
        let _ = self.network[&message.to.get()].send(message);
    }

    async fn write(&self, mut append: StorageAppend) {
        let responses = std::mem::take(&mut append.responses);
        self.storage.write(append).expect("the log has no gap");
        for outcome in responses {
            match outcome {
                AppendOutcome::Send(message) => self.send(message),
                AppendOutcome::Receipt(receipt) => {
                    // Fails only on a node that has ended.
                    let _ = self.node.persisted(receipt).await;
                }
            }
        }
    }

    async fn apply(&self, entries: Entries, receipt: Option<ApplyReceipt>) {
        for entry in entries.iter().filter(|entry| !entry.data().is_empty()) {
            // The test may have seen enough.
            let _ = self.applied.send(entry.data().clone());
        }
        if let Some(receipt) = receipt {
            let _ = self.node.applied(receipt).await;
        }
    }

    /// Carries each Ready out before it takes the next.
    async fn run_synchronously(self, mut readys: Readys) {
        while let Some(ready) = readys.next().await {
            for message in ready.messages {
                self.send(message);
            }
            if let Some(append) = ready.append {
                self.write(append).await;
            }
            if let Some(apply) = ready.apply {
                assert!(apply.receipt.is_none(), "a receipt besides an advance");
                self.apply(apply.entries, None).await;
            }
            if self.node.advance().await.is_err() {
                break;
            }
        }
    }

    /// Writes and applies in tasks of their own, each in order.
    async fn run_asynchronously(self, mut readys: Readys) {
        let (writes, mut to_write) = mpsc::unbounded_channel();
        let (applies, mut to_apply) = mpsc::unbounded_channel();
        let writer = self.clone();
        tokio::spawn(async move {
            while let Some(append) = to_write.recv().await {
                writer.write(append).await;
            }
        });
        let applier = self.clone();
        tokio::spawn(async move {
            while let Some((entries, receipt)) = to_apply.recv().await {
                applier.apply(entries, receipt).await;
            }
        });
        while let Some(ready) = readys.next().await {
            for message in ready.messages {
                self.send(message);
            }
            if let Some(append) = ready.append {
                writes.send(append).expect("the writer lives");
            }
            if let Some(apply) = ready.apply {
                assert!(
                    apply.receipt.is_some(),
                    "asynchronous applies have receipts"
                );
                let work = (apply.entries, apply.receipt);
                applies.send(work).expect("the applier lives");
            }
        }
    }
}

/// Starts node `id`, and says what it applies.
fn start(
    id: u64,
    storage_writes: StorageWrites,
    network: &Network,
    mut inbox: mpsc::UnboundedReceiver<Message>,
) -> (Node, Applied) {
    let voters = ConfState::of_voters((1..=NODES).map(node_id));
    let storage = SharedStorage::new(MemoryStorage::with_conf_state(voters));
    // The same elections in every run: the seed is the id.
    let config = Config {
        storage_writes,
        ..Config::protected(node_id(id))
    };
    let (node, readys) = Node::start(config, storage.clone()).expect("the node starts");
    let (applied, applied_by_node) = mpsc::unbounded_channel();
    let server = Server {
        node: node.clone(),
        storage,
        network: network.clone(),
        applied,
    };
    match storage_writes {
        StorageWrites::Synchronous => tokio::spawn(server.run_synchronously(readys)),
        StorageWrites::Asynchronous => tokio::spawn(server.run_asynchronously(readys)),
    };
    let receiver = node.clone();
    tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            // A proposal may have to wait for a leader that the next message
            // announces.
            if matches!(message.body, raft_tokio::core::Body::Propose { .. }) {
                let receiver = receiver.clone();
                tokio::spawn(async move { receiver.step(message).await });
            } else if receiver.step(message).await.is_err() {
                break;
            }
        }
    });
    let ticker = node.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(TICK);
        while ticker.status().await.is_ok() {
            interval.tick().await;
            ticker.tick();
        }
    });
    (node, applied_by_node)
}

async fn elects_replicates_and_applies(storage_writes: StorageWrites) {
    let wires: Vec<_> = (1..=NODES)
        .map(|id| (id, mpsc::unbounded_channel()))
        .collect();
    let network: Network = wires
        .iter()
        .map(|(id, (to, _))| (*id, to.clone()))
        .collect();
    let mut servers: Vec<(Node, Applied)> = wires
        .into_iter()
        .map(|(id, (_, inbox))| start(id, storage_writes, &network, inbox))
        .collect();

    let minute = Duration::from_secs(60);
    // Nobody leads yet; each node has some, so followers pass theirs on.
    let proposals = (0..PROPOSALS).map(|n| {
        let (node, _) = &servers[n % servers.len()];
        node.propose(bytes(n))
    });
    let proposed = tokio::time::timeout(minute, futures::future::join_all(proposals))
        .await
        .expect("a leader within a minute");
    for outcome in proposed {
        outcome.expect("nothing is refused");
    }

    let mut logs = Vec::new();
    for (_, applied) in &mut servers {
        let log = async {
            let mut log = Vec::new();
            while log.len() < PROPOSALS {
                log.push(applied.recv().await.expect("the node runs"));
            }
            log
        };
        let log = tokio::time::timeout(minute, log)
            .await
            .expect("all of them within a minute");
        logs.push(log);
    }
    assert!(logs.iter().all(|log| *log == logs[0]), "{logs:?}");
    let mut seen = logs.swap_remove(0);
    let mut wanted: Vec<Bytes> = (0..PROPOSALS).map(bytes).collect();
    seen.sort();
    wanted.sort();
    assert_eq!(seen, wanted);

    for (node, applied) in &mut servers {
        node.stop().await;
        assert!(applied.try_recv().is_err(), "nothing was applied twice");
    }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_with_synchronous_writes_elect_replicate_and_apply() {
    elects_replicates_and_applies(StorageWrites::Synchronous).await;
}

#[tokio::test(start_paused = true)]
async fn three_nodes_with_asynchronous_writes_elect_replicate_and_apply() {
    elects_replicates_and_applies(StorageWrites::Asynchronous).await;
}
