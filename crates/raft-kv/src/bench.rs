//! # `raft-kv bench`
//!
//! Sets and gets random keys over many connections, as `redis-benchmark` does,
//! against servers that run or a cluster that is started for the purpose. A
//! request counts from when it is sent to when its reply is there.

use std::fmt;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{Client, ClientError};
use crate::cluster::{ClusterError, ClusterPlan, LocalCluster};
use crate::resp::Reply;
use crate::units::{us_in_ms, whole_ms, whole_us};

/// How wide the longest bar of the histogram is, in characters.
const BAR_WIDTH: u64 = 50;
/// How often the progress bar moves.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Clone, Debug)]
pub enum Target {
    /// Servers that run already; clients are spread over them.
    Running(Vec<SocketAddr>),
    /// A cluster that is started here; all clients ask its leader.
    Started {
        /// The raft-kv program.
        program: PathBuf,
        /// How many nodes.
        nodes: usize,
    },
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After this many requests.
    Requests(u64),
    /// After this time.
    Time(Duration),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Against what.
    pub target: Target,
    /// How many connections.
    pub clients: usize,
    /// For how long.
    pub length: Length,
    /// How large a value is, in bytes.
    pub value_bytes: usize,
    /// How many different keys there are.
    pub keys: u64,
    /// How many of a hundred requests read.
    pub reads_percent: u8,
    /// How many requests a client sends before it waits for the replies.
    pub pipeline: usize,
}

/// The bench could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no folder for the nodes.
    #[error("cannot make a temporary folder: {0}; set TMPDIR to one that can be written")]
    Folder(std::io::Error),
    /// The nodes do not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A server does not answer.
    #[error("the server at {address} does not answer: {error}; is raft-kv serve running there?")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Why.
        error: ClientError,
    },
    /// Not a single request was answered.
    #[error("no request was answered; the last error was: {0}")]
    NothingAnswered(String),
}

/// What was measured. Times are in the units that their names end with.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// How many connections there were.
    pub clients: usize,
    /// How many requests each sent at once.
    pub pipeline: usize,
    /// How large a value was.
    pub value_bytes: usize,
    /// How many of a hundred requests read.
    pub reads_percent: u8,
    /// How long it took.
    pub seconds: f64,
    /// Requests that were answered without an error.
    pub requests: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Connections that broke.
    pub broken_connections: u64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// The fastest.
    pub min_us: u64,
    /// Half of the requests stayed within this.
    pub p50_us: u64,
    /// 90 of 100.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// How many requests took up to that long.
    pub histogram: Vec<HistogramRow>,
}

/// Requests that took about as long.
#[derive(Clone, Debug, Serialize)]
pub struct HistogramRow {
    /// The longest of them.
    pub up_to_us: u64,
    /// How many.
    pub requests: u64,
}

/// What one client measured.
struct Measured {
    latency_us: Histogram<u64>,
    errors: u64,
    last_error: Option<String>,
    broken: u64,
}

impl Measured {
    fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3);
        Self {
            latency_us: latency_us
                .unwrap_or_else(|_| unreachable!("the bounds are constants that are allowed")),
            errors: 0,
            last_error: None,
            broken: 0,
        }
    }
}

/// What is left to do, for all clients.
struct Budget {
    deadline: Option<Instant>,
    requests_left: AtomicU64,
    requests_done: AtomicU64,
}

impl Budget {
    fn new(length: Length) -> Self {
        let (deadline, requests) = match length {
            Length::Requests(requests) => (None, requests),
            Length::Time(time) => (Some(Instant::now() + time), u64::MAX),
        };
        Self {
            deadline,
            requests_left: AtomicU64::new(requests),
            requests_done: AtomicU64::new(0),
        }
    }

    /// How many of `wanted` requests are to be made now.
    fn take(&self, wanted: u64) -> u64 {
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            return 0;
        }
        let spend = |left: u64| Some(left - left.min(wanted));
        let left = self
            .requests_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        left.map_or(0, |left| left.min(wanted))
    }
}

/// Measures.
///
/// # Errors
/// There is nothing to measure: nobody answers, or the nodes do not start.
///
/// # Cancel safety
/// If it is cancelled, the nodes that were started are killed.
pub async fn run(options: BenchOptions) -> Result<BenchReport, BenchError> {
    match &options.target {
        Target::Running(addresses) => measure(&options, addresses).await,
        Target::Started { program, nodes } => {
            let folder = TempDir::with_prefix("raft-kv-bench-").map_err(BenchError::Folder)?;
            let mut cluster = LocalCluster::start(ClusterPlan {
                program: program.clone(),
                nodes: *nodes,
                data: folder.path().to_owned(),
                arguments: Vec::new(),
            })
            .await?;
            let leadership = cluster.wait_until_ready().await?;
            let leader = usize::try_from(leadership.leader - 1).unwrap_or(0);
            let address = cluster.client_addresses()[leader];
            let report = measure(&options, &[address]).await;
            cluster.stop().await;
            report
        }
    }
}

