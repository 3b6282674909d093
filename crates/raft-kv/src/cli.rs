//! # The command line
//!
//! What can be asked for, and who does it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use raft_tokio::{NodeId, RaftConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::bench::{self, BenchOptions, Entrance, Target, Workload};
use crate::demo::{self, DemoOptions, Display};
use crate::resp::RequestLimits;
use crate::serve::{NodeConfig, serve};
use crate::server::ClientLimits;
use crate::status;

/// A replicated key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "raft-kv", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three nodes here, load them, kill the leader, and check that nothing
    /// acknowledged is lost.
    Demo(DemoArguments),
    /// Run one node.
    Serve(ServeArguments),
    /// Measure a cluster: the one at --addr, or one started for the purpose.
    Bench(BenchArguments),
    /// Show what nodes are doing.
    Status(StatusArguments),
}

/// How often a request is tried, at least, before its time is over.
const ATTEMPTS: u32 = 4;

#[derive(Debug, Args)]
struct ServeArguments {
    /// The number of this node, different from those of the others.
    #[arg(long, value_parser = parse_node_id)]
    id: NodeId,
    /// The cluster, in hexadecimal. Nodes and folders of other clusters are
    /// refused.
    #[arg(long, value_parser = parse_cluster_id, value_name = "HEX")]
    cluster_id: u128,
    /// The folder for the log and the snapshots. Made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where other nodes connect.
    #[arg(long, value_name = "ADDR")]
    listen_peer: SocketAddr,
    /// Where Redis clients connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    listen_client: SocketAddr,
    /// Where /status, /metrics, /livez and /readyz are. Nowhere by default.
    #[arg(long, value_name = "ADDR")]
    listen_http: Option<SocketAddr>,
    /// A node of the cluster and where it is reached. Once for each; this node
    /// may be among them.
    #[arg(long = "peer", value_parser = parse_peer, value_name = "ID=ADDR")]
    peers: Vec<(NodeId, String)>,
    /// This node is to be added to a running cluster, and begins no new one.
    #[arg(long)]
    join: bool,
    /// How long a tick is, in milliseconds. An election begins after 10 to 20
    /// ticks without a leader.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    tick_ms: u64,
    /// How long a request may take, in milliseconds. While nobody leads, and
    /// after a leader was lost, it is tried again for so long.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    request_timeout_ms: u64,
    /// Applied entries after which a snapshot is taken. 0: never.
    #[arg(long, value_name = "ENTRIES", default_value_t = 100_000)]
    snapshot_entries: u64,
    /// The largest value or key that a client may send, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = parse_argument_bytes)]
    argument_bytes_max: usize,
    /// How many clients there may be.
    #[arg(long, value_name = "CLIENTS", default_value_t = 10_000)]
    clients_max: usize,
    /// Threads. One is fastest on a small machine: handing work to another
    /// thread takes longer than most of the work.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
    /// Stop when standard input ends, and so never outlive who started this.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// How long the load lasts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: u64,
    /// How many clients make it.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// No progress bar.
    #[arg(long)]
    headless: bool,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
    /// Leave the nodes' folders and logs behind.
    #[arg(long)]
    keep_data: bool,
}

#[derive(Debug, Args)]
struct BenchArguments {
    /// Where a server takes clients; several times for several servers. Without
    /// it, three nodes are started.
    #[arg(long, value_name = "ADDR")]
    addr: Vec<SocketAddr>,
    /// How many connections. Several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256", value_parser = clap::value_parser!(u16).range(1..))]
    clients: Vec<u16>,
    /// What the clients do, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "set,get", value_enum)]
    workload: Vec<BenchWorkload>,
    /// So many of a hundred requests read, and the others write. Instead of
    /// --workload.
    #[arg(long, value_name = "PERCENT", conflicts_with = "workload", value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: Option<u8>,
    /// How long each of these takes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many requests each of these makes, instead of a time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How large a value is, in bytes.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// How many different keys there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many requests a client sends before it waits for the replies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pipeline: u16,
    /// The clients of nodes that are started ask all of them, and not only the
    /// leader.
    #[arg(long, conflicts_with = "addr")]
    spread: bool,
    /// A folder on the disk that is measured, where the data of nodes that are
    /// started goes. The one for temporary files if they are.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Draw the result into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BenchWorkload {
    /// Writes.
    Set,
    /// Reads.
    Get,
}

