//! The examples do what they say. Cargo builds them together with the tests of
//! this package; each is run as a process of its own.

#![cfg(feature = "serde")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(40);

fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    // This binary is in `deps`, beside which `examples` is.
    let folder = own.ancestors().nth(2).expect("cargo's folder of binaries");
    let path = folder.join("examples").join(name);
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.is_file(),
        "{} is not there; run `cargo build -p raft-tokio --examples`",
        path.display()
    );
    path
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(example(name));
    command.args(args).kill_on_drop(true);
    command
}

/// What an example prints, if it ends well.
async fn run(name: &str, args: &[&str]) -> String {
    let output = timeout(PATIENCE, command(name, args).output())
        .await
        .expect("the example ends")
        .expect("the example runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert!(output.status.success(), "{name}: {}", text(output.stderr));
    text(output.stdout)
}

/// Addresses where nobody listens now.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn the_counter_counts() {
    assert_eq!(
        run("counter", &[]).await,
        "add 40: 40\nadd 2: 42\nread: 42\nreset: 0\n"
    );
}

#[tokio::test]
async fn a_transport_of_ones_own_connects_three_replicas() {
    let printed = run("own_transport", &[]).await;
    let expected = "through node 1: b\"1\"\nthrough node 2: b\"2\"\nthrough node 3: b\"3\"\n\
                    node 1 has b\"3\"\nnode 2 has b\"3\"\nnode 3 has b\"3\"\n";
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn a_log_store_of_ones_own_remembers_across_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let file = file.to_str().expect("a path in UTF-8");
    for n in 1..=10 {
        assert_eq!(run("own_log_store", &[file]).await, format!("run {n}\n"));
    }
}

#[tokio::test]
async fn low_level_nodes_agree() {
    let printed = run("node", &[]).await;
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    let expected = [1, 2, 3].map(|id| format!("node {id} applied b\"hello\""));
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_handler_proposes_and_reads() {
    let mut child = command("axum_handler", &["127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example runs");
    let stdout = child.stdout.take().expect("it was piped");
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.expect("in time").expect("readable").expect("a line");
    let address = line.strip_prefix("listening on ").expect("an address");
    let request = async |method: &str| {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let head = format!("{method} /hits HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
        read.expect("in time").expect("readable");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        body.to_owned()
    };
    assert_eq!(request("GET").await, "0\n");
    assert_eq!(request("POST").await, "1\n");
    assert_eq!(request("POST").await, "2\n");
    assert_eq!(request("GET").await, "2\n");
    child.kill().await.expect("it runs");
}

#[test]
fn the_store_on_three_nodes_has_at_most_sixty_lines() {
    let source = include_str!("../examples/kv.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let count = source.lines().filter(is_code).count();
    assert!(count <= 60, "{count} lines of code");
}

/// A node of `kv`, as a process.
struct Node {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(id: usize, folder: &Path, addresses: &[SocketAddr]) -> Self {
        let mut child = Command::new(example("kv"))
            .arg(id.to_string())
            .arg(folder.join(id.to_string()))
            .args(addresses.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example runs");
        Self {
            stdin: child.stdin.take().expect("it was piped"),
            lines: BufReader::new(child.stdout.take().expect("it was piped")).lines(),
            child,
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        let exchange = async {
            let line = format!("{line}\n");
            self.stdin
                .write_all(line.as_bytes())
                .await
                .expect("it reads");
            let answer = self.lines.next_line().await.expect("readable");
            answer.expect("it answers")
        };
        timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }

    /// Asks until the answer begins like this: without a leader there are errors.
    /// Only for what may be done twice.
    async fn ask_until(&mut self, line: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(line).await;
            if answer.starts_with(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{line}: {answer}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// As if the machine had failed.
    async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    async fn end(mut self) {
        drop(self.stdin);
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").expect("it ran");
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn the_store_survives_every_node_being_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let addresses: [SocketAddr; 3] = free_addresses();
    let start = |id: usize| Node::start(id, folder.path(), &addresses);
    let mut nodes = [start(1), start(2), start(3)];
    nodes[0].ask_until("set a 1", "set").await;
    for node in &mut nodes {
        node.ask_until("get a", "Ok(Some(\"1\"))").await;
    }
    // Each in turn, so that the leader is among them.
    for at in 0..3 {
        nodes[at].kill().await;
        let other = &mut nodes[(at + 1) % 3];
        other.ask_until(&format!("set killed {at}"), "set").await;
        nodes[at] = start(at + 1);
        let expected = format!("Ok(Some(\"{at}\"))");
        nodes[at].ask_until("get killed", &expected).await;
    }
    for node in &mut nodes {
        node.kill().await;
    }
    let mut nodes = [start(1), start(2), start(3)];
    for node in &mut nodes {
        node.ask_until("get a", "Ok(Some(\"1\"))").await;
        node.ask_until("get killed", "Ok(Some(\"2\"))").await;
    }
    for node in nodes {
        node.end().await;
    }
}
