//! A disk that takes no more.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::service::{assert_readable, connect};
use crate::support::{PATIENCE, TestCluster, program};

/// Files may not grow beyond some megabytes, which the log's first segment
/// reaches soon. Without the trap the system would kill the process.
const WITH_SMALL_FILES: &str = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";

#[tokio::test]
async fn a_disk_that_takes_no_more_stops_the_node_with_a_sentence_and_loses_nothing() {
    let mut cluster = TestCluster::start(1).await;
    let address = cluster.nodes.client_addresses()[0];
    cluster.nodes.kill_all().await;
    let limited = Command::new("sh")
        .args(["-c", WITH_SMALL_FILES])
        .arg(program())
        .args(cluster.nodes.node_arguments(0))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let mut acknowledged = Vec::new();
    let fill = async {
        let mut connection = loop {
            match connect(address).await {
                Ok(connection) => break connection,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        for number in 0_u64.. {
            let key = format!("key:{number}");
            let set: redis::RedisResult<()> = redis::cmd("SET")
                .arg(&key)
                .arg(format!("{number:010000}"))
                .query_async(&mut connection)
                .await;
            match set {
                Ok(()) => acknowledged.push(key),
                Err(_) => break,
            }
        }
    };
    timeout(PATIENCE, fill).await.expect("it is full some day");
    let ended = timeout(PATIENCE, limited.wait_with_output());
    let output = ended.await.expect("it leaves").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("raft-kv: this node has stopped"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(acknowledged.len() > 100, "only {}", acknowledged.len());

    // There is room again.
    cluster.nodes.spawn(0).unwrap();
    cluster.nodes.wait_until_ready().await.unwrap();
    assert_readable(address, &acknowledged).await;
}
