//! # The load, and what it may see
//!
//! Each client has keys that nobody else writes, with growing numbers in them,
//! so it knows what each of its requests must answer:
//!
//! - A write asks for the value before it (`SET key value GET`). That must be
//!   the last acknowledged one, so every acknowledged write is read back: by the
//!   write after it, or by the check at the end.
//! - A read must return the last acknowledged value.
//! - A write whose outcome is unknown may be made at any later time. Its key is
//!   not written again, and the check at the end takes either value.
//!
//! And all clients add to one counter (`INCR`): the sum that comes back must be
//! larger than every sum that was known when the request was made, no sum may
//! come back twice, and in the end the counter has to be what was acknowledged,
//! plus at most what has an unknown outcome: nothing is done twice.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, timeout};

use super::availability::Availability;
use crate::client::{Client, ClientError};
use crate::resp::Reply;
use crate::units::whole_us;

/// Keys that a client writes in turn.
const KEYS: usize = 64;
/// How long a client waits for a reply before it asks another node.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a client waits before it asks the next node.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// How many faults are kept in words.
const FAULTS_SHOWN: usize = 5;
/// Keys that the check at the end reads at once.
const CHECK_CHUNK: usize = 256;
/// How long all nodes together may take to answer the final check.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

const COUNTER: &[u8] = b"counter";

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) writes_acknowledged: AtomicU64,
    pub(super) reads_answered: AtomicU64,
    stopped: AtomicBool,
    /// The largest sum that any client knows of.
    counter: AtomicU64,
    availability: Mutex<Availability>,
}

impl Shared {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            writes_acknowledged: AtomicU64::new(0),
            reads_answered: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            counter: AtomicU64::new(0),
            availability: Mutex::new(Availability::since(Instant::now())),
        }
    }

    pub(super) fn stop(&self) {
        self.mark_available();
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn mark_available(&self) {
        let mut availability = self
            .availability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        availability.mark(Instant::now());
    }

    pub(super) fn longest_unavailable(&self) -> Duration {
        let availability = self.availability.lock();
        availability
            .unwrap_or_else(PoisonError::into_inner)
            .longest()
    }
}

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KeyHistory {
    name: String,
    /// The last acknowledged number; zero if there is none.
    acknowledged: u64,
    /// A number that may be written at any time, or never.
    uncertain: Option<u64>,
}

/// What happened, over all.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) writes_acknowledged: u64,
    pub(super) reads_answered: u64,
    pub(super) failed: u64,
    pub(super) indeterminate: u64,
    pub(super) lost: u64,
    pub(super) stale_reads: u64,
    /// Sums of the counter that came back twice, or that it cannot have.
    pub(super) miscounted: u64,
    /// Keys that the check at the end has read.
    pub(super) keys_checked: u64,
    pub(super) write_us: Histogram<u64>,
    pub(super) read_us: Histogram<u64>,
    /// The first faults in words.
    pub(super) faults: Vec<String>,
    sums: HashSet<u64>,
    sums_uncertain: u64,
    keys: Vec<KeyHistory>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            writes_acknowledged: 0,
            reads_answered: 0,
            failed: 0,
            indeterminate: 0,
            lost: 0,
            stale_reads: 0,
            miscounted: 0,
            keys_checked: 0,
            write_us: latencies(),
            read_us: latencies(),
            faults: Vec::new(),
            sums: HashSet::new(),
            sums_uncertain: 0,
            keys: Vec::new(),
        }
    }
}

/// A histogram of latencies in microseconds.
fn latencies() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that are allowed"));
    histogram.auto(false);
    histogram
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.writes_acknowledged += other.writes_acknowledged;
        self.reads_answered += other.reads_answered;
        self.failed += other.failed;
        self.indeterminate += other.indeterminate;
        self.lost += other.lost;
        self.stale_reads += other.stale_reads;
        self.miscounted += other.miscounted;
        self.sums_uncertain += other.sums_uncertain;
        // Both have the same bounds.
        let _ = self.write_us.add(other.write_us);
        let _ = self.read_us.add(other.read_us);
        self.keys.extend(other.keys);
        for fault in other.faults {
            self.describe(fault);
        }
        for sum in other.sums {
            if !self.sums.insert(sum) {
                self.miscounted += 1;
                self.describe(format!("two clients were told that they counted {sum}"));
            }
        }
    }

    fn describe(&mut self, fault: String) {
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault);
        }
    }
}

/// How a request ended.
#[derive(Debug)]
enum Outcome {
    /// This came back.
    Answered(Reply),
    /// It was certainly not done.
    Refused,
    /// Whether it was done, or will be, is unknown.
    Unknown,
}

/// One client of the load.
pub(super) struct LoadClient {
    number: usize,
    shared: Arc<Shared>,
    tally: Tally,
    /// The keys that are written in turn.
    keys: Vec<KeyHistory>,
    /// How many keys were given up because a write to them is uncertain.
    given_up: usize,
    /// Which node is asked.
    node: usize,
    connection: Option<Client>,
}

