//! The service as its clients see it: one node in this process, on loopback, its
//! log on the disk and every write synced. Each client awaits its reply before it
//! sends the next request. Three nodes of their own processes are what
//! `raft-kv bench` measures.

mod short;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::two_threads;
use raft_kv::client::Client;
use raft_kv::resp::Reply;
use raft_kv::serve::{NodeConfig, serve};
use raft_kv::server::ClientLimits;
use raft_tokio::{NodeId, RaftConfig};
use tokio::sync::watch;

const KEYS: u64 = 10_000;
const VALUE: [u8; 256] = [b'v'; 256];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Workload {
    Set,
    Get,
}

/// A port of loopback that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it has an address")
}

fn config(data: &std::path::Path) -> NodeConfig {
    let id = NodeId::new(1).expect("a node id");
    NodeConfig {
        raft: RaftConfig::new(id, vec![id]),
        cluster_id: 1,
        data: data.to_owned(),
        listen_peer: free_address(),
        listen_client: free_address(),
        listen_http: None,
        peers: Vec::new(),
        clients: ClientLimits::default(),
        request_timeout: Duration::from_secs(10),
    }
}

/// A connection to the node, once it leads.
async fn connected(address: SocketAddr) -> Client {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(mut client) = Client::connect(address).await
            && let Ok(reply) = client.request(&[b"SET", b"ready", b"1"]).await
            && !matches!(reply, Reply::Error(_))
        {
            return client;
        }
        assert!(Instant::now() < deadline, "the node does not answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run_client(client: &mut Client, number: u64, requests: u64, workload: Workload) {
    for request in 0..requests {
        let key = format!("key:{:012}", (number * 7919 + request) % KEYS);
        let reply = match workload {
            Workload::Set => client.request(&[b"SET", key.as_bytes(), &VALUE]).await,
            Workload::Get => client.request(&[b"GET", key.as_bytes()]).await,
        };
        let reply = reply.expect("the node answers");
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
    }
}

/// Has every client send so many requests.
async fn run_clients(clients: Vec<Client>, requests: u64, workload: Workload) -> Vec<Client> {
    let tasks: Vec<_> = (0..)
        .zip(clients)
        .map(|(number, mut client)| {
            tokio::spawn(async move {
                run_client(&mut client, number, requests, workload).await;
                client
            })
        })
        .collect();
    let mut clients = Vec::with_capacity(tasks.len());
    for task in tasks {
        clients.push(task.await.expect("a client gets its replies"));
    }
    clients
}

fn requests(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let runtime = two_threads();
    let config = config(folder.path());
    let address = config.listen_client;
    let (stop, stopped) = watch::channel(false);
    let node = runtime.spawn(serve(config, stopped));

    let mut group = c.benchmark_group("service, one node on loopback");
    group.throughput(Throughput::Elements(1));
    for (name, workload) in [("SET", Workload::Set), ("GET", Workload::Get)] {
        for count in [1_u64, 64] {
            let mut clients: Vec<Client> = runtime.block_on(async {
                let mut clients = Vec::new();
                for _ in 0..count {
                    clients.push(connected(address).await);
                }
                clients
            });
            group.bench_function(format!("{name} of 256 B, {count} clients"), |b| {
                b.iter_custom(|requests| {
                    // Some rounds of all clients, or few would run at a time.
                    let each = requests.div_ceil(count).max(4);
                    let ready = std::mem::take(&mut clients);
                    let load = async move {
                        let begin = Instant::now();
                        let clients = run_clients(ready, each, workload).await;
                        (clients, begin.elapsed())
                    };
                    let (back, elapsed) = runtime.block_on(runtime.spawn(load)).expect("it runs");
                    clients = back;
                    elapsed.mul_f64(ratio(requests, count * each))
                });
            });
        }
    }
    group.finish();

    stop.send(true).expect("the node runs");
    let served = runtime.block_on(node).expect("the node does not panic");
    served.expect("the node stops in order");
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = requests
}
criterion_main!(benches);
