use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_core::{
    Body, Entries, Entry, EntryId, LogIndex, Message, NodeId, Proposal, SnapshotOutcome, Term,
};
use raft_tokio::transport::{
    Inbound, Packet, RequestKind, ResponseOutcome, TcpTransport, TcpTransportConfig, Transport,
    TransportError,
};
use raft_wire::frame::{
    ConnectionPurpose, Frame, FrameLimits, Handshake, HandshakeRejection, HandshakeReply,
    PROTOCOL_VERSION, Packet as WirePacket, SnapshotChunk, SnapshotHeader, SnapshotRefusal,
    SnapshotReply, encode_frame, try_decode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::{End, PATIENCE, heartbeat, node_id, number_of, snapshot};

const CLUSTER: u128 = 0xc1u128 << 64 | 7;
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn config(number: u64) -> TcpTransportConfig {
    TcpTransportConfig::new(node_id(number), CLUSTER, 1, loopback())
}

pub(crate) async fn bind(config: TcpTransportConfig) -> TcpTransport {
    TcpTransport::bind(config).await.unwrap()
}

/// Starts servers that know each other.
async fn start<const N: usize>(configs: [TcpTransportConfig; N]) -> [End<TcpTransport>; N] {
    let mut transports = Vec::new();
    let mut addresses = Vec::new();
    for config in configs {
        let id = config.node_id;
        let transport = bind(config).await;
        addresses.push((id, transport.local_addr().to_string()));
        transports.push(transport);
    }
    let ends = transports.into_iter().map(|mut transport| {
        for (id, address) in &addresses {
            transport.set_peer(*id, Some(address));
        }
        End::start(transport)
    });
    ends.collect::<Vec<_>>().try_into().ok().unwrap()
}

/// An address where nobody listens.
async fn dead_address() -> String {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Sends heartbeats until one comes, which is what a leader does.
async fn knock(from: &mut End<TcpTransport>, to: &mut End<TcpTransport>, ids: (NodeId, NodeId)) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        from.send(ids.1, heartbeat(ids.0, ids.1, 0));
        if let Some(Inbound::Packet(_)) = to.next_within(Duration::from_millis(20)).await {
            return;
        }
    }
    panic!("nothing came");
}

/// The message of a snapshot's header: without a manifest, which is in the header
/// itself.
pub(crate) fn announcement(from: NodeId, to: NodeId) -> Message {
    let Packet::Raft(mut message) = snapshot(from, to, b"") else {
        unreachable!()
    };
    if let Body::Snapshot(snapshot) = &mut message.body {
        snapshot.data = Bytes::new();
    }
    message
}

/// Somebody who speaks to a server without being one.
pub(crate) struct Stranger {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Stranger {
    async fn connect(address: SocketAddr) -> Self {
        Self {
            socket: TcpStream::connect(address).await.unwrap(),
            buffer: BytesMut::new(),
        }
    }

    /// Connects as node `number` and is let in.
    pub(crate) async fn enter(
        address: SocketAddr,
        number: u64,
        purpose: ConnectionPurpose,
    ) -> Self {
        let mut stranger = Self::connect(address).await;
        let handshake = Handshake {
            purpose,
            ..handshake(number)
        };
        assert_eq!(
            stranger.introduce(handshake).await,
            Some(HandshakeReply::Welcome)
        );
        stranger
    }

    /// Lets a server in that connects here, and says what for.
    pub(crate) async fn welcome(listener: &TcpListener) -> (Self, ConnectionPurpose) {
        let (socket, _) = listener.accept().await.unwrap();
        let mut guest = Self {
            socket,
            buffer: BytesMut::new(),
        };
        let Some(Frame::Handshake(handshake)) = guest.read().await else {
            panic!("a connection begins with a handshake");
        };
        guest
            .write(&Frame::HandshakeReply(HandshakeReply::Welcome))
            .await;
        (guest, handshake.purpose)
    }

    /// Writes a frame, but not its end.
    pub(crate) async fn write_half(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        encode_frame(frame, &mut bytes).unwrap();
        let half = bytes.len() / 2;
        self.socket.write_all(&bytes[..half]).await.unwrap();
    }

    async fn introduce(&mut self, handshake: Handshake) -> Option<HandshakeReply> {
        self.write(&Frame::Handshake(handshake)).await;
        match self.read().await? {
            Frame::HandshakeReply(reply) => Some(reply),
            other => panic!("{other:?} is no reply to a handshake"),
        }
    }

