//! # What a TCP transport is told
//!
//! Every limit and every patience, with the reason for its default.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use raft_core::NodeId;
use raft_wal::Incarnation;

use crate::log_store::{WalLogStore, WalLogStoreOptions};

/// How a [`TcpTransport`](super::TcpTransport) listens, connects and limits.
#[derive(Clone, Debug)]
pub struct TcpTransportConfig {
    /// This server.
    pub node_id: NodeId,
    /// The cluster; servers of another one are refused.
    pub cluster_id: u128,
    /// Grows with every start of this server, so that its peers can tell it
    /// from an earlier self.
    pub incarnation: u64,
    /// The data folder of this server, a number that was drawn when it was made.
    /// Peers remember it, and let nobody in who comes under the same id with
    /// another folder, or with a copy of this one. `None` for a server that
    /// keeps nothing.
    pub folder_id: Option<u128>,
    /// The file in which this server remembers its peers' folders; made if it is
    /// not there. `None` remembers them until a restart.
    pub peers_file: Option<PathBuf>,
    /// Drawn at random: two processes that were started with copies of one folder
    /// are told apart by it.
    pub process: u64,
    /// Where to listen. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The other servers, each as `host:port`. Names are looked up anew for
    /// every connection. Who is not named here, nor known to the cluster, is
    /// answered on the machine that it connects from, at the port on which it
    /// listens: so a server that joins needs to name nobody.
    pub peers: Vec<(NodeId, String)>,
    /// The longest frame, in bytes; the same on every server. An append carries at least one entry,
    /// however large, so this also bounds a command. 64 MiB by default: far
    /// above every reasonable command, far below what exhausts a server.
    pub frame_bytes_max: u32,
    /// How many packets may wait for one peer. 4096 by default.
    pub queue_packets_max: usize,
    /// From how many waiting bytes on packets for one peer are dropped. 64 MiB
    /// by default.
    pub queue_bytes_max: usize,
    /// How many connections others may have open to this server. 256 by
    /// default: two for each server of the largest sensible cluster, and many
    /// to spare for strangers who have not been refused yet.
    pub connections_max: usize,
    /// How long opening a connection may take, look-up included. 3 s by
    /// default.
    pub connect_timeout: Duration,
    /// How long the other side may take for its part of the handshake. 3 s by
    /// default.
    pub handshake_timeout: Duration,
    /// The pause before the first attempt to connect again. 50 ms by default.
    pub reconnect_delay_min: Duration,
    /// The longest pause between two attempts; each pause doubles the one
    /// before. 1 s by default, which is about an election.
    pub reconnect_delay_max: Duration,
    /// After how long without a sign of life from the other machine a
    /// connection counts as lost. 10 s by default.
    pub keepalive_timeout: Duration,
    /// How long the next 64 KiB of a frame that has begun may take. 10 s by
    /// default.
    pub frame_timeout: Duration,
    /// The longest snapshot that is taken in, in bytes. 1 TiB by default: it goes
    /// to the disk, piece by piece, and this only stops a mistake.
    pub snapshot_bytes_max: u64,
    /// How many snapshots are sent at the same time, to different servers; others
    /// wait. 2 by default: each reads the disk and fills the network.
    pub snapshots_sent_at_once_max: usize,
    /// How fast each snapshot is sent at most, in bytes per second. `None`, the
    /// default, is as fast as the network.
    pub snapshot_bytes_per_second_max: Option<NonZeroU64>,
    /// How long a snapshot may travel without progress. 10 s by default. An
    /// attempt that breaks off is resumed as long as each gets further than the
    /// one before.
    pub snapshot_timeout: Duration,
}

impl TcpTransportConfig {
    /// A server without peers and with the default limits, whose identity is that
    /// of the folder in which it keeps its log.
    pub fn of(log: &WalLogStore, listen: SocketAddr) -> Self {
        let Incarnation { folder_id, start } = log.incarnation();
        let WalLogStoreOptions {
            cluster_id,
            node_id,
            ..
        } = *log.options();
        Self {
            folder_id: Some(folder_id),
            peers_file: Some(log.folder().join("PEERS")),
            ..Self::new(node_id, cluster_id, start, listen)
        }
    }

    /// A server without peers and with the default limits, which keeps no folder.
    pub fn new(node_id: NodeId, cluster_id: u128, incarnation: u64, listen: SocketAddr) -> Self {
        Self {
            node_id,
            cluster_id,
            incarnation,
            folder_id: None,
            peers_file: None,
            process: crate::config::process_seed(node_id),
            listen,
            peers: Vec::new(),
            frame_bytes_max: 64 << 20,
            queue_packets_max: 4096,
            queue_bytes_max: 64 << 20,
            connections_max: 256,
            connect_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(3),
            reconnect_delay_min: Duration::from_millis(50),
            reconnect_delay_max: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            snapshot_bytes_max: 1 << 40,
            snapshots_sent_at_once_max: 2,
            snapshot_bytes_per_second_max: None,
            snapshot_timeout: Duration::from_secs(10),
        }
    }
}