async fn measure(
    options: &BenchOptions,
    addresses: &[SocketAddr],
) -> Result<BenchReport, BenchError> {
    let mut connections = Vec::with_capacity(options.clients);
    for &address in addresses.iter().cycle().take(options.clients) {
        let connected = Client::connect(address).await;
        connections.push(connected.map_err(|error| BenchError::Connect { address, error })?);
    }
    let options = Arc::new(options.clone());
    let budget = Arc::new(Budget::new(options.length));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        clients.spawn(run_client(
            number,
            connection,
            options.clone(),
            budget.clone(),
        ));
    }
    let bar = progress(options.length);
    let mut all = Measured::new();
    while !clients.is_empty() {
        tokio::select! {
            Some(done) = clients.join_next() => {
                if let Ok(measured) = done {
                    // All have the same bounds.
                    let _ = all.latency_us.add(measured.latency_us);
                    all.errors += measured.errors;
                    all.broken += measured.broken;
                    all.last_error = measured.last_error.or(all.last_error);
                }
            }
            () = sleep(REDRAW_EVERY) => {
                let done = budget.requests_done.load(Ordering::Relaxed);
                bar.set_position(match options.length {
                    Length::Requests(_) => done,
                    Length::Time(_) => whole_ms(started.elapsed()),
                });
                bar.set_message(format!("{done} requests"));
            }
        }
    }
    bar.finish_and_clear();
    if all.latency_us.is_empty() {
        let said = all.last_error.unwrap_or_else(|| "none".to_owned());
        return Err(BenchError::NothingAnswered(said));
    }
    Ok(BenchReport::new(&options, &all, started.elapsed()))
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
    number: usize,
    mut connection: Client,
    options: Arc<BenchOptions>,
    budget: Arc<Budget>,
) -> Measured {
    let mut measured = Measured::new();
    let value = vec![b'x'; options.value_bytes];
    // Any odd multiplier spreads the clients over the keys.
    let mut random = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    loop {
        let requests = budget.take(options.pipeline as u64);
        if requests == 0 {
            return measured;
        }
        for _ in 0..requests {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = format!("key:{:012}", (random >> 8) % options.keys);
            if random % 100 < u64::from(options.reads_percent) {
                connection.queue(&[b"GET", key.as_bytes()]);
            } else {
                connection.queue(&[b"SET", key.as_bytes(), &value]);
            }
        }
        let started = Instant::now();
        if let Err(error) = replies(&mut connection, requests, started, &mut measured).await {
            measured.broken += 1;
            measured.last_error = Some(error.to_string());
            return measured;
        }
        budget.requests_done.fetch_add(requests, Ordering::Relaxed);
    }
}

async fn replies(
    connection: &mut Client,
    requests: u64,
    started: Instant,
    measured: &mut Measured,
) -> Result<(), ClientError> {
    connection.flush().await?;
    for _ in 0..requests {
        if let Reply::Error(error) = connection.reply().await? {
            measured.errors += 1;
            measured.last_error = Some(error);
        } else {
            let us = whole_us(started.elapsed());
            measured.latency_us.saturating_record(us);
        }
    }
    Ok(())
}

impl BenchReport {
    fn new(options: &BenchOptions, all: &Measured, elapsed: Duration) -> Self {
        let latency = &all.latency_us;
        let seconds = elapsed.as_secs_f64();
        // Each row reaches twice as far as the one before.
        let rows = latency.iter_log(64, 2.0).map(|row| HistogramRow {
            up_to_us: row.value_iterated_to(),
            requests: row.count_since_last_iteration(),
        });
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let requests_per_s = (latency.len() as f64 / seconds).round();
        Self {
            clients: options.clients,
            pipeline: options.pipeline,
            value_bytes: options.value_bytes,
            reads_percent: options.reads_percent,
            seconds: (seconds * 1000.0).round() / 1000.0,
            requests: latency.len(),
            errors: all.errors,
            broken_connections: all.broken,
            requests_per_s,
            min_us: latency.min(),
            p50_us: latency.value_at_quantile(0.5),
            p90_us: latency.value_at_quantile(0.9),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
            histogram: rows.filter(|row| row.requests > 0).collect(),
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} clients, {} requests at once each, {} % reads, values of {} bytes, {:.1} s\n",
            self.clients, self.pipeline, self.reads_percent, self.value_bytes, self.seconds
        )?;
        writeln!(f, "  {} requests per second", self.requests_per_s)?;
        writeln!(
            f,
            "  {} answered, {} errors, {} broken connections\n",
            self.requests, self.errors, self.broken_connections
        )?;
        writeln!(
            f,
            "  latency in ms: min {}  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}\n",
            us_in_ms(self.min_us),
            us_in_ms(self.p50_us),
            us_in_ms(self.p90_us),
            us_in_ms(self.p99_us),
            us_in_ms(self.p999_us),
            us_in_ms(self.max_us)
        )?;
        let most = self
            .histogram
            .iter()
            .map(|row| row.requests)
            .max()
            .unwrap_or(1);
        let bar = if std::io::stdout().is_terminal() {
            "█"
        } else {
            "#"
        };
        for row in &self.histogram {
            let width = (row.requests * BAR_WIDTH).div_ceil(most);
            writeln!(
                f,
                "  up to {:>9} ms {:>9} {}",
                us_in_ms(row.up_to_us),
                row.requests,
                bar.repeat(usize::try_from(width).unwrap_or(0))
            )?;
        }
        Ok(())
    }
}
