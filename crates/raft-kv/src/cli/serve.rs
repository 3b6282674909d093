//! # `raft-kv serve`, as it is typed

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use raft_tokio::{NodeId, RaftConfig};

use super::ShownError;
use super::values::{parse_node_id, parse_peer, parse_socket_address};
use crate::resp::RequestLimits;
use crate::serve::NodeConfig;
use crate::server::ClientLimits;

/// How often a request is tried, at least, before its time is over.
const ATTEMPTS: u32 = 4;

/// How long a node waits for another one to catch up before it says so. Whoever
/// wants to wait longer asks again.
const CATCH_UP_TURN: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
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
    #[arg(long, value_name = "IP:PORT", value_parser = parse_socket_address)]
    listen_peer: SocketAddr,
    /// Where Redis clients connect.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:6379", value_parser = parse_socket_address)]
    listen_client: SocketAddr,
    /// Where /status, /metrics, /livez and /readyz are, and where `raft-kv member`
    /// changes the members. Nowhere by default.
    #[arg(long, value_name = "IP:PORT", value_parser = parse_socket_address)]
    listen_http: Option<SocketAddr>,
    /// A node of the cluster and where it is reached. Once for each; this node
    /// may be among them. A node that joins needs none.
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
    /// What the requests and replies of all clients together may take up while they
    /// wait, in bytes. Beyond that whoever holds much waits, or is let go.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = parse_buffered_bytes)]
    buffered_bytes_max: usize,
    /// Threads. One is fastest on a small machine: handing work to another
    /// thread takes longer than most of the work.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    pub(super) threads: usize,
    /// Stop when standard input ends, and so never outlive who started this.
    #[arg(long, hide = true)]
    pub(super) until_stdin_ends: bool,
}

impl ServeArguments {
    pub(super) fn into_config(self) -> Result<NodeConfig, ShownError> {
        let mut peers = BTreeMap::new();
        for (id, address) in self.peers {
            if let Some(other) = peers.insert(id, address.clone())
                && other != address
            {
                return Err(
                    format!("--peer says that node {id} is at {other} and at {address}").into(),
                );
            }
        }
        let mut voters: Vec<NodeId> = peers.keys().copied().collect();
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
        Ok(NodeConfig {
            raft: RaftConfig {
                tick: Duration::from_millis(self.tick_ms),
                proposal_timeout: request_timeout / ATTEMPTS,
                catch_up_timeout: CATCH_UP_TURN,
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
            peers: peers.into_iter().filter(|(id, _)| *id != self.id).collect(),
            clients: ClientLimits {
                request,
                clients: self.clients_max,
                buffered_bytes: self.buffered_bytes_max,
                ..ClientLimits::default()
            },
            request_timeout,
        })
    }
}

fn parse_cluster_id(text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16)
        .map_err(|_| "a cluster id is up to 32 hexadecimal digits".to_owned())
}

fn parse_argument_bytes(text: &str) -> Result<usize, String> {
    const MOST: usize = crate::machine::VALUE_BYTES_MAX / 8;
    match text.parse() {
        Ok(bytes @ 64..=MOST) => Ok(bytes),
        _ => Err(format!("give a number of bytes from 64 to {MOST}")),
    }
}

/// Room for the longest reply, and for that to be less than an eighth.
fn parse_buffered_bytes(text: &str) -> Result<usize, String> {
    const LEAST: usize = 8 * crate::machine::REPLY_BYTES_MAX;
    match text.parse() {
        Ok(bytes @ LEAST..) => Ok(bytes),
        _ => Err(format!("give a number of bytes, {LEAST} or more")),
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("give a number of threads from 1 to 1024".into()),
    }
}
