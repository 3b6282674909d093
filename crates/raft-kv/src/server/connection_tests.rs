//! Connections over an in-memory pipe, in front of a machine that answers when
//! it likes. Time is paused: nothing waits for real.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::machine::{Answers, KvMachine};
use crate::resp::{Reply, parse_reply, put_request};
use crate::server::Refusal;
use bytes::Bytes;

/// Does writes in the order in which they were begun, and takes its time.
#[derive(Clone)]
pub(super) struct SlowMachine {
    machine: Arc<tokio::sync::Mutex<KvMachine>>,
    delays_ms: Arc<Mutex<std::iter::Cycle<std::vec::IntoIter<u64>>>>,
    /// How many operations each call had.
    batches: Arc<Mutex<Vec<usize>>>,
    refusal: Option<Refusal>,
    /// What the machine finds room in.
    memory: Memory,
}

impl SlowMachine {
    fn new(delays_ms: Vec<u64>) -> Self {
        Self::within(Memory::default(), delays_ms)
    }

    pub(super) fn within(memory: Memory, delays_ms: Vec<u64>) -> Self {
        let machine = KvMachine::within(memory.clone());
        Self {
            memory,
            machine: Arc::new(tokio::sync::Mutex::new(machine)),
            delays_ms: Arc::new(Mutex::new(delays_ms.into_iter().cycle())),
            batches: Arc::default(),
            refusal: None,
        }
    }

    fn refusing(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::new(vec![0])
        }
    }

    fn delay(&self) -> Duration {
        let next = self.delays_ms.lock().unwrap().next();
        Duration::from_millis(next.unwrap_or(0))
    }

    fn note(&self, batch: &Bytes) {
        let len = Batch::operations(batch).unwrap().len();
        self.batches.lock().unwrap().push(len);
    }
}

impl Backend for SlowMachine {
    fn write(
        &self,
        batch: BytesMut,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send + 'static {
        let this = self.clone();
        let batch = batch.freeze();
        async move {
            this.note(&batch);
            // Locks are given out in the order in which they were asked for.
            let mut machine = this.machine.lock().await;
            sleep(this.delay()).await;
            match this.refusal {
                Some(refusal) => Err(refusal),
                None => Ok(machine.apply_batch(&batch)),
            }
        }
    }

    fn read(
        &self,
        batch: Bytes,
    ) -> impl Future<Output = Result<(Bytes, usize), Refusal>> + Send + 'static {
        let this = self.clone();
        async move {
            this.note(&batch);
            sleep(this.delay()).await;
            if let Some(refusal) = this.refusal {
                return Err(refusal);
            }
            loop {
                let answer = this.machine.lock().await.answer(&batch);
                match Answers::decode(answer).unwrap() {
                    (_, 0) => {
                        this.memory.something_left().await;
                        sleep(Duration::from_millis(20)).await;
                    }
                    answers => return Ok(answers),
                }
            }
        }
    }

    fn info(&self) -> String {
        "# Raft".into()
    }
}

pub(super) struct Peer {
    pub(super) stream: DuplexStream,
    pub(super) task: JoinHandle<io::Result<Closed>>,
    stop: watch::Sender<bool>,
}

impl Peer {
    pub(super) fn connect(backend: SlowMachine, pipe_bytes: usize) -> Self {
        Self::connect_with(backend, pipe_bytes, ClientLimits::default())
    }

    fn connect_with(backend: SlowMachine, pipe_bytes: usize, limits: ClientLimits) -> Self {
        Self::connect_within(backend, pipe_bytes, limits, Memory::default())
    }

    pub(super) fn connect_within(
        backend: SlowMachine,
        pipe_bytes: usize,
        limits: ClientLimits,
        memory: Memory,
    ) -> Self {
        let (stream, server) = duplex(pipe_bytes);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(server);
            Connection::new(ClientSession::new(1), backend, limits, memory)
                .run(reader, writer, stopped)
                .await
        });
        Self { stream, task, stop }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Why the server ended the connection, by itself.
    pub(super) async fn end(&mut self) -> Closed {
        let task = &mut self.task;
        task.await.unwrap().unwrap()
    }

    /// Everything until the server closes, and why it did.
    pub(super) async fn rest(mut self) -> (String, Closed) {
        self.stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        self.stream.read_to_end(&mut all).await.unwrap();
        let closed = self.task.await.unwrap().unwrap();
        (String::from_utf8(all).unwrap(), closed)
    }
}

pub(super) fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

#[test]
fn a_pipeline_is_one_batch_and_is_answered_in_order() {
    paused(async {
        let backend = SlowMachine::new(vec![5]);
        let mut peer = Peer::connect(backend.clone(), 1 << 16);
        peer.send(b"SET a 1\r\nGET a\r\nINCR a\r\nGET a\r\n").await;
        let (replies, closed) = peer.rest().await;
        assert_eq!(replies, "+OK\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n");
        assert_eq!(closed, Closed::Finished);
        assert_eq!(*backend.batches.lock().unwrap(), [4]);
    });
}

