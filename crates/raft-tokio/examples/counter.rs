//! A counter on one node, in memory: the smallest replica there is.
//!
//! ```text
//! cargo run -p raft-tokio --example counter
//! ```

use raft_tokio::{MemoryLogStore, MemoryNetwork, NodeId, RaftConfig, SerdeMachine, TypedRaft};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    value: i64,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Add(i64),
    Reset,
}

impl SerdeMachine for Counter {
    type Command = Command;
    type Reply = i64;

    fn apply(&mut self, command: Command) -> i64 {
        self.value = match command {
            Command::Add(by) => self.value.saturating_add(by),
            Command::Reset => 0,
        };
        self.value
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = NodeId::new(1).ok_or("ids begin at 1")?;
    let config = RaftConfig::new(id, vec![id]);
    let transport = MemoryNetwork::new().join(id);
    let raft =
        TypedRaft::start(config, Counter::default(), MemoryLogStore::new(), transport).await?;
    // It would campaign by itself after an election timeout.
    raft.raft().campaign().await?;

    println!("add 40: {}", raft.propose(&Command::Add(40)).await?);
    println!("add 2: {}", raft.propose(&Command::Add(2)).await?);
    println!("read: {}", raft.read(|counter| counter.value).await?);
    println!("reset: {}", raft.propose(&Command::Reset).await?);
    raft.raft().shutdown().await;
    Ok(())
}
