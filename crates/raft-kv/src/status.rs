//! # `raft-kv status`
//!
//! Asks nodes over HTTP what they are doing, and shows it as a table.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::serve::StatusPage;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

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
            Ok(Err(error)) => (None, Some(error)),
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

async fn page_of(address: SocketAddr) -> Result<StatusPage, String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        std::io::Result::Ok(answer)
    };
    let answer = answer.await.map_err(|error| error.to_string())?;
    let strange = || "the answer is not that of a raft-kv node; is this its HTTP port?".to_owned();
    let head_end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = &answer[head_end.ok_or_else(strange)? + 4..];
    serde_json::from_slice(body).map_err(|_| strange())
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
                if row.recent_active { "alive" } else { "silent" }
            )?;
        }
        Ok(())
    }
}