#[test]
fn answers_that_need_no_machine_keep_their_place() {
    paused(async {
        // The read is held behind the write, and the ping behind the read.
        let mut peer = Peer::connect(SlowMachine::new(vec![50]), 1 << 16);
        peer.send(b"SET a 1\r\nPING\r\nGET a\r\nPING\r\nGET a\r\nECHO end\r\n")
            .await;
        let (replies, _) = peer.rest().await;
        let expected = "+OK\r\n+PONG\r\n$1\r\n1\r\n+PONG\r\n$1\r\n1\r\n$3\r\nend\r\n";
        assert_eq!(replies, expected);
    });
}

#[test]
fn a_page_in_a_browser_cannot_make_requests() {
    paused(async {
        let backend = SlowMachine::new(vec![1]);
        for head in [
            "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            let mut peer = Peer::connect(backend.clone(), 1 << 16);
            peer.send(format!("{head}SET pwned yes\r\n").as_bytes())
                .await;
            let (replies, closed) = peer.rest().await;
            assert!(replies.ends_with("and not HTTP\r\n"), "{replies}");
            assert_eq!(closed, Closed::Misbehaved);
        }
        assert!(backend.batches.lock().unwrap().is_empty());
    });
}

/// A value of which three are too much for the replies to a batch.
fn large_value() -> String {
    "v".repeat(6 << 20)
}

#[test]
fn values_that_are_too_much_at_once_are_read_one_after_the_other() {
    paused(async {
        let backend = SlowMachine::new(vec![1]);
        let value = large_value();
        let mut peer = Peer::connect(backend.clone(), 1 << 16);
        let limits = ClientLimits::default().request;
        assert!(value.len() > limits.argument_bytes);
        // Values may be longer than what a client can send at once.
        for _ in 0..6 {
            let part = "v".repeat(1 << 20);
            let append = format!(
                "*3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n${}\r\n{part}\r\n",
                part.len()
            );
            peer.send(append.as_bytes()).await;
        }
        backend.batches.lock().unwrap().clear();
        peer.send("GET a\r\n".repeat(7).as_bytes()).await;
        peer.send(b"PING\r\n").await;
        let (replies, closed) = peer.rest().await;
        assert_eq!(closed, Closed::Finished);
        let shown = format!("${}\r\n{value}\r\n", value.len());
        assert_eq!(replies.matches(&shown).count(), 7);
        assert!(
            replies.ends_with("+PONG\r\n"),
            "the answer behind the reads comes last"
        );
        let batches = backend.batches.lock().unwrap();
        let of_reads = &batches[batches.len() - 3..];
        assert_eq!(of_reads, [7, 4, 1]);
    });
}

#[test]
fn nothing_more_is_read_for_whoever_takes_no_replies() {
    paused(async {
        let backend = SlowMachine::new(vec![1]);
        let mut peer = Peer::connect(backend.clone(), 64);
        let part = "v".repeat(1 << 20);
        for _ in 0..6 {
            let append = format!(
                "*3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n${}\r\n{part}\r\n",
                part.len()
            );
            peer.send(append.as_bytes()).await;
            let mut line = [0; 10];
            peer.stream.read_exact(&mut line).await.unwrap();
        }
        backend.batches.lock().unwrap().clear();
        // It is closed before all of it was taken.
        let asked = "GET a\r\n".repeat(100);
        let _ = peer.stream.write_all(asked.as_bytes()).await;
        assert_eq!(peer.task.await.unwrap().unwrap(), Closed::Stalled);
        // Nine requests come at once, and three values are a portion.
        assert_eq!(*backend.batches.lock().unwrap(), [9, 6]);
    });
}

#[test]
fn every_request_of_a_refused_batch_is_told_so() {
    paused(async {
        let refusal = Refusal::Uncertain("no reply came".into());
        let mut peer = Peer::connect(SlowMachine::refusing(refusal), 1 << 16);
        peer.send(b"SET a 1\r\nSET b 2\r\nPING\r\n").await;
        let (replies, _) = peer.rest().await;
        let uncertain = "-UNCERTAIN no reply came; the write may or may not have been made, \
                         read before you repeat it\r\n";
        assert_eq!(replies, format!("{uncertain}{uncertain}+PONG\r\n"));
    });
}

#[test]
fn whoever_sends_no_request_is_told_and_let_go() {
    paused(async {
        let mut peer = Peer::connect(SlowMachine::new(vec![5]), 1 << 16);
        peer.send(b"SET a 1\r\n*1\r\n$99999999999\r\n").await;
        let (replies, closed) = peer.rest().await;
        assert!(replies.starts_with("+OK\r\n-ERR Protocol error: argument too large"));
        assert_eq!(closed, Closed::Misbehaved);
    });
}

