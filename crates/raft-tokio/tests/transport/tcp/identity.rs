//! Who is refused under an id: wiped nodes, copied folders, removed members.

use std::net::SocketAddr;

use raft_tokio::transport::{TcpTransport, TcpTransportConfig, Transport};
use raft_wire::frame::{Handshake, HandshakeRejection, HandshakeReply};
use tokio::time::Instant;

use super::stranger::{Stranger, handshake};
use super::{SHORT, bind, config, dead_address, raft_frame};
use crate::support::{End, PATIENCE, heartbeat, node_id, number_of};

/// What node 2 says to node 1 that was started for the `start`th time with a
/// folder, as some process.
fn started(folder: u128, start: u64, process: u64) -> Handshake {
    Handshake {
        incarnation: start,
        folder: Some(folder),
        process,
        ..handshake(2)
    }
}

/// Connects, and expects to be turned away.
async fn expect_refused(address: SocketAddr, handshake: Handshake, rejection: HandshakeRejection) {
    let mut stranger = Stranger::connect(address).await;
    assert_eq!(
        stranger.introduce(handshake).await,
        Some(HandshakeReply::Rejected(rejection)),
        "{handshake:?}"
    );
    stranger.expect_closed().await;
}

/// Connects, and expects to be welcome.
async fn expect_welcome(address: SocketAddr, handshake: Handshake) -> Stranger {
    let mut stranger = Stranger::connect(address).await;
    assert_eq!(
        stranger.introduce(handshake).await,
        Some(HandshakeReply::Welcome),
        "{handshake:?}"
    );
    stranger
}

/// Connects until it is welcome: that an earlier connection has ended may not
/// have been noticed yet.
async fn welcome_in_time(address: SocketAddr, handshake: Handshake) -> Stranger {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stranger = Stranger::connect(address).await;
        match stranger.introduce(handshake).await {
            Some(HandshakeReply::Welcome) => return stranger,
            Some(HandshakeReply::Rejected(HandshakeRejection::Twin))
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(SHORT / 20).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A server that remembers its peers in a folder, and can be started again.
struct Rememberer {
    folder: tempfile::TempDir,
}

impl Rememberer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    async fn start(&self) -> End<TcpTransport> {
        let peers_file = Some(self.folder.path().join("PEERS"));
        let config = TcpTransportConfig {
            peers_file,
            ..config(1)
        };
        End::start(bind(config).await)
    }
}

#[tokio::test]
async fn a_wiped_node_is_refused_under_its_old_id_even_after_a_restart() {
    let rememberer = Rememberer::new();
    let server = rememberer.start().await;
    let own = started(7, 3, 90);
    drop(expect_welcome(server.transport.local_addr(), own).await);
    server.transport.shutdown().await;

    let server = rememberer.start().await;
    let address = server.transport.local_addr();
    let other_folder = HandshakeRejection::OtherFolder;
    expect_refused(address, started(8, 1, 91), other_folder).await;
    // Neither has one that keeps nothing the right to the name.
    expect_refused(address, handshake(2), other_folder).await;
    expect_welcome(address, own).await;
}

#[tokio::test]
async fn a_copied_folder_is_refused_while_its_original_runs_and_when_it_is_behind() {
    let rememberer = Rememberer::new();
    let server = rememberer.start().await;
    let address = server.transport.local_addr();
    let mut original = expect_welcome(address, started(7, 3, 90)).await;
    // However often the copy is started.
    for start in 3..6 {
        expect_refused(address, started(7, start, 91), HandshakeRejection::Twin).await;
    }
    let packet = heartbeat(node_id(2), node_id(1), 5);
    original.write(&raft_frame(packet)).await;
    let mut server = server;
    assert_eq!(number_of(&server.packet().await), 5);
    drop(original);

    // The original starts again, and is the one who is known.
    drop(welcome_in_time(address, started(7, 4, 92)).await);
    server.transport.shutdown().await;
    let server = rememberer.start().await;
    let address = server.transport.local_addr();
    let stale = HandshakeRejection::StaleIncarnation;
    expect_refused(address, started(7, 3, 93), stale).await;
    expect_refused(address, started(7, 4, 93), HandshakeRejection::Twin).await;
    expect_welcome(address, started(7, 5, 94)).await;
}

#[tokio::test]
async fn a_removed_node_is_told_so_until_it_is_a_member_again_with_its_folder() {
    let rememberer = Rememberer::new();
    let mut server = rememberer.start().await;
    drop(expect_welcome(server.transport.local_addr(), started(7, 3, 90)).await);
    server.transport.remove_peer(node_id(2));
    let removed = HandshakeRejection::Removed;
    let address = server.transport.local_addr();
    expect_refused(address, started(7, 4, 91), removed).await;
    expect_refused(address, handshake(2), removed).await;
    // An address alone, which a command line may still have, is no membership.
    server.transport.shutdown().await;
    let config = TcpTransportConfig {
        peers_file: Some(rememberer.folder.path().join("PEERS")),
        peers: vec![(node_id(2), dead_address().await)],
        ..config(1)
    };
    let mut server = End::start(bind(config).await);
    let address = server.transport.local_addr();
    expect_refused(address, started(7, 4, 91), removed).await;

    server.transport.admit_peer(node_id(2));
    let other = HandshakeRejection::OtherFolder;
    expect_refused(address, started(8, 1, 92), other).await;
    expect_welcome(address, started(7, 4, 91)).await;
}

#[tokio::test]
async fn a_damaged_file_of_peers_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("PEERS");
    std::fs::write(&path, "damaged").unwrap();
    let config = TcpTransportConfig {
        peers_file: Some(path.clone()),
        ..config(1)
    };
    let said = TcpTransport::bind(config).await.unwrap_err().to_string();
    assert!(said.contains(&path.display().to_string()), "{said}");
}
