//! # `raft-kv bench`
//!
//! Sets and gets random keys over many connections, as `redis-benchmark` does,
//! against servers that run or a cluster that is started for the purpose, and
//! measures the disk under it in the same run.
//!
//! | file | room |
//! |---|---|
//! | `load.rs` | the clients |
//! | `measured.rs` | what they measure |
//! | `disk.rs` | how long the disk takes |
//! | `report.rs` | the figures, in words and as JSON |
//! | `plot.rs` | the figures as a picture |
//! | `scale.rs` | the axes of the picture |
//!
//! - Owns: the order in which things are measured.

mod disk;
mod load;
mod measured;
mod plot;
mod report;
mod scale;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish};
use tempfile::TempDir;

use crate::client::{Client, ClientError};
use crate::cluster::{ClusterError, ClusterPlan, LocalCluster};

pub use report::{BenchReport, DiskReport, HistogramRow, PercentileRow, PhaseReport};

/// How many connections give every key a value before anything is measured.
const FILLERS: usize = 16;

/// How often whatever shows progress moves.
const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// What to measure.
#[derive(Clone, Debug)]
pub enum Target {
    /// Servers that run already; clients are spread over them.
    Running(Vec<SocketAddr>),
    /// A cluster that is started here.
    Started {
        /// The raft-kv program.
        program: PathBuf,
        /// How many nodes.
        nodes: usize,
        /// Whom the clients ask.
        entrance: Entrance,
    },
}

/// Whom the clients of a cluster ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// All of them the leader.
    Leader,
    /// Every node as many as the next one; followers pass requests on.
    AllNodes,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After this many requests.
    Requests(u64),
    /// After this time.
    Time(Duration),
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// They write.
    Set,
    /// They read what was written.
    Get,
    /// So many of a hundred requests read.
    Mixed {
        /// How many.
        reads_percent: u8,
    },
}

impl Workload {
    fn reads_percent(self) -> u8 {
        match self {
            Self::Set => 0,
            Self::Get => 100,
            Self::Mixed { reads_percent } => reads_percent,
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Against what.
    pub target: Target,
    /// How many connections, one phase after the other.
    pub clients: Vec<usize>,
    /// What is done in each phase, one after the other.
    pub workloads: Vec<Workload>,
    /// How long a phase is.
    pub length: Length,
    /// How large a value is, in bytes.
    pub value_bytes: usize,
    /// How many different keys there are.
    pub keys: u64,
    /// How many requests a client sends before it waits for the replies.
    pub pipeline: usize,
    /// Where the data of nodes that are started goes, and whose disk is
    /// measured. The folder for temporary files if there is none, and then the
    /// disk is measured only if nodes are started.
    pub folder: Option<PathBuf>,
}

/// The bench could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no folder for the nodes.
    #[error("cannot make a folder in {}: {error}; name one that can be written with --folder", folder.display())]
    Folder {
        /// Where.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The disk cannot be measured.
    #[error("cannot measure the disk: {0}")]
    Disk(std::io::Error),
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

/// Measures.
///
/// # Errors
/// There is nothing to measure: nobody answers, or the nodes do not start.
///
/// # Cancel safety
/// If it is cancelled, the nodes that were started are killed.
pub async fn run(options: BenchOptions) -> Result<BenchReport, BenchError> {
    match &options.target {
        Target::Running(addresses) => {
            let disk = match &options.folder {
                Some(folder) => Some(measure_disk(&make_folder(folder)?, &options).await?),
                None => None,
            };
            let entrance = match addresses.as_slice() {
                [_] => "one server",
                _ => "several servers",
            };
            let phases = measure(&options, addresses).await?;
            Ok(BenchReport::new(&options, entrance, disk, phases))
        }
        Target::Started {
            program,
            nodes,
            entrance,
        } => {
            let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
            let folder = make_folder(&parent)?;
            let disk = measure_disk(&folder, &options).await?;
            let waiting = waiting("starting three nodes");
            let mut cluster = LocalCluster::start(ClusterPlan {
                program: program.clone(),
                nodes: *nodes,
                data: folder.path().to_owned(),
                arguments: Vec::new(),
            })
            .await?;
            let leadership = cluster.wait_until_ready().await?;
            drop(waiting);
            let leader = usize::try_from(leadership.leader - 1).unwrap_or(0);
            let (addresses, entrance) = match entrance {
                Entrance::Leader => (
                    vec![cluster.client_addresses()[leader]],
                    "the leader of three nodes",
                ),
                Entrance::AllNodes => (cluster.client_addresses(), "each of three nodes"),
            };
            let phases = measure(&options, &addresses).await;
            cluster.stop().await;
            Ok(BenchReport::new(&options, entrance, Some(disk), phases?))
        }
    }
}

/// Says what is done, in a terminal, until it is dropped.
fn waiting(what: &'static str) -> ProgressBar {
    let waiting = ProgressBar::new_spinner()
        .with_message(what)
        .with_finish(ProgressFinish::AndClear);
    waiting.enable_steady_tick(REDRAW_EVERY);
    waiting
}

fn make_folder(parent: &Path) -> Result<TempDir, BenchError> {
    let made = TempDir::with_prefix_in("raft-kv-bench-", parent);
    made.map_err(|error| BenchError::Folder {
        folder: parent.to_owned(),
        error,
    })
}

async fn measure_disk(folder: &TempDir, options: &BenchOptions) -> Result<DiskReport, BenchError> {
    let _waiting = waiting("measuring the disk");
    let path = folder.path().join("disk");
    let bytes = options.value_bytes;
    let probed = tokio::task::spawn_blocking(move || disk::probe(&path, bytes)).await;
    // The thread of a probe does not panic.
    probed
        .unwrap_or_else(|error| Err(error.into()))
        .map_err(BenchError::Disk)
}

/// One phase for each number of clients and each workload.
async fn measure(
    options: &BenchOptions,
    addresses: &[SocketAddr],
) -> Result<Vec<PhaseReport>, BenchError> {
    let mut phases = Vec::new();
    let waiting = waiting("giving every key a value");
    load::fill(connect(addresses, FILLERS).await?, options).await;
    drop(waiting);
    for &clients in &options.clients {
        for &workload in &options.workloads {
            let connections = connect(addresses, clients).await?;
            phases.push(load::run(connections, options, workload).await?);
        }
    }
    Ok(phases)
}

async fn connect(addresses: &[SocketAddr], clients: usize) -> Result<Vec<Client>, BenchError> {
    let mut connections = Vec::with_capacity(clients);
    for &address in addresses.iter().cycle().take(clients) {
        let connected = Client::connect(address).await;
        connections.push(connected.map_err(|error| BenchError::Connect { address, error })?);
    }
    Ok(connections)
}
