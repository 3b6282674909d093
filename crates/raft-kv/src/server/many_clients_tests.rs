//! Many connections that are slow at once, and the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::{Peer, SlowMachine, paused};
use super::*;

const MEMORY_BYTES: usize = 4 << 20;
const VALUE_BYTES: usize = 300 << 10;
const CLIENTS: usize = 100;

/// A machine that has one large value, and clients with little memory.
struct Node {
    machine: SlowMachine,
    memory: Memory,
    /// How much was taken at the most.
    peak: Arc<AtomicUsize>,
}

impl Node {
    async fn new() -> Self {
        let memory = Memory::new(MEMORY_BYTES);
        let machine = SlowMachine::within(memory.clone(), vec![1]);
        let mut peer = Peer::connect(machine.clone(), 1 << 20);
        peer.send(set("a").as_bytes()).await;
        assert_eq!(peer.rest().await.0, "+OK\r\n");
        let peak = Arc::default();
        tokio::spawn({
            let (memory, peak) = (memory.clone(), Arc::clone(&peak));
            async move {
                loop {
                    let peak: &AtomicUsize = &peak;
                    peak.fetch_max(memory.bytes(), Ordering::Relaxed);
                    sleep(Duration::from_millis(25)).await;
                }
            }
        });
        Self {
            machine,
            memory,
            peak,
        }
    }

    fn connect(&self, pipe_bytes: usize) -> Peer {
        let limits = ClientLimits::default();
        Peer::connect_within(
            self.machine.clone(),
            pipe_bytes,
            limits,
            self.memory.clone(),
        )
    }

    /// A client that holds little is served at once, whatever the others do.
    async fn serves_who_holds_little(&self) {
        let mut peer = self.connect(1 << 16);
        peer.send(b"SET b 1\r\nPING\r\n").await;
        let mut written = [0; 12];
        let answered = timeout(Duration::from_secs(1), peer.stream.read_exact(&mut written));
        answered.await.expect("in a second").unwrap();
        assert_eq!(&written, b"+OK\r\n+PONG\r\n");
        peer.send(b"GET b\r\n").await;
        let answered = timeout(Duration::from_secs(1), peer.rest()).await;
        assert_eq!(answered.expect("in a second").0, "$1\r\n1\r\n");
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

fn set(key: &str) -> String {
    let value = "v".repeat(VALUE_BYTES);
    format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n${VALUE_BYTES}\r\n{value}\r\n")
}

#[test]
fn many_who_take_no_replies_hold_what_the_node_allows_and_are_let_go() {
    paused(async {
        let node = Node::new().await;
        let mut slow = Vec::new();
        for _ in 0..CLIENTS {
            let mut peer = node.connect(64);
            // It takes some of a reply, and neither goes on nor hangs up.
            peer.send("GET a\r\n".repeat(5).as_bytes()).await;
            slow.push(peer);
        }
        sleep(Duration::from_secs(5)).await;
        assert!(node.memory.is_full(), "{:?}", node.memory);
        for _ in 0..10 {
            node.serves_who_holds_little().await;
        }
        for mut peer in slow {
            let ended = timeout(Duration::from_secs(3600), peer.end()).await;
            assert_eq!(ended.expect("it is let go"), Closed::Stalled);
        }
        // Each connection takes what it is given before it is counted again.
        assert!(
            node.peak() < MEMORY_BYTES + (1 << 20),
            "{} bytes at the most",
            node.peak()
        );
        assert_eq!(node.memory.bytes(), 0);
        // All is as before.
        let mut peer = node.connect(1 << 20);
        peer.send(b"GET a\r\n").await;
        assert!(peer.rest().await.0.len() > VALUE_BYTES);
    });
}

#[test]
fn many_who_send_large_requests_slowly_hold_what_the_node_allows() {
    paused(async {
        let node = Node::new().await;
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let mut peer = node.connect(1 << 10);
            tasks.push(tokio::spawn(async move {
                let request = set("c");
                // All but the end, and a little at a time.
                for piece in request.as_bytes()[..VALUE_BYTES].chunks(1 << 12) {
                    let sent = peer.stream.write_all(piece).await;
                    if sent.is_err() {
                        break;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                peer.end().await
            }));
        }
        sleep(Duration::from_secs(20)).await;
        node.serves_who_holds_little().await;
        for task in tasks {
            let ended = timeout(Duration::from_secs(3600), task).await;
            assert_eq!(ended.expect("it is let go").unwrap(), Closed::Stalled);
        }
        let own = CLIENTS * READ_BYTES;
        assert!(
            node.peak() < MEMORY_BYTES + own,
            "{} bytes at the most",
            node.peak()
        );
        assert_eq!(node.memory.bytes(), 0);
    });
}

#[test]
fn whoever_takes_a_byte_now_and_then_does_not_keep_the_room_of_others() {
    paused(async {
        let node = Node::new().await;
        let mut slow = Vec::new();
        for _ in 0..CLIENTS {
            let mut peer = node.connect(64);
            slow.push(tokio::spawn(async move {
                peer.send(b"GET a\r\nGET a\r\n").await;
                let mut byte = [0];
                // Often enough for whoever looks at one client alone.
                while peer.stream.read_exact(&mut byte).await.is_ok() {
                    sleep(Duration::from_secs(10)).await;
                }
                peer.end().await
            }));
        }
        sleep(Duration::from_secs(5)).await;
        assert!(node.memory.is_full(), "{:?}", node.memory);
        let mut peer = node.connect(1 << 20);
        // It waits for room, and gets it.
        peer.send(b"GET a\r\n").await;
        let answered = timeout(Duration::from_secs(3600), peer.rest()).await;
        assert!(answered.expect("in an hour").0.len() > VALUE_BYTES);
        drop(slow);
    });
}

#[test]
fn writes_that_show_values_wait_for_room_for_them_or_are_refused() {
    paused(async {
        let node = Node::new().await;
        let held = node.memory.take(MEMORY_BYTES);
        let mut refused = node.connect(1 << 20);
        refused.send(b"SET b 2\r\nGET a\r\n").await;
        let (replies, _) = refused.rest().await;
        assert_eq!(replies.matches("-TRYAGAIN ").count(), 2, "{replies}");
        let mut waiting = node.connect(1 << 20);
        waiting.send(b"SET b 3\r\nGET a\r\n").await;
        sleep(Duration::from_secs(1)).await;
        drop(held);
        let (replies, _) = waiting.rest().await;
        assert!(replies.starts_with("+OK\r\n$"), "{}", &replies[..20]);
        assert_eq!(node.memory.bytes(), 0);
    });
}
