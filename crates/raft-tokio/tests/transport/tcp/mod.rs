//! Servers over TCP on loopback, and what the tests of them share.

mod delivery;
mod handshakes;
mod hostility;
mod identity;
mod life;
mod resumption;
mod snapshots;
mod stranger;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{Body, Message, NodeId};
use raft_tokio::transport::{Inbound, Packet, TcpTransport, TcpTransportConfig, Transport};
use raft_wire::frame::{Frame, Packet as WirePacket};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{End, PATIENCE, heartbeat, node_id, snapshot};

pub(crate) const CLUSTER: u128 = 0xc1u128 << 64 | 7;

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn config(number: u64) -> TcpTransportConfig {
    TcpTransportConfig::new(node_id(number), CLUSTER, 1, loopback())
}

pub(crate) async fn bind(config: TcpTransportConfig) -> TcpTransport {
    TcpTransport::bind(config).await.unwrap()
}

/// Starts servers that know each other.
pub(crate) async fn start<const N: usize>(
    configs: [TcpTransportConfig; N],
) -> [End<TcpTransport>; N] {
    let mut transports = Vec::new();
    let mut addresses = Vec::new();
    for config in configs {
        let id = config.node_id;
        let transport = bind(config).await;
        addresses.push((id, transport.local_addr().to_string()));
        transports.push(transport);
    }
    let ends = transports.into_iter().map(|mut transport| {
        for (id, address) in &addresses {
            transport.set_peer(*id, Some(address));
        }
        End::start(transport)
    });
    ends.collect::<Vec<_>>().try_into().ok().unwrap()
}

/// An address where nobody listens.
pub(crate) async fn dead_address() -> String {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Sends heartbeats until one comes, which is what a leader does.
pub(crate) async fn knock(
    from: &mut End<TcpTransport>,
    to: &mut End<TcpTransport>,
    ids: (NodeId, NodeId),
) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        from.send(ids.1, heartbeat(ids.0, ids.1, 0));
        if let Some(Inbound::Packet(_)) = to.next_within(Duration::from_millis(20)).await {
            return;
        }
    }
    panic!("nothing came");
}

/// The message of a snapshot's header: without a manifest, which is in the header
/// itself.
pub(crate) fn announcement(from: NodeId, to: NodeId) -> Message {
    let Packet::Raft(mut message) = snapshot(from, to, b"") else {
        unreachable!()
    };
    if let Body::Snapshot(snapshot) = &mut message.body {
        snapshot.data = Bytes::new();
    }
    message
}

pub(crate) fn raft_frame(packet: Packet) -> Frame {
    let Packet::Raft(message) = packet else {
        panic!("{packet:?} is no message");
    };
    Frame::Packet(WirePacket::Raft { group: 0, message })
}