#[derive(Debug, Args)]
struct StatusArguments {
    /// Where a node answers over HTTP. Once for each node.
    #[arg(long, value_name = "ADDR", required = true)]
    http: Vec<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An error that is shown to whoever typed the command.
pub type ShownError = Box<dyn Error + Send + Sync>;

/// Does what was asked for.
///
/// # Errors
/// It cannot be done; the error is a sentence for whoever asked.
pub fn run(arguments: Arguments) -> Result<ExitCode, ShownError> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("RAFT_KV_LOG")
                .unwrap_or_else(|_| "warn,raft_kv=info".into()),
        )
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match arguments.command {
        Command::Serve(arguments) => {
            let runtime = runtime(arguments.threads)?;
            let until_stdin_ends = arguments.until_stdin_ends;
            let config = arguments.into_config();
            runtime.block_on(async {
                let stop = stop_signal(until_stdin_ends)?;
                serve(config, stop).await?;
                Ok(ExitCode::SUCCESS)
            })
        }
        Command::Demo(arguments) => runtime(1)?.block_on(or_interrupted(async {
            let json = arguments.json;
            let report = demo::run(arguments.into_options()?).await?;
            if json {
                show(&serde_json::to_string_pretty(&report)?)?;
            } else {
                show(&report)?;
            }
            Ok(if report.is_sound() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        })),
        Command::Bench(arguments) => runtime(1)?.block_on(or_interrupted(async {
            let (json, svg) = (arguments.json, arguments.svg.clone());
            let report = bench::run(arguments.into_options()?).await?;
            if let Some(path) = svg {
                std::fs::write(&path, report.to_svg())
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
            if json {
                show(&serde_json::to_string_pretty(&report)?)?;
            } else {
                show(&report)?;
            }
            Ok(ExitCode::SUCCESS)
        })),
        Command::Status(arguments) => runtime(1)?.block_on(async {
            let pages = status::ask(&arguments.http).await;
            if arguments.json {
                show(&serde_json::to_string_pretty(&pages)?)?;
            } else {
                show(&pages)?;
            }
            Ok(if pages.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }),
    }
}

/// Prints a result. Whoever reads it may have seen enough before its end.
fn show(result: &dyn fmt::Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{result}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

fn runtime(threads: usize) -> Result<Runtime, ShownError> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}").into())
}

/// Turns true when this process is asked to stop.
fn stop_signal(until_stdin_ends: bool) -> Result<watch::Receiver<bool>, ShownError> {
    let signals = termination()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if until_stdin_ends {
            tokio::select! {
                () = signals => {}
                () = stdin_ends() => {}
            }
        } else {
            signals.await;
        }
        // Nobody listens if the node has failed already.
        let _ = stop.send(true);
    });
    Ok(stopped)
}

/// Waits on a thread of its own, which nobody has to wait for in turn: a read
/// from standard input cannot be called off.
async fn stdin_ends() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin(), &mut io::sink());
        // The process may be stopping for another reason.
        let _ = ended.send(copied);
    });
    // However it ended, there is nobody at the other end any more.
    let _ = end.await;
}

