//! # `raft-kv status`
//!
//! Asks nodes over HTTP what they are doing, and shows it as a table.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::http::{HttpError, fetch};
use crate::serve::StatusPage;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the nodes said.
#[derive(Clone, Debug, Serialize)]
pub struct Statuses {
    /// One row for each node that was asked.
    pub nodes: Vec<NodeStatus>,
}

/// What one node said.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Where it was asked.
    pub address: SocketAddr,
    /// Its answer.
    pub status: Option<StatusPage>,
    /// Why there is none.
    pub error: Option<String>,
}

impl Statuses {
    /// Whether all nodes answered.
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.status.is_some())
    }
}

/// Asks all of the nodes at once.
///
/// # Cancel safety
/// Cancel safe.
pub async fn ask(addresses: &[SocketAddr]) -> Statuses {
    let nodes = addresses.iter().map(|&address| async move {
        let page = timeout(PATIENCE, page_of(address)).await;
        let (status, error) = match page {
            Ok(Ok(page)) => (Some(page), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some("no answer in time".to_owned())),
        };
        NodeStatus {
            address,
            status,
            error,
        }
    });
    Statuses {
        nodes: futures::future::join_all(nodes).await,
    }
}

async fn page_of(address: SocketAddr) -> Result<StatusPage, HttpError> {
    fetch(address, "/status").await?.parse()
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<21} {:>4} {:<13} {:>6} {:>6} {:>10} {:>10} {:>10} {:>10}",
            "address", "node", "role", "term", "leader", "committed", "applied", "snapshot", "last"
        )?;
        for node in &self.nodes {
            write!(f, "\n{:<21} ", node.address.to_string())?;
            match (&node.status, &node.error) {
                (Some(page), _) => write!(
                    f,
                    "{:>4} {:<13} {:>6} {:>6} {:>10} {:>10} {:>10} {:>10}",
                    page.id,
                    page.role,
                    page.term,
                    page.leader.map_or("-".to_owned(), |id| id.to_string()),
                    page.commit,
                    page.applied,
                    page.snapshot_index,
                    page.last_index
                )?,
                (None, Some(error)) => write!(f, "{error}")?,
                (None, None) => write!(f, "-")?,
            }
        }
        for page in self.nodes.iter().filter_map(|node| node.status.as_ref()) {
            for reason in &page.unfit {
                write!(f, "\n  node {}: {reason}", page.id)?;
            }
        }
        let leader_rows = self
            .nodes
            .iter()
            .filter_map(|node| node.status.as_ref())
            .flat_map(|page| page.progress.iter().map(move |row| (page, row)));
        for (page, row) in leader_rows.filter(|(page, row)| page.id != row.id) {
            write!(
                f,
                "\n  node {} sends to node {}: {}, {} behind, {}",
                page.id,
                row.id,
                row.flow,
                page.last_index.saturating_sub(row.matched),
                if row.silent { "silent" } else { "alive" }
            )?;
        }
        Ok(())
    }
}
