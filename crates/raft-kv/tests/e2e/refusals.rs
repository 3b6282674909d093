//! A node that cannot start says why in a sentence, and leaves.

use std::net::TcpListener;

use crate::support::{TestCluster, run_to_end};

#[tokio::test]
async fn the_folder_of_another_node_or_cluster_is_refused_by_name() {
    let mut cluster = TestCluster::start(3).await;
    cluster.nodes.kill_all().await;
    let own = cluster.nodes.node_arguments(0);
    let other_data = format!("--data={}", cluster.nodes.node_data(1).display());

    let foreign_node = replaced(&own, "--data=", &other_data);
    let said = run_to_end(&foreign_node).await;
    assert!(said.contains("belongs to node 2"), "{said}");
    assert!(said.contains("this is node 1"), "{said}");

    let foreign_cluster = replaced(&own, "--cluster-id=", "--cluster-id=abc");
    let said = run_to_end(&foreign_cluster).await;
    assert!(
        said.contains("belongs to node 1") && said.contains("abc"),
        "{said}"
    );

    // Refusing has changed nothing.
    for at in 0..3 {
        cluster.nodes.spawn(at).unwrap();
    }
    cluster.nodes.wait_until_ready().await.unwrap();
}

#[tokio::test]
async fn a_port_or_a_folder_in_use_is_a_sentence() {
    let cluster = TestCluster::start(1).await;
    let own = cluster.nodes.node_arguments(0);
    let said = run_to_end(&own).await;
    assert!(said.contains("another process listens there"), "{said}");

    let free = "127.0.0.1:0";
    let clients_free = replaced(&own, "--listen-client=", &format!("--listen-client={free}"));
    let http_free = replaced(
        &clients_free,
        "--listen-http=",
        &format!("--listen-http={free}"),
    );
    let said = run_to_end(&http_free).await;
    assert!(said.contains("in use by another process"), "{said}");

    let taken = TcpListener::bind(free).unwrap();
    let peer = format!("--listen-peer={}", taken.local_addr().unwrap());
    let peer_taken = replaced(&http_free, "--listen-peer=", &peer);
    let empty = tempfile::tempdir().unwrap();
    let data = format!("--data={}", empty.path().display());
    let said = run_to_end(&replaced(&peer_taken, "--data=", &data)).await;
    assert!(said.contains("something else listens on"), "{said}");
}

#[tokio::test]
async fn a_folder_that_is_none_is_a_sentence() {
    let cluster = TestCluster::start(1).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut arguments = cluster.nodes.node_arguments(0);
    for (option, value) in [
        ("--data=", file.path().display().to_string()),
        ("--listen-peer=", "127.0.0.1:0".to_owned()),
        ("--listen-client=", "127.0.0.1:0".to_owned()),
        ("--listen-http=", "127.0.0.1:0".to_owned()),
    ] {
        arguments = replaced(&arguments, option, &format!("{option}{value}"));
    }
    let said = run_to_end(&arguments).await;
    assert!(
        said.contains("check the disk and the rights on it"),
        "{said}"
    );
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_explained() {
    for (arguments, expected) in [
        (["--id=0", "--peer=2=a:1"], "a node id is a number from 1"),
        (["--id=1", "--peer=2"], "ID=HOST:PORT"),
        (["--id=1", "--cluster-id=xyz"], "hexadecimal"),
    ] {
        let arguments = ["serve"].into_iter().chain(arguments);
        let said = run_to_end(&arguments.map(str::to_owned).collect::<Vec<_>>()).await;
        assert!(said.contains(expected), "{said}");
    }
}

/// The arguments with the one that begins with `option` replaced.
pub(crate) fn replaced(arguments: &[String], option: &str, new: &str) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    for argument in &mut arguments {
        if argument.starts_with(option) {
            new.clone_into(argument);
        }
    }
    arguments
}
