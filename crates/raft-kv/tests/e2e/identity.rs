//! Nodes that are not who they were.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
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

    let mut arguments = cluster.nodes.node_arguments(2);
    for (option, value) in [
        ("--data=", folder.path().display().to_string()),
        ("--listen-peer=", "127.0.0.1:0".to_owned()),
        ("--listen-client=", "127.0.0.1:0".to_owned()),
        ("--listen-http=", "127.0.0.1:0".to_owned()),
    ] {
        arguments = replaced(&arguments, option, &format!("{option}{value}"));
    }
    let mut copy = Command::new(program())
        .args(&arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(copy.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("another process runs with this node's data folder") {
                return;
            }
        }
        panic!("the copy has left");
    };
    timeout(PATIENCE, told).await.expect("it is told");
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
    let told = async {
        while !cluster.log(2).contains("known with another data folder") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told");
    // The others go on.
    let mut client = connect(cluster.nodes.client_addresses()[0]).await.unwrap();
    let sum: redis::RedisResult<i64> = redis::cmd("INCR").arg("n").query_async(&mut client).await;
    assert_eq!(sum.unwrap(), 1);
}
