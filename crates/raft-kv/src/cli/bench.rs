//! # `raft-kv bench`, as it is typed

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::parse_socket_address;
use super::{ShownError, this_program};
use crate::bench::{self, BenchOptions, Entrance, Target, Workload};

#[derive(Debug, Args)]
pub(super) struct BenchArguments {
    /// Where a server takes clients; several times for several servers. Without
    /// it, three nodes are started.
    #[arg(long, value_name = "IP:PORT", value_parser = parse_socket_address)]
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
    pub(super) svg: Option<PathBuf>,
    /// Print the result as a JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BenchWorkload {
    /// Writes.
    Set,
    /// Reads.
    Get,
}

impl BenchArguments {
    pub(super) fn into_options(self) -> Result<BenchOptions, ShownError> {
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