impl LoadClient {
    pub(super) fn new(number: usize, shared: Arc<Shared>) -> Self {
        let keys = (0..KEYS).map(|key| KeyHistory {
            name: format!("client-{number}:key-{key}"),
            ..KeyHistory::default()
        });
        Self {
            number,
            keys: keys.collect(),
            tally: Tally::default(),
            given_up: 0,
            node: number,
            connection: None,
            shared,
        }
    }

    /// Makes requests until the load stops.
    pub(super) async fn run(mut self) -> Tally {
        let mut step = self.number;
        while !self.shared.is_stopped() {
            let key = step % KEYS;
            match step % 8 {
                0 => self.count().await,
                1 => self.read_counter().await,
                2 | 4 | 6 => self.write(key).await,
                // Reads what the step before wrote.
                _ => self.read((key + KEYS - 1) % KEYS).await,
            }
            step += 1;
        }
        self.tally.keys.append(&mut self.keys);
        self.tally
    }

    async fn write(&mut self, key: usize) {
        let KeyHistory {
            name, acknowledged, ..
        } = self.keys[key].clone();
        let number = acknowledged + 1;
        let value = format!("{number}:{}", "x".repeat(56));
        let started = Instant::now();
        let request = [&b"SET"[..], name.as_bytes(), value.as_bytes(), b"GET"];
        match self.request(&request).await {
            Outcome::Answered(reply) => {
                self.acknowledged(started);
                self.keys[key].acknowledged = number;
                let before = number_in(&reply);
                if before != Some(acknowledged) {
                    self.tally.lost += 1;
                    self.tally.describe(format!(
                        "{name} had {acknowledged}, acknowledged, and a write found {reply:?}"
                    ));
                }
            }
            Outcome::Refused => {}
            Outcome::Unknown => self.give_up(key, number),
        }
    }

    /// Leaves a key as it is, whatever that is, and goes on with a new one.
    fn give_up(&mut self, key: usize, number: u64) {
        self.given_up += 1;
        let fresh = KeyHistory {
            name: format!("client-{}:spare-{}", self.number, self.given_up),
            ..KeyHistory::default()
        };
        let mut old = std::mem::replace(&mut self.keys[key], fresh);
        old.uncertain = Some(number);
        self.tally.keys.push(old);
    }

    async fn read(&mut self, key: usize) {
        let KeyHistory {
            name, acknowledged, ..
        } = self.keys[key].clone();
        let started = Instant::now();
        if let Outcome::Answered(reply) = self.request(&[b"GET", name.as_bytes()]).await {
            self.answered(started);
            if number_in(&reply) != Some(acknowledged) {
                self.tally.stale_reads += 1;
                self.tally.describe(format!(
                    "{name} had {acknowledged}, acknowledged, and a read found {reply:?}"
                ));
            }
        }
    }

    async fn count(&mut self) {
        let known = self.shared.counter.load(Ordering::Relaxed);
        let started = Instant::now();
        match self.request(&[b"INCR", COUNTER]).await {
            Outcome::Answered(Reply::Integer(sum)) => {
                self.acknowledged(started);
                let sum = u64::try_from(sum).unwrap_or(0);
                if sum <= known || !self.tally.sums.insert(sum) {
                    self.tally.miscounted += 1;
                    self.tally.describe(format!(
                        "the counter was {known}, and adding one to it made it {sum}"
                    ));
                }
                self.shared.counter.fetch_max(sum, Ordering::Relaxed);
            }
            Outcome::Answered(reply) => {
                self.tally.miscounted += 1;
                self.tally
                    .describe(format!("adding to the counter was answered with {reply:?}"));
            }
            Outcome::Refused => {}
            Outcome::Unknown => self.tally.sums_uncertain += 1,
        }
    }

    async fn read_counter(&mut self) {
        let known = self.shared.counter.load(Ordering::Relaxed);
        let started = Instant::now();
        if let Outcome::Answered(reply) = self.request(&[b"GET", COUNTER]).await {
            self.answered(started);
            if number_in(&reply).is_none_or(|sum| sum < known) {
                self.tally.stale_reads += 1;
                self.tally.describe(format!(
                    "the counter was {known}, and a read found {reply:?}"
                ));
            }
        }
    }

    fn acknowledged(&mut self, started: Instant) {
        self.tally.writes_acknowledged += 1;
        self.tally
            .write_us
            .saturating_record(whole_us(started.elapsed()));
        self.shared
            .writes_acknowledged
            .fetch_add(1, Ordering::Relaxed);
        self.shared.mark_available();
    }

