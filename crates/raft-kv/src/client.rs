//! # A client
//!
//! What the demo and the bench use: one connection, pipelined, with no cleverness
//! that could hide what the server did. Applications use a published client.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::resp::{MalformedReply, Reply, parse_reply, put_request};

/// A request has no reply. Whether the server did what it asked for is unknown,
/// unless it could not even be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Connection(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent something else than a reply.
    #[error(transparent)]
    Malformed(#[from] MalformedReply),
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers at this address.
    ///
    /// # Cancel safety
    /// If it is cancelled there is no connection.
    pub async fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    /// Adds a request to those that [`flush`](Self::flush) will send.
    pub fn queue(&mut self, arguments: &[&[u8]]) {
        put_request(&mut self.output, arguments.iter().copied());
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The connection broke; some of the requests may have been sent.
    ///
    /// # Cancel safety
    /// If it is cancelled, the next call sends the rest.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while self.output.has_remaining() {
            self.stream.write_buf(&mut self.output).await?;
        }
        Ok(())
    }

    /// The next reply.
    ///
    /// # Errors
    /// There will be none.
    ///
    /// # Cancel safety
    /// If it is cancelled, the next call returns the same reply.
    pub async fn reply(&mut self) -> Result<Reply, ClientError> {
        loop {
            if let Some(reply) = parse_reply(&mut self.input)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// There will be no reply.
    ///
    /// # Cancel safety
    /// None: if it is cancelled, the next reply may be the one to this request.
    /// Drop the client then.
    pub async fn request(&mut self, arguments: &[&[u8]]) -> Result<Reply, ClientError> {
        self.queue(arguments);
        self.flush().await?;
        self.reply().await
    }
}