#[cfg(unix)]
fn termination() -> Result<impl Future<Output = ()>, ShownError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn termination() -> Result<impl Future<Output = ()>, ShownError> {
    Ok(async {
        // Without signals only the end of standard input stops this process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Does `work` unless this process is asked to stop. Dropping the work kills
/// the nodes that it started.
async fn or_interrupted(
    work: impl Future<Output = Result<ExitCode, ShownError>>,
) -> Result<ExitCode, ShownError> {
    let interrupted = termination()?;
    tokio::select! {
        done = work => done,
        () = interrupted => Err("interrupted; the nodes that were started are stopped".into()),
    }
}

impl ServeArguments {
    fn into_config(self) -> NodeConfig {
        let mut voters: Vec<NodeId> = self.peers.iter().map(|(id, _)| *id).collect();
        voters.push(self.id);
        voters.sort_unstable();
        voters.dedup();
        if self.join {
            voters.clear();
        }
        let request = RequestLimits {
            argument_bytes: self.argument_bytes_max,
            request_bytes: 2 * self.argument_bytes_max.max(1 << 20),
            ..RequestLimits::default()
        };
        let request_timeout = Duration::from_millis(self.request_timeout_ms);
        NodeConfig {
            raft: RaftConfig {
                tick: Duration::from_millis(self.tick_ms),
                proposal_timeout: request_timeout / ATTEMPTS,
                snapshot_entries: self.snapshot_entries,
                // Room for the encoding and for the batch that a request ends.
                command_bytes_max: 2 * request.request_bytes,
                ..RaftConfig::new(self.id, voters)
            },
            cluster_id: self.cluster_id,
            data: self.data,
            listen_peer: self.listen_peer,
            listen_client: self.listen_client,
            listen_http: self.listen_http,
            peers: self
                .peers
                .into_iter()
                .filter(|(id, _)| *id != self.id)
                .collect(),
            clients: ClientLimits {
                request,
                clients: self.clients_max,
                ..ClientLimits::default()
            },
            request_timeout,
        }
    }
}

impl DemoArguments {
    fn into_options(self) -> Result<DemoOptions, ShownError> {
        Ok(DemoOptions {
            program: this_program()?,
            nodes: usize::from(self.nodes),
            seconds: self.seconds,
            clients: usize::from(self.clients),
            display: match (self.headless, self.json) {
                (_, true) => Display::Nothing,
                (true, false) => Display::Lines,
                (false, false) => Display::Bar,
            },
            keep_data: self.keep_data,
        })
    }
}

impl BenchArguments {
    fn into_options(self) -> Result<BenchOptions, ShownError> {
        Ok(BenchOptions {
            target: if self.addr.is_empty() {
                Target::Started {
                    program: this_program()?,
                    nodes: 3,
                    entrance: if self.spread {
                        Entrance::AllNodes
                    } else {
                        Entrance::Leader
                    },
                }
            } else {
                Target::Running(self.addr)
            },
            clients: self.clients.into_iter().map(usize::from).collect(),
            workloads: match self.reads {
                Some(reads_percent) => vec![Workload::Mixed { reads_percent }],
                None => self.workload.into_iter().map(Into::into).collect(),
            },
            length: match self.requests {
                Some(requests) => bench::Length::Requests(requests),
                None => bench::Length::Time(Duration::from_secs(self.seconds)),
            },
            value_bytes: self.value_bytes,
            keys: self.keys,
            pipeline: usize::from(self.pipeline),
            folder: self.folder,
        })
    }
}

impl From<BenchWorkload> for Workload {
    fn from(workload: BenchWorkload) -> Self {
        match workload {
            BenchWorkload::Set => Self::Set,
            BenchWorkload::Get => Self::Get,
        }
    }
}

fn this_program() -> Result<PathBuf, ShownError> {
    std::env::current_exe()
        .map_err(|error| format!("cannot find the raft-kv program itself: {error}").into())
}

fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse::<u64>()
        .ok()
        .and_then(NodeId::new)
        .ok_or_else(|| format!("a node id is a number from 1 to {}", NodeId::MAX))
}

fn parse_cluster_id(text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16)
        .map_err(|_| "a cluster id is up to 32 hexadecimal digits".to_owned())
}

fn parse_peer(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) = text
        .split_once('=')
        .ok_or("a peer is given as ID=HOST:PORT")?;
    if !address.contains(':') {
        return Err("a peer's address needs a port: ID=HOST:PORT".into());
    }
    Ok((parse_node_id(id)?, address.to_owned()))
}

fn parse_argument_bytes(text: &str) -> Result<usize, String> {
    const MOST: usize = crate::machine::VALUE_BYTES_MAX / 8;
    match text.parse() {
        Ok(bytes @ 64..=MOST) => Ok(bytes),
        _ => Err(format!("give a number of bytes from 64 to {MOST}")),
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("give a number of threads from 1 to 1024".into()),
    }
}
