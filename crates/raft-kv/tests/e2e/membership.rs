//! Nodes that come and go while the cluster runs, by the command line.

use std::process::{Output, Stdio};
use std::time::Duration;

use redis::AsyncCommands;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::service::connect;
use crate::support::{PATIENCE, TestCluster, http_exchange, program};

/// Runs `raft-kv member` against all nodes.
async fn member(cluster: &TestCluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("member").args(arguments).arg("--json");
    for address in cluster.nodes.http_addresses() {
        command.arg(format!("--http={address}"));
    }
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(3 * PATIENCE, run).await.expect("it ends").unwrap()
}

/// The voters, after a change that must succeed.
async fn voters_after(cluster: &TestCluster, arguments: &[&str]) -> Vec<u64> {
    let output = member(cluster, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["learners"], serde_json::json!([]));
    serde_json::from_value(report["voters"].clone()).unwrap()
}

/// Transfers until it has happened. On a slow disk one can fail, and says so.
async fn transfer_patiently(cluster: &TestCluster, arguments: &[&str]) {
    loop {
        let output = member(cluster, arguments).await;
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the leader leads on"), "{said}");
    }
}

/// What is said of a change that must be refused.
async fn refusal_of(cluster: &TestCluster, arguments: &[&str]) -> String {
    let output = member(cluster, arguments).await;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[tokio::test]
async fn nodes_are_added_replaced_and_removed_while_clients_write() {
    let mut cluster = TestCluster::start(3).await;
    let mut client = connect(cluster.nodes.client_addresses()[0]).await.unwrap();
    // Enough for snapshots, so that the log alone does not make a newcomer.
    for number in 0..2500_u32 {
        let set: redis::RedisResult<()> = client.set(format!("k{number}"), number).await;
        set.unwrap();
    }
    let fourth = cluster.nodes.join().unwrap();
    let address = cluster.nodes.peer_addresses()[fourth].to_string();
    let added = ["add", "--id=4", "--address", &address];
    assert_eq!(voters_after(&cluster, &added).await, [1, 2, 3, 4]);

    let fifth = cluster.nodes.join().unwrap();
    let address = cluster.nodes.peer_addresses()[fifth].to_string();
    let replaced = ["replace", "--old=2", "--new=5", "--address", &address];
    assert_eq!(voters_after(&cluster, &replaced).await, [1, 3, 4, 5]);
    cluster.nodes.kill(1).await;

    assert_eq!(
        voters_after(&cluster, &["remove", "--id=3"]).await,
        [1, 4, 5]
    );
    cluster.nodes.kill(2).await;
    let transferred = transfer_patiently(&cluster, &["transfer", "--to=5"]);
    timeout(PATIENCE, transferred).await.expect("it leads");
    assert_eq!(cluster.nodes.wait_until_ready().await.unwrap().leader, 5);

    // Two newcomers are a majority, and know where each other is.
    cluster.nodes.kill(0).await;
    cluster.nodes.wait_until_ready().await.unwrap();
    let mut client = connect(cluster.nodes.client_addresses()[fourth])
        .await
        .unwrap();
    let read: redis::RedisResult<u32> = client.get("k2499").await;
    assert_eq!(read.unwrap(), 2499);
    let written: redis::RedisResult<u32> = client.incr("n", 1).await;
    assert_eq!(written.unwrap(), 1);
}

#[tokio::test]
async fn a_change_of_members_that_cannot_be_says_why() {
    let mut cluster = TestCluster::start(3).await;
    let said = refusal_of(&cluster, &["remove", "--id=9"]).await;
    assert!(said.contains("node 9 is not a member"), "{said}");
    let said = refusal_of(&cluster, &["add", "--id=2", "--address=127.0.0.1:1"]).await;
    assert!(said.contains("node 2 is a member already"), "{said}");
    let said = refusal_of(&cluster, &["transfer", "--to=9"]).await;
    assert!(said.contains("node 9 does not vote"), "{said}");
    let said = refusal_of(&cluster, &["add", "--id=4", "--address=nowhere"]).await;
    assert!(said.contains("HOST:PORT"), "{said}");
    // Nobody runs there, so it stays a learner, and can be taken out again.
    let absent = ["add", "--id=4", "--address=127.0.0.1:1", "--catch-up-s=0"];
    let said = refusal_of(&cluster, &absent).await;
    assert!(said.contains("node 4 did not catch up"), "{said}");
    assert_eq!(
        voters_after(&cluster, &["remove", "--id=4"]).await,
        [1, 2, 3]
    );

    let said = refusal_of(&cluster, &["move", "--id=9", "--address=127.0.0.1:1"]).await;
    assert!(said.contains("node 9 is not a member"), "{said}");
    let own = cluster.nodes.peer_addresses()[2].to_string();
    let moved = ["move", "--id=3", "--address", &own];
    assert_eq!(voters_after(&cluster, &moved).await, [1, 2, 3]);

    let leader = cluster.nodes.leader().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        cluster.nodes.kill(*at).await;
    }
    // Without a majority the leader steps down, and there is nobody to ask.
    let down = async {
        while cluster.nodes.leader().await.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, down).await.expect("it steps down");
    let said = refusal_of(&cluster, &["remove", "--id=2"]).await;
    assert!(said.contains("there is no leader"), "{said}");
    cluster.nodes.kill(leader).await;
    let said = refusal_of(&cluster, &["remove", "--id=2"]).await;
    assert!(said.contains("no node answers"), "{said}");
}

/// Sends something that is no order; how the answer begins, and what it says.
async fn complaint_about(cluster: &TestCluster, request: &str) -> (String, String) {
    let answer = http_exchange(cluster.nodes.http_addresses()[0], request).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("content-type: application/json"), "{answer}");
    let complaint: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(complaint["kind"], "malformed", "{answer}");
    let error = complaint["error"].as_str().expect("a sentence").to_owned();
    (head[..12].to_owned(), error)
}

#[tokio::test]
async fn what_is_no_order_is_told_what_an_order_is() {
    let cluster = TestCluster::start(1).await;
    let post = |kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /members HTTP/1.0\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let json = "application/json";
    let example = r#"send an order such as {"do": "add_learner", "id": 4,"#;
    for (request, status, expected) in [
        (
            post("text/plain", r#"{"do": "remove", "id": 4}"#),
            "415",
            "`content-type: application/json`",
        ),
        (post(json, "{"), "400", "this is no JSON"),
        (post(json, ""), "400", "this is no JSON"),
        (
            post(json, r#"{"do": "remove", "id": 4} x"#),
            "400",
            "this is no JSON",
        ),
        (post(json, r#"{"id": 4}"#), "422", "missing field `do`"),
        (
            post(json, r#"{"do": "drop", "id": 4}"#),
            "422",
            "unknown variant `drop`",
        ),
        (
            post(json, r#"{"do": "remove", "id": 4, "force": true}"#),
            "422",
            "unknown field `force`",
        ),
        (
            post(json, r#"{"do": "remove", "id": 0}"#),
            "422",
            "a node id is a number from 1",
        ),
        (post(json, &" ".repeat(100_000)), "413", "longer than"),
        (
            "GET /members HTTP/1.0\r\n\r\n".to_owned(),
            "405",
            "orders come with POST",
        ),
    ] {
        let (begin, error) = complaint_about(&cluster, &request).await;
        assert_eq!(begin, format!("HTTP/1.0 {status}"), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(example), "{error}");
    }
}
