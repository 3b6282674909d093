//! The TCP transport on loopback: packets that arrive per second, and one there
//! and back.

mod short;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::two_threads;
use raft_core::{Body, Entries, Entry, EntryId, LogIndex, Message, NodeId, Term};
use raft_tokio::snapshot::{MemorySnapshots, SnapshotExchange};
use raft_tokio::transport::{Inbound, Inbox, Packet};
use raft_tokio::{TcpTransport, TcpTransportConfig, Transport};
use tokio::sync::{Semaphore, mpsc};

const CLUSTER: u128 = 1;
const PACKETS_WAITING_MAX: usize = 4096;
/// Packets handed over in one turn, as a replica does under load.
const PACKETS_PER_FLUSH: u64 = 16;
const PACKETS_UNDER_WAY_MAX: usize = 512;
const PAYLOAD: Bytes = Bytes::from_static(&[7; 256]);

struct End {
    id: NodeId,
    transport: TcpTransport,
    inbox: mpsc::Receiver<Inbound>,
}

impl End {
    async fn bind(number: u64) -> Self {
        let id = NodeId::new(number).expect("a node id");
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = TcpTransportConfig::new(id, CLUSTER, 1, anywhere);
        let transport = TcpTransport::bind(config).await.expect("a free port");
        let (sender, inbox) = mpsc::channel(PACKETS_WAITING_MAX);
        let mut end = Self {
            id,
            transport,
            inbox,
        };
        let snapshots = SnapshotExchange::new(Arc::new(MemorySnapshots::new()));
        end.transport.start(Inbox::new(sender), snapshots);
        end
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.transport.send(to, Packet::Raft(message));
    }

    async fn packet(&mut self) {
        loop {
            match self.inbox.recv().await.expect("the transport runs") {
                Inbound::Packet(_) => return,
                Inbound::Unreachable(_) | Inbound::SnapshotReport { .. } => {}
            }
        }
    }
}

fn append(from: NodeId, to: NodeId) -> Message {
    let entry = Entry::normal(Term::new(1), LogIndex::new(1), PAYLOAD);
    Message {
        to,
        from,
        term: Term::new(1),
        body: Body::Append {
            prev: EntryId::default(),
            entries: Entries::from(entry),
            commit: LogIndex::ZERO,
        },
    }
}

/// Two ends that have spoken to each other.
async fn connected() -> (End, End) {
    let (mut one, mut two) = (End::bind(1).await, End::bind(2).await);
    let (address_one, address_two) = (one.transport.local_addr(), two.transport.local_addr());
    one.transport
        .set_peer(two.id, Some(&address_two.to_string()));
    two.transport
        .set_peer(one.id, Some(&address_one.to_string()));
    // What is sent before the connection stands may be dropped.
    loop {
        let (from, to) = (one.id, two.id);
        one.send(to, append(from, to));
        one.transport.flush();
        let wait = Duration::from_millis(50);
        if tokio::time::timeout(wait, two.packet()).await.is_ok() {
            return (one, two);
        }
    }
}

fn loopback(c: &mut Criterion) {
    let runtime = two_threads();
    let mut group = c.benchmark_group("transport, TCP on loopback");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a stream of appends of 256 B", |b| {
        b.iter_custom(|packets| {
            let load = async move {
                let (mut one, mut two) = connected().await;
                let (from, to) = (one.id, two.id);
                let room = Arc::new(Semaphore::new(PACKETS_UNDER_WAY_MAX));
                let begin = Instant::now();
                let receiver = tokio::spawn({
                    let room = room.clone();
                    async move {
                        for _ in 0..packets {
                            two.packet().await;
                            room.add_permits(1);
                        }
                    }
                });
                let mut sent = 0;
                while sent < packets {
                    let now = PACKETS_PER_FLUSH.min(packets - sent);
                    // What is under way fits all queues, so none is dropped.
                    let count = u32::try_from(now).expect("few");
                    let permits = room.acquire_many(count).await.expect("it stays open");
                    permits.forget();
                    for _ in 0..now {
                        one.send(to, append(from, to));
                    }
                    one.transport.flush();
                    sent += now;
                }
                receiver.await.expect("every packet comes");
                begin.elapsed()
            };
            runtime.block_on(runtime.spawn(load)).expect("it runs")
        });
    });
    group.bench_function("one there and back", |b| {
        b.iter_custom(|rounds| {
            let load = async move {
                let (mut one, mut two) = connected().await;
                let (first, second) = (one.id, two.id);
                two.send(first, append(second, first));
                two.transport.flush();
                one.packet().await;
                let begin = Instant::now();
                for _ in 0..rounds {
                    one.send(second, append(first, second));
                    one.transport.flush();
                    two.packet().await;
                    two.send(first, append(second, first));
                    two.transport.flush();
                    one.packet().await;
                }
                begin.elapsed()
            };
            runtime.block_on(runtime.spawn(load)).expect("it runs")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = loopback
}
criterion_main!(benches);