#[test]
fn whoever_does_not_finish_a_request_is_let_go() {
    paused(async {
        let mut peer = Peer::connect(SlowMachine::new(vec![0]), 1 << 16);
        peer.send(b"PING\r\n*2\r\n$3\r\nGE").await;
        let mut pong = [0; 7];
        peer.stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(peer.task.await.unwrap().unwrap(), Closed::Stalled);
    });
}

#[test]
fn whoever_takes_no_replies_is_let_go() {
    paused(async {
        let mut peer = Peer::connect(SlowMachine::new(vec![0]), 64);
        for _ in 0..64 {
            let sent = peer.stream.write_all(b"ECHO 0123456789\r\n");
            if timeout(Duration::from_secs(1), sent).await.is_err() {
                break;
            }
        }
        assert_eq!(peer.task.await.unwrap().unwrap(), Closed::Stalled);
    });
}

#[test]
fn whoever_is_silent_between_requests_stays() {
    paused(async {
        let mut peer = Peer::connect(SlowMachine::new(vec![0]), 1 << 16);
        peer.send(b"PING\r\n").await;
        sleep(Duration::from_secs(3600)).await;
        peer.send(b"PING\r\n").await;
        assert_eq!(peer.rest().await.0, "+PONG\r\n+PONG\r\n");
    });
}

#[test]
fn a_server_that_stops_answers_what_it_was_asked() {
    paused(async {
        let mut peer = Peer::connect(SlowMachine::new(vec![1000]), 1 << 16);
        peer.send(b"SET a 1\r\n").await;
        sleep(Duration::from_millis(10)).await;
        peer.stop.send(true).unwrap();
        let mut all = String::new();
        peer.stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "+OK\r\n");
        assert_eq!(peer.task.await.unwrap().unwrap(), Closed::Finished);
    });
}

#[derive(Clone, Debug)]
enum Ask {
    Get(u8),
    Set(u8, u8),
    Incr(u8),
    Ping,
    /// As large as a batch, so that one pipeline has several.
    SetLarge(u8),
}

fn asks() -> impl Strategy<Value = Ask> {
    let key = || 0_u8..2;
    prop_oneof![
        4 => key().prop_map(Ask::Get),
        3 => (key(), any::<u8>()).prop_map(|(key, value)| Ask::Set(key, value)),
        2 => key().prop_map(Ask::Incr),
        1 => Just(Ask::Ping),
        1 => key().prop_map(Ask::SetLarge),
    ]
}

impl Ask {
    fn words(&self) -> Vec<Vec<u8>> {
        let word = |text: &str| text.as_bytes().to_vec();
        match self {
            Self::Get(key) => vec![word("GET"), vec![*key]],
            Self::Set(key, value) => vec![word("SET"), vec![*key], value.to_string().into()],
            Self::Incr(key) => vec![word("INCR"), vec![*key]],
            Self::Ping => vec![word("PING")],
            Self::SetLarge(key) => vec![word("SET"), vec![*key], vec![b'7'; BATCH_BYTES]],
        }
    }
}

/// What a server answers that does one request after the other.
fn one_by_one(asks: &[Ask]) -> Vec<Reply> {
    let mut machine = KvMachine::default();
    let mut replies = Vec::new();
    for ask in asks {
        let words = ask.words();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut out = BytesMut::new();
        let mut session = ClientSession::new(1);
        if let Meaning::Operation(operation) =
            interpret(&words, &mut session, String::new, &mut out)
        {
            let mut batch = Batch::new();
            batch.push(&operation);
            out = machine.apply_batch(&batch.into_bytes()).into();
        }
        replies.push(parse_reply(&mut out).unwrap().unwrap());
    }
    replies
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_client_cannot_tell_a_pipeline_from_one_request_after_the_other(
        asks in prop::collection::vec(asks(), 1..40),
        delays_ms in prop::collection::vec(0_u64..20, 1..8),
        chunk in 1_usize..5000,
    ) {
        let replies = paused(async {
            let mut input = BytesMut::new();
            for ask in &asks {
                let words = ask.words();
                put_request(&mut input, words.iter().map(Vec::as_slice));
            }
            let peer = Peer::connect(SlowMachine::new(delays_ms), 1 << 12);
            let (mut reader, mut writer) = tokio::io::split(peer.stream);
            let send = async {
                for chunk in input.chunks(chunk) {
                    writer.write_all(chunk).await.unwrap();
                }
                writer.shutdown().await.unwrap();
            };
            let mut output = BytesMut::new();
            let receive = async {
                while reader.read_buf(&mut output).await.unwrap() > 0 {}
            };
            tokio::join!(send, receive);
            let mut replies = Vec::new();
            while let Some(reply) = parse_reply(&mut output).unwrap() {
                replies.push(reply);
            }
            replies
        });
        prop_assert_eq!(replies, one_by_one(&asks));
    }
}
