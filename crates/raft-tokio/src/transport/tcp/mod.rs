//! # The transport over TCP
//!
//! Owns the listener, one outgoing connection per peer for packets and one per
//! snapshot, and every task that serves them. What a server sends goes over the
//! connection that it opened itself; the connections that others opened are
//! only read, so that each has one writer and one reader.
//!
//! | what | file |
//! |---|---|
//! | limits and patience | `config.rs` |
//! | bytes to frames | `stream.rs` |
//! | who may connect | `handshake.rs`, `acquaintances.rs`, `seats.rs` |
//! | the way out | `outgoing.rs`, `return_addresses.rs` |
//! | the way in | `incoming.rs`, `plausible.rs` |
//! | snapshots | `snapshot_send.rs`, `snapshot_receive.rs` |
//!
//! Reads: packets from the replica, bytes from peers. Emits: packets, lost
//! peers and the ends of snapshots into the replica's [`Inbox`].
//!
//! The transport carries what raft-wire encodes; servers prove who they are by
//! cluster id, node id, data folder and incarnation, which keeps accidents out and
//! not attackers.

mod acquaintances;
mod config;
mod handshake;
mod incoming;
mod outgoing;
mod plausible;
mod return_addresses;
mod seats;
mod seldom;
mod snapshot_receive;
mod snapshot_send;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use raft_core::{Body, Message, NodeId, SnapshotOutcome};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::acquaintances::{Acquaintances, News};
use self::handshake::{Door, save};
use self::outgoing::PeerLink;
use self::return_addresses::{ReturnAddresses, Seen};
use self::seats::Seats;
use self::seldom::Seldom;
use super::scope::Scope;
use super::{Inbound, Inbox, Packet, Transport};
use crate::snapshot::SnapshotExchange;

pub use self::config::TcpTransportConfig;

/// The only group of a replica, until many share one transport.
const GROUP: u64 = 0;

/// Connects this server with its peers over TCP.
///
/// Dropping it closes every connection and ends every task;
/// [`shutdown`](Self::shutdown) waits until that is done.
#[derive(Debug)]
pub struct TcpTransport {
    scope: Scope,
    config: Arc<TcpTransportConfig>,
    local_addr: SocketAddr,
    /// `None` once it is being served.
    listener: Option<TcpListener>,
    /// `None` until it is started.
    ends: Option<Ends>,
    /// What the settings or the cluster say.
    addresses: Vec<(NodeId, String)>,
    /// What the others have said themselves, and what of it has come to `links`.
    return_addresses: Arc<ReturnAddresses>,
    seen: Seen,
    links: Vec<PeerLink>,
    acquaintances: Arc<Acquaintances>,
    /// How often it is said that a server without an address is unreachable.
    strangers: Seldom,
}

/// Why a transport does not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is taken.
    #[error("something else listens on {address} already: stop it, or choose another address")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The operating system does not let us listen there.
    #[error("cannot listen on {address}: choose an address of this machine that is allowed")]
    CannotListen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file in which peers are remembered cannot be read.
    #[error(
        "cannot read {}, where this node remembers which folder each peer has: {source}; \
         if it is damaged, remove it while no peer was wiped or copied", path.display()
    )]
    Peers {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// What a started transport has of its replica.
#[derive(Clone, Debug)]
struct Ends {
    inbox: Inbox,
    snapshots: SnapshotExchange,
    /// How many snapshots may be sent at the same time.
    sending: Arc<Semaphore>,
}

impl TcpTransport {
    /// Listens, but serves nobody before it is started.
    ///
    /// # Errors
    /// The address is taken or not ours, or the file of the peers cannot be read.
    ///
    /// # Cancel safety
    /// If it is cancelled nothing stays open.
    pub async fn bind(mut config: TcpTransportConfig) -> Result<Self, TransportError> {
        let address = config.listen;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => TransportError::AddressInUse { address },
            _ => TransportError::CannotListen { address, source },
        };
        let acquaintances = Acquaintances::open(config.peers_file.clone()).map_err(|source| {
            TransportError::Peers {
                path: config.peers_file.clone().unwrap_or_default(),
                source,
            }
        })?;
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        // What peers hear is the port that it got.
        config.listen = local_addr;
        let mut transport = Self {
            scope: Scope::default(),
            local_addr,
            listener: Some(listener),
            ends: None,
            addresses: Vec::new(),
            return_addresses: Arc::default(),
            seen: Seen::default(),
            links: Vec::new(),
            acquaintances: Arc::new(acquaintances),
            strangers: Seldom::new(),
            config: Arc::new(config),
        };
        let config = Arc::clone(&transport.config);
        for (id, address) in &config.peers {
            transport.set_peer(*id, Some(address));
        }
        Ok(transport)
    }

    /// Where this transport listens, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops and waits until every task has ended and the port is free.
    ///
    /// # Cancel safety
    /// If it is cancelled the transport stops all the same.
    pub async fn shutdown(mut self) {
        self.stop();
        self.stopped().await;
    }

    /// Takes over where peers say that they are, of whom nobody else has said it.
    fn look_at_return_addresses(&mut self) {
        let Some(news) = self.return_addresses.news(&mut self.seen) else {
            return;
        };
        for (id, address) in news {
            if self.addresses.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let address = address.to_string();
            let link = self.links.iter().find(|link| link.id() == id);
            if link.is_none_or(|link| link.address() != address) {
                self.links.retain(|link| link.id() != id);
                self.connect(id, &address);
            }
        }
    }

    fn connect(&mut self, id: NodeId, address: &str) {
        if let Some(ends) = &self.ends {
            self.links
                .push(PeerLink::open(&self.scope, &self.config, ends, id, address));
        }
    }
}