    pub(crate) async fn write(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        encode_frame(frame, &mut bytes).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// The next frame; `None` once the server has closed the connection.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        loop {
            let limits = FrameLimits::default();
            if let Some(frame) = try_decode_frame(&mut self.buffer, &limits).unwrap() {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await;
            match read.expect("the server neither answers nor closes") {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The server has so much of the snapshot that was announced.
    pub(crate) async fn expect_accepted(&mut self, offset: u64) {
        let accepted = SnapshotReply::Accepted { offset };
        assert_eq!(self.read().await, Some(Frame::SnapshotReply(accepted)));
    }

    pub(crate) async fn expect_closed(mut self) {
        assert_eq!(self.read().await, None);
    }
}

/// What node `number` says to node 1.
fn handshake(number: u64) -> Handshake {
    Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: CLUSTER,
        from: node_id(number),
        to: node_id(1),
        incarnation: 1,
        purpose: ConnectionPurpose::Messages,
        folder: None,
        process: 0,
    }
}

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

pub(crate) fn raft_frame(packet: Packet) -> Frame {
    let Packet::Raft(message) = packet else {
        panic!("{packet:?} is no message");
    };
    Frame::Packet(WirePacket::Raft { group: 0, message })
}

#[tokio::test]
async fn packets_arrive_in_order_both_ways() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    for number in 0..1000 {
        first.send(two, heartbeat(one, two, number));
        second.send(one, heartbeat(two, one, 5000 + number));
    }
    for number in 0..1000 {
        assert_eq!(number_of(&second.packet().await), number);
        assert_eq!(number_of(&first.packet().await), 5000 + number);
    }
}

#[tokio::test]
async fn every_kind_of_packet_arrives_as_it_was_sent() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    // Longer than one read, so that it arrives in pieces.
    let large = Bytes::from(vec![7; 3 << 20]);
    let entries = Entries::from_batch(vec![
        Entry::normal(Term::new(2), LogIndex::new(6), Bytes::from_static(b"a")),
        Entry::normal(Term::new(2), LogIndex::new(7), large.clone()),
    ])
    .unwrap();
    let packets = [
        Packet::Raft(Message {
            to: two,
            from: one,
            term: Term::new(2),
            body: Body::Append {
                prev: EntryId::new(Term::new(1), LogIndex::new(5)),
                entries,
                commit: LogIndex::new(4),
            },
        }),
        Packet::Request {
            from: one,
            id: 11,
            kind: RequestKind::Query,
            payload: large,
        },
        Packet::Response {
            from: one,
            id: 12,
            outcome: ResponseOutcome::Refused {
                code: 3,
                detail: Bytes::from_static(b"no"),
            },
        },
        Packet::Response {
            from: one,
            id: 13,
            outcome: ResponseOutcome::Unknown,
        },
    ];
    for packet in packets.clone() {
        first.send(two, packet);
    }
    for packet in packets {
        assert_eq!(second.packet().await, packet);
    }
}

#[tokio::test]
async fn a_peer_that_restarts_is_connected_again() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;

