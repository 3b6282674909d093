//! # Who may connect
//!
//! The first frame each way: the one who connects says which cluster it belongs
//! to, who it is, which data folder it has, which start of itself it is and whom
//! it means; the other one says welcome, or why not. Until then frames are short and
//! time is limited.

use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use raft_core::NodeId;
use raft_wire::frame::{
    ConnectionPurpose, Frame, FrameLimits, Handshake, HandshakeRejection, HandshakeReply,
    PROTOCOL_VERSION, encode_frame,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use super::TcpTransportConfig;
use super::acquaintances::{Acquaintances, News};
use super::seats::{Seats, Ticket};
use super::stream::{FrameReader, FrameWriter, StreamError, framed};

/// A connection that the other side agreed to.
pub(super) struct Connection {
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
}

/// A connection that we agreed to.
pub(super) struct Guest {
    pub(super) peer: NodeId,
    pub(super) purpose: ConnectionPurpose,
    /// Where it listens, on its machine.
    pub(super) listen_port: Option<NonZeroU16>,
    pub(super) connection: Connection,
    pub(super) ticket: Ticket,
}

/// Whom this server lets in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) acquaintances: Arc<Acquaintances>,
    pub(super) seats: Seats,
}

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("it did not answer in time")]
    Timeout,
    #[error(
        "it belongs to cluster {theirs:032x}, and this node to {ours:032x}; correct its address, \
         or the cluster id of the one that is in the wrong cluster"
    )]
    OtherCluster { ours: u128, theirs: u128 },
    #[error("it refused: {0}")]
    Refused(HandshakeRejection),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error(
        "node {from} of cluster {theirs:032x} was refused and told: this node belongs to cluster \
         {ours:032x}; correct the address that it has for node {to}, or the cluster id of the \
         one that is in the wrong cluster"
    )]
    OtherCluster {
        from: NodeId,
        /// Whom it meant.
        to: NodeId,
        ours: u128,
        theirs: u128,
    },
    #[error("node {from} was refused and told: {rejection}")]
    Refused {
        from: NodeId,
        rejection: HandshakeRejection,
    },
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl OpenError {
    /// Whether both have the same reason, so that it is told once.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unreachable(one), Self::Unreachable(two)) => one.kind() == two.kind(),
            (Self::Refused(one), Self::Refused(two)) => one == two,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// Opens a connection to `peer` and introduces this server.
pub(super) async fn open(
    config: &TcpTransportConfig,
    peer: NodeId,
    address: &str,
    purpose: ConnectionPurpose,
) -> Result<Connection, OpenError> {
    let socket = match timeout(config.connect_timeout, TcpStream::connect(address)).await {
        Ok(socket) => socket?,
        Err(_) => return Err(OpenError::Timeout),
    };
    let mut connection = Connection::new(config, socket)?;
    let handshake = Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: config.cluster_id,
        from: config.node_id,
        to: peer,
        incarnation: config.incarnation,
        purpose,
        folder: config.folder_id,
        process: config.process,
        listen_port: NonZeroU16::new(config.listen.port()),
    };
    connection.write(&Frame::Handshake(handshake)).await?;
    match connection
        .reader
        .next_within(config.handshake_timeout)
        .await?
    {
        Frame::HandshakeReply(HandshakeReply::Welcome) => Ok(connection),
        Frame::HandshakeReply(HandshakeReply::Rejected(rejection)) => Err(match rejection {
            HandshakeRejection::ClusterMismatch { theirs } => OpenError::OtherCluster {
                ours: config.cluster_id,
                theirs,
            },
            rejection => OpenError::Refused(rejection),
        }),
        _ => Err(StreamError::Unexpected.into()),
    }
}

/// Lets somebody in, or tells why not.
pub(super) async fn greet(
    config: &TcpTransportConfig,
    door: &Door,
    socket: TcpStream,
) -> Result<Guest, GreetError> {
    let mut connection = Connection::new(config, socket).map_err(StreamError::from)?;
    let Frame::Handshake(handshake) = connection
        .reader
        .next_within(config.handshake_timeout)
        .await?
    else {
        return Err(StreamError::Unexpected.into());
    };
    match door.admit(config, &handshake).await {
        Ok(ticket) => {
            let welcome = Frame::HandshakeReply(HandshakeReply::Welcome);
            connection.write(&welcome).await?;
            connection.reader.set_limits(FrameLimits {
                frame_bytes_max: config.frame_bytes_max,
            });
            Ok(Guest {
                peer: handshake.from,
                purpose: handshake.purpose,
                listen_port: handshake.listen_port,
                connection,
                ticket,
            })
        }
        Err(rejection) => {
            let reply = Frame::HandshakeReply(HandshakeReply::Rejected(rejection));
            connection.write(&reply).await?;
            Err(match rejection {
                HandshakeRejection::ClusterMismatch { .. } => GreetError::OtherCluster {
                    from: handshake.from,
                    to: handshake.to,
                    ours: config.cluster_id,
                    theirs: handshake.cluster_id,
                },
                rejection => GreetError::Refused {
                    from: handshake.from,
                    rejection,
                },
            })
        }
    }
}

impl Door {
    async fn admit(
        &self,
        config: &TcpTransportConfig,
        handshake: &Handshake,
    ) -> Result<Ticket, HandshakeRejection> {
        examine(config, handshake)?;
        self.acquaintances.check(handshake)?;
        let ticket = self.seats.take(handshake)?;
        if self.acquaintances.remember(handshake) == News::Some {
            // Whoever is let in is known after a restart.
            save(config.node_id, self.acquaintances.clone()).await;
        }
        Ok(ticket)
    }
}

/// Writes down who is known. If that cannot be, it is known until a restart.
pub(super) async fn save(node: NodeId, acquaintances: Arc<Acquaintances>) {
    let saved = tokio::task::spawn_blocking(move || acquaintances.save()).await;
    if let Ok(Err(error)) = saved {
        warn!(%node, %error, "cannot write down which peers are known; look at the disk");
    }
}

fn examine(config: &TcpTransportConfig, handshake: &Handshake) -> Result<(), HandshakeRejection> {
    if handshake.protocol_version != PROTOCOL_VERSION {
        return Err(HandshakeRejection::VersionMismatch {
            theirs: PROTOCOL_VERSION,
        });
    }
    if handshake.cluster_id != config.cluster_id {
        return Err(HandshakeRejection::ClusterMismatch {
            theirs: config.cluster_id,
        });
    }
    if handshake.to != config.node_id || handshake.from == config.node_id {
        return Err(HandshakeRejection::WrongNode {
            theirs: config.node_id,
        });
    }
    Ok(())
}

impl Connection {
    fn new(config: &TcpTransportConfig, socket: TcpStream) -> io::Result<Self> {
        let (reader, writer) = framed(
            socket,
            FrameLimits::HANDSHAKE,
            config.frame_timeout,
            config.keepalive_timeout,
        )?;
        Ok(Self { reader, writer })
    }

    /// Writes one frame out.
    pub(super) async fn write(&mut self, frame: &Frame) -> Result<(), StreamError> {
        encode_frame(frame, self.writer.buffer())?;
        self.writer.flush().await
    }
}
