//! Somebody who speaks to a server without being one.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use bytes::BytesMut;
use raft_wire::frame::{
    ConnectionPurpose, Frame, FrameLimits, Handshake, HandshakeReply, PROTOCOL_VERSION,
    SnapshotReply, encode_frame, try_decode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::CLUSTER;
use crate::support::{PATIENCE, node_id};

/// Somebody who speaks to a server without being one.
pub(crate) struct Stranger {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Stranger {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
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
        self.write_bytes(&bytes[..half]).await.unwrap();
    }

    pub(crate) async fn introduce(&mut self, handshake: Handshake) -> Option<HandshakeReply> {
        self.write(&Frame::Handshake(handshake)).await;
        match self.read().await? {
            Frame::HandshakeReply(reply) => Some(reply),
            other => panic!("{other:?} is no reply to a handshake"),
        }
    }

    pub(crate) async fn write(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        encode_frame(frame, &mut bytes).unwrap();
        self.write_bytes(&bytes).await.unwrap();
    }

    /// Writes what may be no frame.
    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
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
pub(crate) fn handshake(number: u64) -> Handshake {
    Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: CLUSTER,
        from: node_id(number),
        to: node_id(1),
        incarnation: 1,
        purpose: ConnectionPurpose::Messages,
        folder: None,
        process: 0,
        listen_port: None,
    }
}
