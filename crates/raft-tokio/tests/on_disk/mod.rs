//! Servers with real sockets and real folders.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft_tokio::transport::TransportError;
use raft_tokio::{
    NodeId, TcpTransport, TcpTransportConfig, WalLogStore, WalLogStoreError, WalLogStoreOptions,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The cluster of all servers here.
pub(crate) const CLUSTER: u128 = 0xc1_u128 << 64 | 0xb;
/// An earlier self needs a moment to let go of its port, not more.
const PORT_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("a node id")
}

/// The initial voters for a server, where the first one begins alone and the others
/// are added later.
pub(crate) fn first_alone(id: u64) -> Vec<NodeId> {
    (id == 1).then(|| node_id(id)).into_iter().collect()
}

/// Folders and addresses of servers, numbered from 1.
pub(crate) struct Servers {
    folder: TempDir,
    addresses: Vec<SocketAddr>,
    /// How fast each of them sends snapshots.
    pub(crate) snapshot_bytes_per_second_max: Option<NonZeroU64>,
}

impl Servers {
    /// Room for this many; none runs yet.
    pub(crate) fn new(count: usize) -> Self {
        // All are held until each has its port.
        let listeners: Vec<TcpListener> = (0..count)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
            .collect();
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("an address"));
        Self {
            addresses: addresses.collect(),
            folder: tempfile::tempdir().expect("a folder"),
            snapshot_bytes_per_second_max: None,
        }
    }

    pub(crate) fn folder(&self, id: u64) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    pub(crate) fn address(&self, id: u64) -> SocketAddr {
        let place = usize::try_from(id - 1).expect("a number of a server");
        self.addresses[place]
    }

    pub(crate) fn log(&self, id: u64) -> Result<WalLogStore, WalLogStoreError> {
        let options = WalLogStoreOptions::new(CLUSTER, node_id(id));
        WalLogStore::open(&self.folder(id), options)
    }

    /// Listens where `id` is expected, and knows where everybody is reached.
    pub(crate) async fn listen(&self, id: u64, log: &WalLogStore) -> TcpTransport {
        self.listen_at(self.address(id), 1.., log).await
    }

    /// Listens here, and knows where these are reached.
    pub(crate) async fn listen_at(
        &self,
        listen: SocketAddr,
        known: impl RangeBounds<u64>,
        log: &WalLogStore,
    ) -> TcpTransport {
        let deadline = Instant::now() + PORT_PATIENCE;
        loop {
            let all = (1..).zip(&self.addresses);
            let named = all.filter(|(id, _)| known.contains(id));
            let config = TcpTransportConfig {
                peers: named
                    .map(|(id, address)| (node_id(id), address.to_string()))
                    .collect(),
                snapshot_bytes_per_second_max: self.snapshot_bytes_per_second_max,
                ..TcpTransportConfig::of(log, listen)
            };
            match TcpTransport::bind(config).await {
                Ok(transport) => return transport,
                Err(TransportError::AddressInUse { .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The files of a server's snapshots with this ending, oldest first.
    pub(crate) fn snapshot_files(&self, id: u64, ending: &str) -> Vec<PathBuf> {
        snapshot_files(&self.folder(id), ending)
    }

    /// Flips a bit in the middle of a server's newest snapshot, and says in which
    /// file.
    pub(crate) fn damage_newest_snapshot(&self, id: u64) -> PathBuf {
        let file = self.snapshot_files(id, ".snap").pop().expect("a snapshot");
        let mut bytes = fs::read(&file).expect("it can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).expect("it can be written");
        file
    }
}

/// The files of snapshots in a data folder with this ending, oldest first.
pub(crate) fn snapshot_files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let folder = folder.join("snapshots").join(format!("{:016x}", 0));
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder of snapshots")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}
