//! A server begins on a port of its own and leaves nothing behind.

use bytes::Bytes;
use raft_tokio::transport::{TcpTransport, Transport, TransportError};
use tokio::time::timeout;

use super::stranger::Stranger;
use super::{bind, config, dead_address, knock, start};
use crate::support::{PATIENCE, node_id};

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = bind(config(1)).await;
    let mut same = config(2);
    same.listen = taken.local_addr();
    let error = TcpTransport::bind(same).await.unwrap_err();
    assert!(matches!(error, TransportError::AddressInUse { .. }));
    let sentence = error.to_string();
    assert!(
        sentence.contains(&taken.local_addr().to_string()),
        "{sentence}"
    );
}

/// Waits until no task but this test's own is left.
async fn no_tasks_left() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let gone = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("tasks were left");
}

#[tokio::test]
async fn shutdown_leaves_no_task_and_frees_the_port() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;
    first
        .transport
        .set_peer(node_id(3), Some(&dead_address().await));
    first.send_snapshot(one, two, &Bytes::from(vec![1; 8 << 20]));
    let address = first.transport.local_addr();
    let stranger = Stranger::connect(address).await;

    first.transport.shutdown().await;
    stranger.expect_closed().await;
    let mut same = config(1);
    same.listen = address;
    let again = bind(same).await;
    second.transport.shutdown().await;
    drop(again);
    no_tasks_left().await;
}

#[tokio::test]
async fn dropping_leaves_no_task() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;
    drop((first, second));
    no_tasks_left().await;
}
