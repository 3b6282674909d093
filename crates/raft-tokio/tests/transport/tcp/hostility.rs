//! What somebody at the door can send, and whom it hurts.

use bytes::{Bytes, BytesMut};
use raft_core::{Body, Message, Proposal, Term};
use raft_tokio::transport::Packet;
use raft_wire::frame::{ConnectionPurpose, Frame, Packet as WirePacket, encode_frame};
use tokio::time::timeout;

use super::stranger::{Stranger, handshake};
use super::{SHORT, bind, config, knock, raft_frame, start};
use crate::support::{End, PATIENCE, heartbeat, node_id, number_of};

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
        let _ = stranger.write_bytes(&garbage).await;
        stranger.expect_closed().await;
    }

    let silent = Stranger::connect(address).await;

    let mut half = Stranger::enter(address, 3, ConnectionPurpose::Messages).await;
    let mut bytes = BytesMut::new();
    encode_frame(&raft_frame(heartbeat(node_id(3), one, 1)), &mut bytes).unwrap();
    half.write_bytes(&bytes[..bytes.len() / 2]).await.unwrap();

    let mut huge = Stranger::enter(address, 4, ConnectionPurpose::Messages).await;
    huge.write_bytes(&u32::MAX.to_le_bytes()).await.unwrap();

    let mut flipped = Stranger::enter(address, 5, ConnectionPurpose::Messages).await;
    *bytes.last_mut().unwrap() ^= 1;
    flipped.write_bytes(&bytes).await.unwrap();

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
            if next.write_bytes(&hello).await.is_ok() && next.read().await.is_some() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("no room came back");
}
