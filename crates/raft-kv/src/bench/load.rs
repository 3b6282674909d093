//! # The load
//!
//! Clients that send a request and wait for its reply, all in one thread: they
//! share the machine with what they measure, and must not cost much. A request
//! counts from when it is sent to when its reply is there.
//!
//! - Owns: the connections, how many requests are left.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use super::measured::Measured;
use super::report::PhaseReport;
use super::{BenchError, BenchOptions, Length, REDRAW_EVERY, Workload};
use crate::client::{Client, ClientError};
use crate::units::whole_ms;

/// How many requests a client that fills the keys sends at once.
const FILL_PIPELINE: u64 = 64;

/// What is left to do, for all clients. They are in one thread.
struct Budget {
    deadline: Option<Instant>,
    requests_left: Cell<u64>,
    requests_done: Cell<u64>,
}

impl Budget {
    fn new(length: Length) -> Self {
        let (deadline, requests) = match length {
            Length::Requests(requests) => (None, requests),
            Length::Time(time) => (Some(Instant::now() + time), u64::MAX),
        };
        Self {
            deadline,
            requests_left: Cell::new(requests),
            requests_done: Cell::new(0),
        }
    }

    /// How many of `wanted` requests are to be made at `now`.
    fn take(&self, now: Instant, wanted: u64) -> u64 {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return 0;
        }
        let left = self.requests_left.get();
        let taken = left.min(wanted);
        self.requests_left.set(left - taken);
        taken
    }
}

/// Requests of one client: random keys, and one value.
struct Requests {
    random: u64,
    keys: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    reads_percent: u64,
}

impl Requests {
    fn new(number: usize, options: &BenchOptions, workload: Workload) -> Self {
        Self {
            // Any odd multiplier spreads the clients over the keys.
            random: (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            keys: options.keys,
            key: Vec::new(),
            value: vec![b'x'; options.value_bytes],
            reads_percent: workload.reads_percent().into(),
        }
    }

    fn queue_next(&mut self, connection: &mut Client) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.set_key((self.random >> 8) % self.keys);
        if self.random % 100 < self.reads_percent {
            connection.queue(&[b"GET", &self.key]);
        } else {
            connection.queue(&[b"SET", &self.key, &self.value]);
        }
    }

    fn set_key(&mut self, number: u64) {
        self.key.clear();
        // Writing into a vector does not fail.
        let _ = write!(self.key, "key:{number:012}");
    }
}

/// Gives every key a value, so that reads find one.
pub(super) async fn fill(connections: Vec<Client>, options: &BenchOptions) {
    let clients = connections.len() as u64;
    let filling = connections
        .into_iter()
        .zip(0_u64..)
        .map(|(mut connection, number)| {
            let mut requests = Requests::new(0, options, Workload::Set);
            async move {
                let mut key = number;
                while key < requests.keys {
                    let mut sent = 0;
                    while key < requests.keys && sent < FILL_PIPELINE {
                        requests.set_key(key);
                        connection.queue(&[b"SET", &requests.key, &requests.value]);
                        key += clients;
                        sent += 1;
                    }
                    connection.flush().await?;
                    for _ in 0..sent {
                        connection.reply().await?;
                    }
                }
                Ok::<_, ClientError>(())
            }
        });
    // What goes wrong here goes wrong in the phase as well, and is counted there.
    let _ = futures::future::join_all(filling).await;
}

/// Measures one phase.
pub(super) async fn run(
    connections: Vec<Client>,
    options: &BenchOptions,
    workload: Workload,
) -> Result<PhaseReport, BenchError> {
    let clients = connections.len();
    let budget = Rc::new(Budget::new(options.length));
    let measured = Rc::new(RefCell::new(Measured::new()));
    let bar = progress(options.length);
    let started = Instant::now();
    let here = LocalSet::new();
    here.run_until(async {
        let mut running = JoinSet::new();
        for (number, connection) in connections.into_iter().enumerate() {
            running.spawn_local(run_client(
                connection,
                Requests::new(number, options, workload),
                options.pipeline as u64,
                budget.clone(),
                measured.clone(),
            ));
        }
        while !running.is_empty() {
            tokio::select! {
                Some(_) = running.join_next() => {}
                () = sleep(REDRAW_EVERY) => {
                    let done = budget.requests_done.get();
                    bar.set_position(match options.length {
                        Length::Requests(_) => done,
                        Length::Time(_) => whole_ms(started.elapsed()),
                    });
                    bar.set_message(format!("{workload}, {clients} clients: {done} requests"));
                }
            }
        }
    })
    .await;
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    let mut measured = measured.borrow_mut();
    if measured.latency_us.is_empty() {
        let said = measured.last_error.take();
        return Err(BenchError::NothingAnswered(
            said.unwrap_or_else(|| "none".to_owned()),
        ));
    }
    Ok(PhaseReport::new(workload, clients, &measured, elapsed))
}

fn progress(length: Length) -> ProgressBar {
    let steps = match length {
        Length::Requests(requests) => requests,
        Length::Time(time) => whole_ms(time),
    };
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:40.cyan/blue} {elapsed_precise}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Sends and waits, until there is nothing left to do.
async fn run_client(
    mut connection: Client,
    mut requests: Requests,
    pipeline: u64,
    budget: Rc<Budget>,
    measured: Rc<RefCell<Measured>>,
) {
    let mut now = Instant::now();
    loop {
        let count = budget.take(now, pipeline);
        if count == 0 {
            return;
        }
        for _ in 0..count {
            requests.queue_next(&mut connection);
        }
        match replies(&mut connection, count, now, &measured).await {
            // The next requests are sent when the last reply is there.
            Ok(last) => now = last,
            Err(error) => return measured.borrow_mut().on_broken(&error),
        }
        let done = budget.requests_done.get();
        budget.requests_done.set(done + count);
    }
}

/// Sends what is queued and waits for the replies; when the last one came.
async fn replies(
    connection: &mut Client,
    count: u64,
    sent: Instant,
    measured: &RefCell<Measured>,
) -> Result<Instant, ClientError> {
    connection.flush().await?;
    let mut now = sent;
    for _ in 0..count {
        let reply = connection.reply().await?;
        now = Instant::now();
        measured
            .borrow_mut()
            .on_reply(reply, now.duration_since(sent));
    }
    Ok(now)
}