    let address = second.transport.local_addr();
    second.transport.shutdown().await;
    let gone = async {
        loop {
            first.send(two, heartbeat(one, two, 1));
            if let Some(Inbound::Unreachable(peer)) = first.next_within(SHORT / 10).await {
                assert_eq!(peer, two);
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("nobody noticed");

    let mut restarted = config(2);
    restarted.listen = address;
    restarted.incarnation = 2;
    let mut second = End::start(bind(restarted).await);
    knock(&mut first, &mut second, (one, two)).await;
}

#[tokio::test]
async fn a_dead_peer_is_reported_seldom_and_blocks_nobody() {
    let (one, two, three) = (node_id(1), node_id(2), node_id(3));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    first.transport.set_peer(three, Some(&dead_address().await));
    let started = Instant::now();
    for number in 0..100_000 {
        first.send(three, heartbeat(one, three, number));
    }
    first.unreachable(three).await;
    knock(&mut first, &mut second, (one, two)).await;
    let mut reports = 1;
    while let Some(inbound) = first.waiting() {
        reports += u64::from(matches!(inbound, Inbound::Unreachable(_)));
    }
    // One per second, and one for the change.
    assert!(
        reports <= started.elapsed().as_secs() + 3,
        "{reports} reports"
    );
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_blocks_nobody() {
    let (one, two) = (node_id(1), node_id(2));
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mut first = End::start(bind(config(1)).await);
    let address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    for number in 0..100_000 {
        first.send(two, heartbeat(one, two, number));
    }
    first.unreachable(two).await;
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let (one, two) = (node_id(1), node_id(2));
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mut small = config(1);
    small.queue_bytes_max = 1 << 20;
    let mut first = End::start(bind(small).await);
    let address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    let payload = Bytes::from(vec![0; 400 << 10]);
    // Three are above the limit, so the fourth is dropped.
    for id in 0..4 {
        assert!(first.waiting().is_none());
        first.send(
            two,
            Packet::Request {
                from: one,
                id,
                kind: RequestKind::Propose,
                payload: payload.clone(),
            },
        );
    }
    assert!(matches!(first.waiting(), Some(Inbound::Unreachable(_))));
}

#[tokio::test]
async fn a_packet_that_is_too_long_is_dropped_and_the_next_one_arrives() {
    let (one, two) = (node_id(1), node_id(2));
    let mut short_frames = config(1);
    short_frames.frame_bytes_max = 10_000;
    let [mut first, mut second] = start([short_frames, config(2)]).await;
    let long = Packet::Request {
        from: one,
        id: 1,
        kind: RequestKind::Propose,
        payload: Bytes::from(vec![0; 20_000]),
    };
    first.send(two, long);
    first.send(two, heartbeat(one, two, 5));
    assert_eq!(number_of(&second.packet().await), 5);
    first.unreachable(two).await;
}

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
async fn a_removed_node_is_told_so_until_it_is_a_member_again() {
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
    expect_welcome(address, started(8, 1, 92)).await;
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

#[tokio::test]
async fn garbage_and_half_frames_end_their_own_connection_only() {
    let (one, two) = (node_id(1), node_id(2));
    let mut impatient = config(1);
    impatient.handshake_timeout = SHORT;
    impatient.frame_timeout = SHORT;
    let [mut first, mut second] = start([impatient, config(2)]).await;
    knock(&mut second, &mut first, (two, one)).await;
    let address = first.transport.local_addr();

    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..50 {
        let mut stranger = Stranger::connect(address).await;
        let garbage: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        // It may be closed before all of it was written.
        let _ = stranger.socket.write_all(&garbage).await;
        stranger.expect_closed().await;
    }

    let silent = Stranger::connect(address).await;

    let mut half = Stranger::enter(address, 3, ConnectionPurpose::Messages).await;
    let mut bytes = BytesMut::new();
    encode_frame(&raft_frame(heartbeat(node_id(3), one, 1)), &mut bytes).unwrap();
    half.socket
        .write_all(&bytes[..bytes.len() / 2])
        .await
        .unwrap();

    let mut huge = Stranger::enter(address, 4, ConnectionPurpose::Messages).await;
    huge.socket
        .write_all(&u32::MAX.to_le_bytes())
        .await
        .unwrap();

    let mut flipped = Stranger::enter(address, 5, ConnectionPurpose::Messages).await;
    *bytes.last_mut().unwrap() ^= 1;
    flipped.socket.write_all(&bytes).await.unwrap();

    let mut misplaced = Stranger::enter(address, 6, ConnectionPurpose::Messages).await;
    misplaced.write(&Frame::Handshake(handshake(6))).await;

    for stranger in [silent, half, huge, flipped, misplaced] {
        stranger.expect_closed().await;
    }
    // A peer that is only silent stays, and so does its connection.
    for number in 0..10 {
        second.send(one, heartbeat(two, one, number));
        assert_eq!(number_of(&first.packet().await), number);
    }
}

#[tokio::test]
async fn a_peer_speaks_for_itself_except_in_what_it_forwards() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    let message = |to, from, body| Message {
        to: node_id(to),
        from: node_id(from),
        term: Term::ZERO,
        body,
    };
    let forwarded = message(
        1,
        3,
        Body::Propose {
            proposals: vec![Proposal::normal(Bytes::from_static(b"x"))],
        },
    );
    let forged = heartbeat(node_id(3), node_id(1), 1);
    let misdirected = heartbeat(node_id(2), node_id(9), 2);
    let own = heartbeat(node_id(2), node_id(1), 3);
    for packet in [
        Packet::Raft(forwarded.clone()),
        forged,
        misdirected,
        own.clone(),
    ] {
        peer.write(&raft_frame(packet)).await;
    }
    assert_eq!(server.packet().await, Packet::Raft(forwarded));
    assert_eq!(server.packet().await, own);
}

#[tokio::test]
async fn a_message_of_an_unknown_group_is_passed_over() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    let Frame::Packet(WirePacket::Raft { message, .. }) =
        raft_frame(heartbeat(node_id(2), node_id(1), 1))
    else {
        unreachable!()
    };
    peer.write(&Frame::Packet(WirePacket::Raft { group: 5, message }))
        .await;
    peer.write(&raft_frame(heartbeat(node_id(2), node_id(1), 2)))
        .await;
    assert_eq!(number_of(&server.packet().await), 2);
}

#[tokio::test]
async fn too_many_connections_are_closed_and_room_is_given_again() {
    let mut narrow = config(1);
    narrow.connections_max = 1;
    let server = End::start(bind(narrow).await);
    let address = server.transport.local_addr();
    let inside = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    Stranger::connect(address).await.expect_closed().await;
    drop(inside);
    let again = async {
        loop {
            let mut next = Stranger::connect(address).await;
            // Until the server has noticed, it closes the door at once.
            let mut hello = BytesMut::new();
            encode_frame(&Frame::Handshake(handshake(3)), &mut hello).unwrap();
            if next.socket.write_all(&hello).await.is_ok() && next.read().await.is_some() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("no room came back");
}

#[tokio::test]
async fn a_busy_replica_slows_its_peer_down_and_loses_nothing() {
    let (one, two) = (node_id(1), node_id(2));
    let mut first = End::with_room(bind(config(1)).await, 1);
    let address = first.transport.local_addr();
    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Messages).await;
    for number in 0..100 {
        peer.write(&raft_frame(heartbeat(two, one, number))).await;
    }
    for number in 0..100 {
        assert_eq!(number_of(&first.packet().await), number);
    }
}

#[tokio::test]
async fn a_large_snapshot_arrives_and_other_packets_pass_it() {
    let (one, two) = (node_id(1), node_id(2));
    let mut throttled = config(1);
    throttled.snapshot_bytes_per_second_max = NonZeroU64::new(40 << 20);
    let [mut first, mut second] = start([throttled, config(2)]).await;
    knock(&mut first, &mut second, (one, two)).await;

    let data: Bytes = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
    assert_eq!(data.len(), 20 << 20);
    let started = Instant::now();
    first.send_snapshot(one, two, &data);
    let mut passed = 0;
    let arrived = loop {
        first.send(two, heartbeat(one, two, 0));
        match second.packet().await {
            Packet::Raft(message) if matches!(message.body, Body::Snapshot(_)) => break message,
            _ => passed += 1,
        }
    };
    assert!(Packet::Raft(arrived) == snapshot(one, two, &data));
    assert!(second.snapshot_data() == data);
    assert!(passed > 10, "only {passed} packets passed the snapshot");
    // It had to take half a second; the last chunk does not wait.
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Arrived)
    );
}

#[tokio::test]
async fn an_empty_snapshot_and_one_after_another_arrive() {
    let (one, two) = (node_id(1), node_id(2));
    let [mut first, mut second] = start([config(1), config(2)]).await;
    for data in [Bytes::new(), Bytes::from_static(b"state")] {
        first.send_snapshot(one, two, &data);
        assert_eq!(second.packet().await, snapshot(one, two, &data));
        assert_eq!(second.snapshot_data(), data);
        assert_eq!(
            first.snapshot_outcome().await,
            (two, SnapshotOutcome::Arrived)
        );
        second.refuse_snapshot().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_arrive_is_reported_failed_in_time() {
    let (one, two, three, four) = (node_id(1), node_id(2), node_id(3), node_id(4));
    let mut impatient = config(1);
    impatient.handshake_timeout = SHORT;
    let mut first = End::start(bind(impatient).await);
    let mute = TcpListener::bind(loopback()).await.unwrap();
    let mute_address = mute.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&dead_address().await));
    first.transport.set_peer(three, Some(&mute_address));
    // The fourth has no address at all.
    let started = Instant::now();
    for peer in [two, three, four] {
        first.send_snapshot(one, peer, &Bytes::from_static(b"state"));
        assert_eq!(
            first.snapshot_outcome().await,
            (peer, SnapshotOutcome::Failed)
        );
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_snapshot_whose_receiver_stops_reading_is_reported_failed() {
    let (one, two) = (node_id(1), node_id(2));
    let mut impatient = config(1);
    impatient.snapshot_timeout = SHORT;
    let mut first = End::start(bind(impatient).await);
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    first.transport.set_peer(two, Some(&address));
    // Welcomes everybody, accepts every snapshot, and then reads no more.
    let lazy = tokio::spawn(async move {
        let mut welcomed = Vec::new();
        loop {
            let (mut guest, purpose) = Stranger::welcome(&listener).await;
            if purpose == ConnectionPurpose::Snapshot {
                let accepted = SnapshotReply::Accepted { offset: 0 };
                guest.write(&Frame::SnapshotReply(accepted)).await;
            }
            welcomed.push(guest);
        }
    });
    let data = Bytes::from(vec![1; 32 << 20]);
    first.send_snapshot(one, two, &data);
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
    lazy.abort();
}

#[tokio::test]
async fn a_snapshot_that_is_too_large_for_its_receiver_is_reported_failed() {
    let (one, two) = (node_id(1), node_id(2));
    let mut small = config(2);
    small.snapshot_bytes_max = 1 << 20;
    let [mut first, mut second] = start([config(1), small]).await;
    first.send_snapshot(one, two, &Bytes::from(vec![1; 8 << 20]));
    assert_eq!(
        first.snapshot_outcome().await,
        (two, SnapshotOutcome::Failed)
    );
    assert!(second.waiting().is_none());
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_its_checksums_is_refused() {
    let mut server = End::start(bind(config(1)).await);
    let address = server.transport.local_addr();
    let data = Bytes::from_static(b"state");
    let header = SnapshotHeader {
        group: 0,
        message: announcement(node_id(2), node_id(1)),
        total_bytes: 5,
        crc32c: crc32c::crc32c(&data),
    };
    let chunk = SnapshotChunk {
        offset: 0,
        crc32c: crc32c::crc32c(&data),
        data,
    };
    let corrupt = [
        // Of the whole.
        (
            SnapshotHeader {
                crc32c: 1,
                ..header.clone()
            },
            chunk.clone(),
        ),
        // Of the chunk.
        (
            header.clone(),
            SnapshotChunk {
                crc32c: 1,
                ..chunk.clone()
            },
        ),
        // A gap.
        (
            header.clone(),
            SnapshotChunk {
                offset: 3,
                ..chunk.clone()
            },
        ),
        // More than was announced.
        (
            SnapshotHeader {
                total_bytes: 4,
                ..header.clone()
            },
            chunk.clone(),
        ),
    ];
    for (header, chunk) in corrupt {
        let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
        peer.write(&Frame::SnapshotHeader(header)).await;
        peer.write(&Frame::SnapshotChunk(chunk)).await;
        peer.expect_accepted(0).await;
        assert_eq!(
            peer.read().await,
            Some(Frame::SnapshotReply(SnapshotReply::Refused(
                SnapshotRefusal::Corrupt { offset: 0 }
            )))
        );
    }
    assert!(server.waiting().is_none());

    let mut peer = Stranger::enter(address, 2, ConnectionPurpose::Snapshot).await;
    peer.write(&Frame::SnapshotHeader(header)).await;
    peer.write(&Frame::SnapshotChunk(chunk)).await;
    peer.expect_accepted(0).await;
    assert_eq!(
        peer.read().await,
        Some(Frame::SnapshotReply(SnapshotReply::Received))
    );
    let whole = snapshot(node_id(2), node_id(1), b"state");
    assert_eq!(server.packet().await, whole);
    assert_eq!(server.snapshot_data(), "state");
}

#[tokio::test]
async fn a_peer_that_moves_is_found_at_its_new_address() {
    let (one, two) = (node_id(1), node_id(2));
    let mut first = End::start(bind(config(1)).await);
    first.transport.set_peer(two, Some(&dead_address().await));
    first.send(two, heartbeat(one, two, 1));
    first.unreachable(two).await;

    let mut second = End::start(bind(config(2)).await);
    let address = second.transport.local_addr().to_string();
    first.transport.set_peer(two, Some(&address));
    knock(&mut first, &mut second, (one, two)).await;

    first.transport.set_peer(two, None);
    while first.waiting().is_some() {}
    while second.waiting().is_some() {}
    first.send(two, heartbeat(one, two, 2));
    first.unreachable(two).await;
    assert!(second.waiting().is_none());
}

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
