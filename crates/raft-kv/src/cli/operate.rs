//! # `raft-kv status` and `raft-kv member`, as they are typed

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use raft_tokio::NodeId;

use super::values::{parse_address, parse_node_id, parse_socket_address};
use crate::operate::member::MemberChange;

/// Whom to ask, and how to show the answer.
#[derive(Clone, Debug, Args)]
pub(super) struct Asked {
    /// Where a node answers over HTTP. Once for each node.
    #[arg(long, value_name = "IP:PORT", required = true, value_parser = parse_socket_address)]
    pub(super) http: Vec<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A node that comes.
#[derive(Clone, Debug, Args)]
pub(super) struct Newcomer {
    /// Where other nodes connect to the new node: its --listen-peer.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    address: String,
    /// How long the new node may take to catch up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    catch_up_s: u64,
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Add a node that was started with --join. It votes once it has caught up.
    Add {
        /// The number of the node, which no node of this cluster had before.
        #[arg(long, value_parser = parse_node_id)]
        id: NodeId,
        #[command(flatten)]
        newcomer: Newcomer,
        #[command(flatten)]
        asked: Asked,
    },
    /// Put a node that was started with --join in the place of another one, once
    /// it has caught up.
    Replace {
        /// Who leaves. It need not run.
        #[arg(long, value_parser = parse_node_id)]
        old: NodeId,
        /// The number of the new node, which no node of this cluster had before.
        #[arg(long, value_parser = parse_node_id)]
        new: NodeId,
        #[command(flatten)]
        newcomer: Newcomer,
        #[command(flatten)]
        asked: Asked,
    },
    /// Remove a node. Stop it afterwards; only with the folder that it has can it come back
    /// under its number.
    Remove {
        /// The node.
        #[arg(long, value_parser = parse_node_id)]
        id: NodeId,
        #[command(flatten)]
        asked: Asked,
    },
    /// Have a node reached at another address, after it was started there.
    Move {
        /// The node.
        #[arg(long, value_parser = parse_node_id)]
        id: NodeId,
        /// Where other nodes connect to it: its --listen-peer.
        #[arg(long, value_name = "ADDR", value_parser = parse_address)]
        address: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Have another node lead.
    Transfer {
        /// The node.
        #[arg(long, value_parser = parse_node_id)]
        to: NodeId,
        #[command(flatten)]
        asked: Asked,
    },
}

impl MemberCommand {
    /// What to change, how long a node may take to catch up, and whom to ask.
    pub(super) fn into_change(self) -> (MemberChange, Duration, Asked) {
        match self {
            Self::Add {
                id,
                newcomer,
                asked,
            } => {
                let (address, catch_up) = newcomer.into_parts();
                (MemberChange::Add { id, address }, catch_up, asked)
            }
            Self::Replace {
                old,
                new,
                newcomer,
                asked,
            } => {
                let (address, catch_up) = newcomer.into_parts();
                (MemberChange::Replace { old, new, address }, catch_up, asked)
            }
            Self::Remove { id, asked } => (MemberChange::Remove { id }, Duration::ZERO, asked),
            Self::Move { id, address, asked } => {
                (MemberChange::Move { id, address }, Duration::ZERO, asked)
            }
            Self::Transfer { to, asked } => (MemberChange::Transfer { to }, Duration::ZERO, asked),
        }
    }
}

impl Newcomer {
    fn into_parts(self) -> (String, Duration) {
        (self.address, Duration::from_secs(self.catch_up_s))
    }
}
