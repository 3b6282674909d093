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

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::availability::Availability;
use super::tally::{KeyHistory, Tally, number_in};
use crate::client::Client;
use crate::resp::Reply;
use crate::units::whole_us;

/// Keys that a client writes in turn.
const KEYS: usize = 64;
/// How long a client waits for a reply before it asks another node.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);
/// How long a client waits before it asks the next node.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// The key that all clients add to.
pub(super) const COUNTER: &[u8] = b"counter";

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
