//! Nodes that are not who they were, or not where they should be.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{sleep, timeout};

use crate::refusals::replaced;
use crate::service::connect;
use crate::support::{PATIENCE, TestCluster, program};

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The arguments of a node for another process with this folder, at ports of its
/// own.
fn aside(arguments: &[String], data: &Path) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    for (option, value) in [
        ("--data=", data.display().to_string()),
        ("--listen-peer=", "127.0.0.1:0".to_owned()),
        ("--listen-client=", "127.0.0.1:0".to_owned()),
        ("--listen-http=", "127.0.0.1:0".to_owned()),
    ] {
        arguments = replaced(&arguments, option, &format!("{option}{value}"));
    }
    arguments
}

/// A node beside a cluster, which ends with the test.
struct Aside {
    _process: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Aside {
    fn run(arguments: &[String]) -> Self {
        let mut process = Command::new(program())
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        Self {
            _process: process,
            lines,
        }
    }

    /// Waits for a line of its log with these words.
    async fn says(&mut self, words: &str) -> String {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("it has left without saying {words:?}");
        };
        timeout(PATIENCE, said).await.expect(words)
    }
}

/// Waits for a line with these words in the log of a node of the cluster.
async fn line_of(cluster: &TestCluster, at: usize, words: &str) -> String {
    let said = async {
        loop {
            let log = cluster.log(at);
            if let Some(line) = log.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, said).await.expect(words)
}

/// Reads through a node, which somebody confirms who hears what it asks.
async fn read_through(node: &mut MultiplexedConnection) {
    let read: redis::RedisResult<Option<String>> =
        redis::cmd("GET").arg("k").query_async(node).await;
    read.unwrap();
}

#[tokio::test]
async fn a_copy_of_a_folder_is_refused_beside_its_original_and_told_why() {
    let mut cluster = TestCluster::start(3).await;
    cluster.nodes.kill(2).await;
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&cluster.nodes.node_data(2), folder.path());
    cluster.nodes.spawn(2).unwrap();
    cluster.nodes.wait_until_ready().await.unwrap();
    let address = cluster.nodes.client_addresses()[2];
    let mut original = connect(address).await.unwrap();
    read_through(&mut original).await;

    let arguments = aside(&cluster.nodes.node_arguments(2), folder.path());
    let mut copy = Aside::run(&arguments);
    copy.says("another process runs with this node's data folder")
        .await;
    read_through(&mut original).await;
    let set: redis::RedisResult<()> = redis::cmd("SET")
        .arg("k")
        .arg("v")
        .query_async(&mut original)
        .await;
    set.unwrap();
}

#[tokio::test]
async fn a_wiped_node_is_refused_and_told_why() {
    let mut cluster = TestCluster::start(3).await;
    let mut client = connect(cluster.nodes.client_addresses()[2]).await.unwrap();
    read_through(&mut client).await;
    cluster.nodes.kill(2).await;
    fs::remove_dir_all(cluster.nodes.node_data(2)).unwrap();
    cluster.nodes.spawn(2).unwrap();
    line_of(&cluster, 2, "known with another data folder").await;
    // The others go on.
    let mut client = connect(cluster.nodes.client_addresses()[0]).await.unwrap();
    let sum: redis::RedisResult<i64> = redis::cmd("INCR").arg("n").query_async(&mut client).await;
    assert_eq!(sum.unwrap(), 1);
}

#[tokio::test]
async fn a_node_with_an_empty_folder_says_whether_it_founds_a_cluster_or_waits_for_one() {
    let mut cluster = TestCluster::start(3).await;
    let own = cluster.nodes.node_arguments(0);
    let id = own.iter().find_map(|own| own.strip_prefix("--cluster-id="));
    let id = id.expect("a cluster id");
    let founds = format!("founds a new cluster {id} of nodes 1, 2, 3.");
    let line = line_of(&cluster, 0, &founds).await;
    assert!(line.contains("start it with --join"), "{line}");

    let newcomer = cluster.nodes.join().unwrap();
    let waits = format!("waits to be added to cluster {id}: raft-kv member add --id 4");
    line_of(&cluster, newcomer, &waits).await;

    // Whoever starts again does neither.
    cluster.nodes.kill(2).await;
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&cluster.nodes.node_data(2), folder.path());
    let mut again = Aside::run(&aside(&cluster.nodes.node_arguments(2), folder.path()));
    let first = again.lines.next_line().await.unwrap().unwrap();
    assert!(first.contains("the node has started"), "{first}");
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_both_say_which_is_which() {
    let mut cluster = TestCluster::start(3).await;
    cluster.nodes.kill(2).await;
    let own = cluster.nodes.node_arguments(2);
    let id = own.iter().find_map(|own| own.strip_prefix("--cluster-id="));
    let id = format!("{:0>32}", id.expect("a cluster id"));
    let other = format!("{:0>32}", "abc");
    let folder = tempfile::tempdir().unwrap();
    let arguments = replaced(
        &aside(&own, folder.path()),
        "--cluster-id=",
        "--cluster-id=abc",
    );
    let mut foreign = Aside::run(&arguments);
    let dialled = foreign
        .says(&format!(
            "it belongs to cluster {id}, and this node to {other}"
        ))
        .await;
    assert!(
        dialled.contains(" WARN ") && dialled.contains("correct its address"),
        "{dialled}"
    );
    let refusal = format!("node 3 of cluster {other} was refused");
    let refused = line_of(&cluster, 0, &refusal).await;
    assert!(
        refused.contains(&format!("this node belongs to cluster {id}")),
        "{refused}"
    );
    assert!(
        refused.contains(" WARN ") && refused.contains("correct the address"),
        "{refused}"
    );
}
