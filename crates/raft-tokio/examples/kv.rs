//! A key-value store: durable, networked, linearizable. Start one process for
//! each node, and type `set <key> <value>` or `get <key>` into any of them:
//!
//! ```text
//! cargo run -p raft-tokio --example kv -- 1 /tmp/kv1 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003
//! cargo run -p raft-tokio --example kv -- 2 /tmp/kv2 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003
//! cargo run -p raft-tokio --example kv -- 3 /tmp/kv3 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003
//! ```

use std::{collections::BTreeMap, error::Error, path::Path};

use raft_tokio::{
    NodeId, RaftConfig, SerdeMachine, TcpTransport, TcpTransportConfig, TypedRaft, WalLogStore,
    WalLogStoreOptions,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Store(BTreeMap<String, String>);

#[derive(Serialize, Deserialize)]
struct Set(String, String);

impl SerdeMachine for Store {
    type Command = Set;
    type Reply = Option<String>;

    fn apply(&mut self, Set(key, value): Set) -> Option<String> {
        self.0.insert(key, value)
    }
}

const CLUSTER: u128 = 0x0006_b76e_6f74_7465_6b76;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("{error}"); // a sentence that says what to do
        std::process::exit(1);
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, id, folder, addresses @ ..] = args.as_slice() else {
        return Err("usage: kv <id> <folder> <address of node 1> <address of node 2> ...".into());
    };
    let id: NodeId = id.parse::<u64>()?.try_into()?;
    let ids = (1..).filter_map(NodeId::new);
    let peers: BTreeMap<_, _> = ids.zip(addresses.iter().cloned()).collect();
    let listen = peers.get(&id).ok_or("no address for this node")?.parse()?;
    let config = RaftConfig::new(id, peers.keys().copied().collect());
    let log = WalLogStore::open(Path::new(folder), WalLogStoreOptions::new(CLUSTER, id))?;
    let network = TcpTransportConfig::of(&log, listen);
    let transport = TcpTransport::bind(TcpTransportConfig {
        peers: peers.into_iter().collect(),
        ..network
    })
    .await?;
    let raft = TypedRaft::start(config, Store::default(), log, transport).await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match *line.split_whitespace().collect::<Vec<_>>() {
            ["set", key, value] => match raft.propose(&Set(key.into(), value.into())).await {
                Ok(before) => println!("set, it was {before:?}"),
                Err(error) => println!("error: {error}"),
            },
            ["get", key] => println!("{:?}", raft.read(|store| store.0.get(key).cloned()).await),
            _ => println!("set <key> <value>, or get <key>"),
        }
    }
    raft.raft().shutdown().await;
    Ok(())
}
