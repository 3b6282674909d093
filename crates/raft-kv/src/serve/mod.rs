//! # One node
//!
//! Puts a replica, its log, its transport and its two listeners together, and
//! takes them apart again in the reverse order. Whatever can be wrong with an
//! address or a folder is found before anything runs, and said in a sentence.

mod http;
mod members;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use raft_tokio::transport::TransportError;
use raft_tokio::{
    NodeId, Raft, RaftConfig, StartError, StopReason, TcpTransport, TcpTransportConfig,
    WalLogStore, WalLogStoreError, WalLogStoreOptions,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::Instrument;

use crate::memory::Memory;
use crate::replica::{ReplicaBackend, state_machine};
use crate::server::{ClientLimits, serve_clients};

pub use http::{ProgressRow, StatusPage};
pub(crate) use members::MEMBERS_PATH;
pub use members::{Complaint, ComplaintKind, MemberId, MemberOrder, Members};

/// How often a node looks whether its replica still runs.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How a node runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The replica.
    pub raft: RaftConfig,
    /// The cluster that the node belongs to.
    pub cluster_id: u128,
    /// Where the log and the snapshots are.
    pub data: PathBuf,
    /// Where other nodes connect.
    pub listen_peer: SocketAddr,
    /// Where clients connect.
    pub listen_client: SocketAddr,
    /// Where `/status`, `/metrics` and `/members` are, if anywhere.
    pub listen_http: Option<SocketAddr>,
    /// The other nodes, each as `host:port`.
    pub peers: Vec<(NodeId, String)>,
    /// What clients may take up.
    pub clients: ClientLimits,
    /// How long a request may take. What gets no reply is tried again until
    /// then, each attempt for the replica's `proposal_timeout`.
    pub request_timeout: Duration,
}

/// A node cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address for clients or for HTTP is taken, or not ours.
    #[error("cannot listen on {address}: {}", listen_advice(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The address for the other nodes is taken, or not ours.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] WalLogStoreError),
    /// The replica cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The replica stopped without being asked to.
    #[error(
        "this node has stopped: {0}; what it acknowledged is safe, start it again once that is mended"
    )]
    Stopped(StopReason),
}

fn listen_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one that it has".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not listen there; choose a port from 1024 on".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Runs a node until `stop` turns true, and then finishes what clients have
/// asked for, hands leadership over and closes the log.
///
/// # Errors
/// The node cannot start, or its storage has failed.
///
/// # Cancel safety
/// If it is cancelled, the replica stops without handing leadership over.
pub async fn serve(config: NodeConfig, stop: watch::Receiver<bool>) -> Result<(), ServeError> {
    let clients = listen(config.listen_client).await?;
    let http = match config.listen_http {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let id = config.raft.id;
    let folder = config.data.join("log");
    let options = WalLogStoreOptions::new(config.cluster_id, id);
    let log = WalLogStore::open(&folder, options)?;
    if log.was_empty() {
        announce(&config);
    }
    let transport = TcpTransport::bind(TcpTransportConfig {
        peers: config.peers,
        ..TcpTransportConfig::of(&log, config.listen_peer)
    })
    .await?;
    let memory = Memory::new(config.clients.buffered_bytes);
    let machine = state_machine(memory.clone());
    let raft = Raft::start(config.raft, machine, log, transport).await?;
    tracing::info!(node = %id, address = %config.listen_client, "the node has started");

    let backend = ReplicaBackend::new(raft.clone(), memory.clone(), config.request_timeout);
    if let Some(listener) = http {
        let mut stop = stop.clone();
        let stopped = async move {
            // Both say that the node stops.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let pages = axum::serve(
            listener,
            http::router(backend.clone()).merge(members::router(raft.clone())),
        );
        tokio::spawn(pages.with_graceful_shutdown(stopped).into_future());
    }
    let backends = || backend.for_client();
    let served = serve_clients(clients, backends, config.clients, memory, stop)
        .instrument(tracing::info_span!("clients", node = %id));
    tokio::select! {
        () = served => {}
        reason = failure(&raft) => return Err(ServeError::Stopped(reason)),
    }
    // A leader hands over before it stops.
    match raft.shutdown().await.reason {
        StopReason::Shutdown => Ok(()),
        reason => Err(ServeError::Stopped(reason)),
    }
}

/// Says what becomes of a node whose folder is empty. Whoever wants it in a cluster
/// that runs, and forgets to say so, must notice. That cluster knows the node with
/// this folder from now on: so another id.
fn announce(config: &NodeConfig) {
    let (node, cluster_id) = (config.raft.id, config.cluster_id);
    let voters = &config.raft.initial_voters;
    if voters.is_empty() {
        tracing::info!(%node,
            "the data folder is empty; this node waits to be added to cluster {cluster_id:x}: \
             raft-kv member add --id {node} --address HOST:PORT --http ADDR of its nodes");
        return;
    }
    let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
    let voters = voters.join(", ");
    tracing::info!(%node,
        "the data folder is empty; this node founds a new cluster {cluster_id:x} of nodes {voters}. \
         Should it join one that runs instead, stop it, and start it with --join, another id \
         and an empty folder");
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen { address, error })
}

/// Why the replica stopped on its own, once it has. Asks now and then: whoever
/// watches has the status brought up to date at every turn of the replica.
async fn failure(raft: &Raft) -> StopReason {
    let mut now_and_then = tokio::time::interval(ASK_EVERY);
    loop {
        now_and_then.tick().await;
        if let Some(reason) = raft.status().stopped {
            return reason;
        }
    }
}
