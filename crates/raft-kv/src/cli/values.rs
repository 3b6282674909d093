//! # Values that several commands take

use std::net::SocketAddr;

use raft_tokio::NodeId;

pub(super) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse::<u64>()
        .ok()
        .and_then(NodeId::new)
        .ok_or_else(|| format!("a node id is a number from 1 to {}", NodeId::MAX))
}

pub(super) fn parse_peer(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) = text
        .split_once('=')
        .ok_or("a peer is given as ID=HOST:PORT")?;
    Ok((parse_node_id(id)?, parse_address(address)?))
}

pub(super) fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("a peer's address is HOST:PORT".into()),
    }
}

/// An address of this machine, or of a node that is asked: no name has to be looked
/// up to know which it is.
pub(super) fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an IP address and a port, as in 127.0.0.1:7001".into())
}
