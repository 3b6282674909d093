//! # raft-tokio under the handle load
//!
//! The replicas of our own benches: `MemoryNetwork`, `MemoryLogStore`, and a state
//! machine that counts.

use std::time::Duration;

use raft_benches::start_in_memory;
use raft_tokio::Raft;

use crate::handle_load::{Client, Layout, PAYLOAD, Runtimes};

impl Client for Raft {
    async fn command(&self) {
        self.propose(PAYLOAD).await.expect("it is committed");
    }
}

pub fn measure(layout: Layout, members: u64, clients: usize, time: Duration) -> f64 {
    let runtimes = Runtimes::new(layout);
    let rafts = runtimes
        .servers
        .block_on(runtimes.servers.spawn(start_in_memory(members)))
        .expect("a cluster");
    let rate = runtimes.drive(clients, time, &rafts[0]);
    runtimes.servers.block_on(async {
        for raft in rafts {
            raft.shutdown().await;
        }
    });
    rate
}
