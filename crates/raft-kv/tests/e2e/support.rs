//! Clusters and programs for the tests of the service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use raft_kv::cluster::{ClusterPlan, LocalCluster};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program or a server may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_raft-kv").into()
}

/// A cluster in a folder that goes with it.
pub(crate) struct TestCluster {
    pub(crate) nodes: LocalCluster,
    folder: TempDir,
}

impl TestCluster {
    /// Starts nodes that elect within a fraction of a second.
    pub(crate) async fn start(nodes: usize) -> Self {
        let folder = TempDir::with_prefix("raft-kv-test-").unwrap();
        let plan = ClusterPlan {
            program: program(),
            nodes,
            data: folder.path().to_owned(),
            arguments: vec!["--tick-ms=30".into(), "--snapshot-entries=1000".into()],
        };
        let nodes = LocalCluster::start(plan).await.unwrap();
        Self { nodes, folder }
    }

    /// What the node at this place wrote.
    pub(crate) fn log(&self, at: usize) -> String {
        let name = format!("node-{}.log", at + 1);
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

/// Runs raft-kv until it leaves, which it must with an error; what it said.
pub(crate) async fn run_to_end(arguments: &[String]) -> String {
    let run = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.expect("it leaves").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it started after all");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Sends bytes, ends the sending half, and returns what comes back until the
/// other side closes.
pub(crate) async fn raw_exchange(address: SocketAddr, input: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(input).await?;
        stream.shutdown().await?;
        read_to_end(stream).await
    };
    let answer = timeout(PATIENCE, exchange).await.expect("it is answered");
    answer.unwrap()
}

/// A page over HTTP, its head included. The sending half stays open: a server
/// takes its end for that of the client.
pub(crate) async fn http_page(address: SocketAddr, path: &str) -> String {
    http_exchange(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

/// The answer to a request over HTTP/1.0, its head included.
pub(crate) async fn http_exchange(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        read_to_end(stream).await
    };
    let answer = timeout(PATIENCE, exchange).await.expect("it is answered");
    answer.unwrap()
}

async fn read_to_end(mut stream: TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
