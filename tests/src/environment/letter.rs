//! # Letters
//!
//! What is on its way to a node: a message of a peer, or the receipt of one of
//! its own storage threads. Both wait in one queue, as in the reference, where
//! receipts are messages too.
//!
//! - Owns: nothing.

use std::fmt;

use raft_core::{AppendReceipt, ApplyReceipt, Entries, Message, NodeId};

/// Something on its way to a node.
#[derive(Debug)]
pub enum Letter {
    /// A message of a peer.
    Peer(Message),
    /// A write is durable.
    Written {
        /// Whose write.
        node: NodeId,
        /// What the node is to hear of it.
        receipt: AppendReceipt,
    },
    /// Entries are applied.
    Applied {
        /// By whom.
        node: NodeId,
        /// Which ones.
        entries: Entries,
        /// What the node is to hear of it.
        receipt: ApplyReceipt,
    },
}

/// The two workers of a node whose storage writes are asynchronous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadName {
    /// Writes.
    Append,
    /// Applies.
    Apply,
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "AppendThread",
            Self::Apply => "ApplyThread",
        })
    }
}

impl Letter {
    /// Who is to get it.
    pub fn to(&self) -> NodeId {
        match self {
            Self::Peer(message) => message.to,
            Self::Written { node, .. } | Self::Applied { node, .. } => *node,
        }
    }

    /// Whether it never leaves the node, so that no network can lose it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Peer(message) => message.from == message.to,
            Self::Written { .. } | Self::Applied { .. } => true,
        }
    }
}