impl Transport for TcpTransport {
    fn start(&mut self, inbox: Inbox, snapshots: SnapshotExchange) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let incoming = incoming::Incoming {
            config: Arc::clone(&self.config),
            inbox: inbox.clone(),
            snapshots: snapshots.clone(),
            door: Door {
                acquaintances: Arc::clone(&self.acquaintances),
                seats: Seats::default(),
            },
            return_addresses: Arc::clone(&self.return_addresses),
            complaints: Seldom::new(),
        };
        self.scope
            .spawn(incoming::accept_all(incoming, listener, self.scope.clone()));
        self.ends = Some(Ends {
            inbox,
            snapshots,
            sending: Arc::new(Semaphore::new(
                self.config.snapshots_sent_at_once_max.max(1),
            )),
        });
        for (id, address) in self.addresses.clone() {
            self.connect(id, &address);
        }
    }

    fn send(&mut self, to: NodeId, packet: Packet) {
        self.look_at_return_addresses();
        let Some(Ends { inbox, .. }) = &self.ends else {
            return;
        };
        let link = self.links.iter_mut().find(|link| link.id() == to);
        match (packet, link) {
            (Packet::Raft(message), Some(link)) if is_snapshot(&message) => {
                link.send_snapshot(message);
            }
            (packet, Some(link)) => link.send(packet),
            (packet, None) => {
                if self.strangers.allows() {
                    inbox.try_deliver(Inbound::Unreachable(to));
                }
                if matches!(packet, Packet::Raft(message) if is_snapshot(&message)) {
                    let failed = report_snapshot(inbox.clone(), to, SnapshotOutcome::Failed);
                    self.scope.spawn(failed);
                }
            }
        }
    }

    fn set_peer(&mut self, id: NodeId, address: Option<&str>) {
        let known = self.addresses.iter().find(|(peer, _)| *peer == id);
        let unchanged = address.is_some() && known.map(|(_, known)| known.as_str()) == address;
        if unchanged || id == self.config.node_id {
            return;
        }
        if address.is_none() {
            self.return_addresses.forget(id);
        }
        self.addresses.retain(|(peer, _)| *peer != id);
        self.links.retain(|link| link.id() != id);
        if let Some(address) = address {
            self.addresses.push((id, address.to_owned()));
            self.connect(id, address);
        }
    }

    fn admit_peer(&mut self, id: NodeId) {
        self.write_down(self.acquaintances.joined(id));
    }

    fn remove_peer(&mut self, id: NodeId) {
        self.write_down(self.acquaintances.left(id));
        self.set_peer(id, None);
    }

    fn stop(&mut self) {
        self.scope.stop();
        self.links.clear();
        self.listener = None;
        self.ends = None;
    }

    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.scope.stopped())
    }
}

impl TcpTransport {
    fn write_down(&self, news: News) {
        if news == News::Some && self.ends.is_some() {
            let saved = save(self.config.node_id, Arc::clone(&self.acquaintances));
            // A stop waits for it.
            self.scope.spawn_to_the_end(saved);
        }
    }
}

fn is_snapshot(message: &Message) -> bool {
    matches!(message.body, Body::Snapshot(_))
}

/// Tells the replica how a snapshot ended. It must hear that, so this waits for
/// room in its inbox.
async fn report_snapshot(inbox: Inbox, to: NodeId, outcome: SnapshotOutcome) {
    inbox.deliver(Inbound::SnapshotReport { to, outcome }).await;
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.stop();
    }
}
