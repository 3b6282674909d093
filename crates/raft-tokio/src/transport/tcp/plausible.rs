//! What a peer that was let in may say.

use raft_core::{Body, Message, NodeId};

use super::TcpTransportConfig;

/// Whether `peer` may send this message to us. A message speaks for its sender,
/// except those that followers forward to the leader for somebody else.
pub(super) fn is_plausible(config: &TcpTransportConfig, peer: NodeId, message: &Message) -> bool {
    let is_forwarded = matches!(
        message.body,
        Body::Propose { .. } | Body::ReadIndex { .. } | Body::TransferLeader
    );
    message.to == config.node_id && (message.from == peer || is_forwarded)
}