    fn answered(&mut self, started: Instant) {
        self.tally.reads_answered += 1;
        self.tally
            .read_us
            .saturating_record(whole_us(started.elapsed()));
        self.shared.reads_answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes a request of the node that answered last, and turns to the next
    /// one if it does not.
    async fn request(&mut self, arguments: &[&[u8]]) -> Outcome {
        let outcome = self.request_once(arguments).await;
        match &outcome {
            Outcome::Answered(_) => return outcome,
            Outcome::Refused => self.tally.failed += 1,
            Outcome::Unknown => {
                self.connection = None;
                self.tally.indeterminate += 1;
            }
        }
        self.node += 1;
        self.connection = None;
        sleep(PAUSE).await;
        outcome
    }

    async fn request_once(&mut self, arguments: &[&[u8]]) -> Outcome {
        if self.connection.is_none() {
            let address = self.shared.addresses[self.node % self.shared.addresses.len()];
            self.connection = Client::connect(address).await.ok();
        }
        let Some(connection) = &mut self.connection else {
            return Outcome::Refused;
        };
        match timeout(PATIENCE, connection.request(arguments)).await {
            Ok(Ok(Reply::Error(error))) if error.starts_with("UNCERTAIN") => Outcome::Unknown,
            Ok(Ok(Reply::Error(_))) => Outcome::Refused,
            Ok(Ok(reply)) => Outcome::Answered(reply),
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        }
    }
}

/// The number at the beginning of a value; zero if there is no value.
fn number_in(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Nil => Some(0),
        Reply::Bulk(value) => {
            let digits = value.split(|byte| *byte == b':').next()?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Reads back everything that was written, and adds what is missing to the
/// tally.
pub(super) async fn check_final_state(tally: &mut Tally, shared: &Shared) -> Result<(), NoAnswer> {
    let mut reader = FinalReader::new(&shared.addresses);
    let keys = std::mem::take(&mut tally.keys);
    for chunk in keys.chunks(CHECK_CHUNK) {
        let names = chunk.iter().map(|key| key.name.as_bytes());
        let request: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(names).collect();
        let values = match reader.ask(&request).await? {
            Reply::Array(values) if values.len() == chunk.len() => values,
            other => return Err(NoAnswer(format!("it was {other:?}"))),
        };
        for (key, value) in chunk.iter().zip(&values) {
            tally.keys_checked += 1;
            let found = number_in(value);
            if found != Some(key.acknowledged) && (found.is_none() || found != key.uncertain) {
                tally.lost += 1;
                tally.describe(format!(
                    "in the end {} had {value:?} instead of {}",
                    key.name, key.acknowledged
                ));
            }
        }
    }
    let counter = reader.ask(&[b"GET", COUNTER]).await?;
    let least = tally.sums.len() as u64;
    let most = least + tally.sums_uncertain;
    if !number_in(&counter).is_some_and(|sum| (least..=most).contains(&sum)) {
        tally.miscounted += 1;
        tally.describe(format!(
            "in the end the counter was {counter:?} instead of {least} to {most}"
        ));
    }
    Ok(())
}

/// No node could be brought to answer: what it said last.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

/// Reads from whichever node answers.
struct FinalReader<'a> {
    addresses: &'a [SocketAddr],
    node: usize,
    client: Option<Client>,
}

impl<'a> FinalReader<'a> {
    fn new(addresses: &'a [SocketAddr]) -> Self {
        Self {
            addresses,
            node: 0,
            client: None,
        }
    }

    /// Asks one node after the other until there is an answer: right after a start
    /// a leader may be missing, and a node may hang. An error is no answer.
    async fn ask(&mut self, request: &[&[u8]]) -> Result<Reply, NoAnswer> {
        let deadline = Instant::now() + CHECK_PATIENCE;
        loop {
            let failed = match timeout(PATIENCE, self.ask_once(request)).await {
                Ok(Ok(Reply::Error(error))) => error,
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no reply came within {} s", PATIENCE.as_secs()),
            };
            if Instant::now() >= deadline {
                return Err(NoAnswer(failed));
            }
            self.client = None;
            self.node = (self.node + 1) % self.addresses.len();
            sleep(PAUSE).await;
        }
    }

    async fn ask_once(&mut self, request: &[&[u8]]) -> Result<Reply, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(self.addresses[self.node]).await?),
        };
        client.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes connections and says nothing.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_is_no_answer_and_no_lost_write() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.local_addr().unwrap()];
        let asked = FinalReader::new(&addresses).ask(&[b"GET", b"k"]).await;
        assert!(asked.unwrap_err().to_string().contains("no reply came"));
    }

    #[test]
    fn numbers_are_found_in_values() {
        let bulk = |text: &'static str| Reply::Bulk(text.into());
        assert_eq!(number_in(&bulk("17:xxx")), Some(17));
        assert_eq!(number_in(&bulk("17")), Some(17));
        assert_eq!(number_in(&Reply::Nil), Some(0));
        assert_eq!(number_in(&bulk("x:17")), None);
        assert_eq!(number_in(&Reply::Error("ERR".into())), None);
    }

    #[test]
    fn a_sum_that_two_clients_got_is_found() {
        let counted = |sums: &[u64]| Tally {
            sums: sums.iter().copied().collect(),
            ..Tally::default()
        };
        let mut tally = counted(&[1, 2, 4]);
        tally.add(counted(&[3, 5]));
        assert_eq!(tally.miscounted, 0);
        tally.add(counted(&[4]));
        assert_eq!(tally.miscounted, 1);
        assert_eq!(tally.faults.len(), 1);
    }
}
