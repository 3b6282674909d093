//! # The way in
//!
//! Owns the listener and one task per connection that others opened. What they
//! send is put into the replica's inbox, waiting for room, so that a busy
//! replica slows its peers down instead of filling up. A connection that breaks
//! the rules ends, and no other one notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use raft_core::NodeId;
use raft_wire::frame::{ConnectionPurpose, Frame, Packet as WirePacket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::handshake::{Door, GreetError, Guest, greet};
use super::plausible::is_plausible;
use super::return_addresses::ReturnAddresses;
use super::seldom::Seldom;
use super::snapshot_receive::{self, Destination};
use super::stream::{FrameReader, StreamError};
use super::{GROUP, TcpTransportConfig, is_snapshot};
use crate::snapshot::SnapshotExchange;
use crate::transport::scope::Scope;
use crate::transport::{Inbound, Inbox, Packet};

/// How long to wait when the system has no more sockets or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every incoming connection needs.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) config: Arc<TcpTransportConfig>,
    pub(super) inbox: Inbox,
    pub(super) snapshots: SnapshotExchange,
    pub(super) door: Door,
    pub(super) return_addresses: Arc<ReturnAddresses>,
    /// How often somebody is complained about.
    pub(super) complaints: Seldom,
}

/// Accepts connections until it is dropped.
pub(super) async fn accept_all(incoming: Incoming, listener: TcpListener, scope: Scope) {
    let node = incoming.config.node_id;
    let slots = Arc::new(Semaphore::new(incoming.config.connections_max));
    let incoming = Arc::new(incoming);
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    if incoming.complaints.allows() {
                        warn!(%node, %remote, "refused a connection: there are too many already");
                    }
                    continue;
                };
                let incoming = Arc::clone(&incoming);
                scope.spawn(async move {
                    incoming.serve(socket, remote).await;
                    drop(slot);
                });
            }
            Err(error) => {
                if incoming.complaints.allows() {
                    warn!(%node, %error, "cannot accept a connection; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Incoming {
    async fn serve(&self, socket: TcpStream, remote: SocketAddr) {
        let node = self.config.node_id;
        let guest = match greet(&self.config, &self.door, socket).await {
            Ok(guest) => guest,
            Err(error) => {
                self.complain_about_stranger(remote, &error);
                return;
            }
        };
        let Guest {
            peer,
            purpose,
            listen_port,
            connection,
            ticket,
        } = guest;
        self.return_addresses.learn(peer, remote, listen_port);
        let served = async {
            match purpose {
                ConnectionPurpose::Messages => {
                    info!(%node, %peer, %remote, "a peer connected");
                    self.receive(peer, connection.reader).await
                }
                ConnectionPurpose::Snapshot => {
                    let to = Destination {
                        config: &self.config,
                        inbox: &self.inbox,
                        snapshots: &self.snapshots,
                    };
                    snapshot_receive::receive(to, peer, connection).await
                }
                _ => Err(StreamError::Unexpected),
            }
        };
        match ticket.replaced.run_until_cancelled(served).await {
            None => debug!(%node, %peer, "a newer connection of the peer took over"),
            Some(Ok(())) => info!(%node, %peer, ?purpose, "a peer disconnected"),
            Some(Err(StreamError::Io(error))) => {
                info!(%node, %peer, ?purpose, %error, "a peer disconnected");
            }
            Some(Err(error)) => {
                if self.complaints.allows() {
                    warn!(%node, %peer, %error, "closed the connection of a peer");
                }
            }
        }
    }

    async fn receive(&self, peer: NodeId, mut reader: FrameReader) -> Result<(), StreamError> {
        loop {
            let packet = match reader.next().await {
                Ok(Some(Frame::Packet(packet))) => packet,
                Ok(Some(_)) => return Err(StreamError::Unexpected),
                Ok(None) => return Ok(()),
                // One frame makes no sense, and where it ends is known: a later
                // version may send what we do not know.
                Err(StreamError::Malformed(error)) if !error.loses_the_stream() => {
                    if self.complaints.allows() {
                        let node = self.config.node_id;
                        warn!(%node, %peer, %error, "dropped what cannot be read");
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(packet) = self.admit(peer, packet) else {
                continue;
            };
            if !self.inbox.deliver(Inbound::Packet(packet)).await {
                return Ok(());
            }
        }
    }

    /// The packet as the replica sees it; `None` if the peer may not send it.
    fn admit(&self, peer: NodeId, packet: WirePacket) -> Option<Packet> {
        let packet = match packet {
            WirePacket::Raft {
                group: GROUP,
                message,
                // A snapshot comes with its data, on a connection of its own.
            } if is_plausible(&self.config, peer, &message) && !is_snapshot(&message) => {
                Packet::Raft(message)
            }
            WirePacket::Raft { .. } => {
                if self.complaints.allows() {
                    let node = self.config.node_id;
                    warn!(%node, %peer, "dropped a message in a foreign name, for another server, \
                        or of a snapshot without data");
                }
                return None;
            }
            WirePacket::Request { id, kind, payload } => Packet::Request {
                from: peer,
                id,
                kind,
                payload,
            },
            WirePacket::Response { id, outcome } => Packet::Response {
                from: peer,
                id,
                outcome,
            },
            _ => return None,
        };
        Some(packet)
    }

    fn complain_about_stranger(&self, remote: SocketAddr, error: &GreetError) {
        if self.complaints.allows() {
            let node = self.config.node_id;
            warn!(%node, %remote, %error, "did not let a connection in");
        }
    }
}
