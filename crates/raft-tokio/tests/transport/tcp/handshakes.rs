//! What a connection begins with, and which one of two stays.

use raft_wire::frame::{
    ConnectionPurpose, Handshake, HandshakeRejection, HandshakeReply, PROTOCOL_VERSION,
};

use super::stranger::{Stranger, handshake};
use super::{CLUSTER, bind, config, raft_frame, start};
use crate::support::{End, heartbeat, node_id, number_of};

#[tokio::test]
async fn a_handshake_of_the_wrong_kind_is_refused_with_its_reason() {
    let server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let right = handshake(2);
    let cases = [
        (
            Handshake {
                cluster_id: CLUSTER + 1,
                ..right
            },
            HandshakeRejection::ClusterMismatch { theirs: CLUSTER },
        ),
        (
            Handshake {
                to: node_id(9),
                ..right
            },
            HandshakeRejection::WrongNode { theirs: node_id(1) },
        ),
        (
            // Itself.
            Handshake {
                from: node_id(1),
                ..right
            },
            HandshakeRejection::WrongNode { theirs: node_id(1) },
        ),
        (
            Handshake {
                protocol_version: PROTOCOL_VERSION + 1,
                ..right
            },
            HandshakeRejection::VersionMismatch {
                theirs: PROTOCOL_VERSION,
            },
        ),
    ];
    for (wrong, rejection) in cases {
        let mut stranger = Stranger::connect(address).await;
        assert_eq!(
            stranger.introduce(wrong).await,
            Some(HandshakeReply::Rejected(rejection))
        );
        stranger.expect_closed().await;
    }
}

#[tokio::test]
async fn a_peer_of_another_cluster_is_unreachable() {
    let (one, two) = (node_id(1), node_id(2));
    let mut foreign = config(2);
    foreign.cluster_id = CLUSTER + 1;
    let [mut first, mut second] = start([config(1), foreign]).await;
    first.send(two, heartbeat(one, two, 1));
    first.unreachable(two).await;
    assert!(second.waiting().is_none());
}

#[tokio::test]
async fn a_newer_connection_ends_the_older_and_an_older_start_stays_out() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let old = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    let bulk = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    let mut other = Stranger::enter(address, 3, ConnectionPurpose::Messages).await;

    let second = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    old.expect_closed().await;

    let mut restarted = Stranger::connect(address).await;
    let later = Handshake {
        incarnation: 2,
        ..handshake(2)
    };
    assert_eq!(
        restarted.introduce(later).await,
        Some(HandshakeReply::Welcome)
    );
    second.expect_closed().await;
    bulk.expect_closed().await;

    let mut past = Stranger::connect(address).await;
    assert_eq!(
        past.introduce(handshake(2)).await,
        Some(HandshakeReply::Rejected(
            HandshakeRejection::StaleIncarnation
        ))
    );
    for (stranger, number) in [(&mut restarted, 2), (&mut other, 3)] {
        let packet = heartbeat(node_id(number), node_id(1), number);
        stranger.write(&raft_frame(packet)).await;
        assert_eq!(number_of(&server.packet().await), number);
    }
}
