//! # From bytes to frames
//!
//! Owns the read buffer of a connection. Payloads are slices of that buffer: a
//! frame is copied once, from the socket. A frame's length is checked before
//! its bytes are waited for, and a frame that has begun must go on arriving;
//! between frames a peer may be silent for as long as it likes.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use raft_wire::WireError;
use raft_wire::frame::{Frame, FrameLimits, try_decode_frame};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

/// How much is read at once, and how much of a frame must arrive in the time
/// that a frame has.
const READ_BYTES: usize = 64 << 10;

/// A buffer that grew for something large does not stay that large.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error("the other side sent something that is not a frame: {0}")]
    Malformed(#[from] WireError),
    #[error("the other side sent a frame that does not belong here")]
    Unexpected,
    #[error("the other side stopped in the middle of something")]
    Stalled,
}

/// Reads frames from one connection.
#[derive(Debug)]
pub(super) struct FrameReader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    limits: FrameLimits,
    frame_timeout: Duration,
}

/// Writes frames to one connection, as many per system call as there are.
#[derive(Debug)]
pub(super) struct FrameWriter {
    socket: OwnedWriteHalf,
    buffer: BytesMut,
    /// How long the other side may take no byte at all.
    stall_timeout: Duration,
}

/// Prepares a socket and splits it.
pub(super) fn framed(
    socket: TcpStream,
    limits: FrameLimits,
    frame_timeout: Duration,
    keepalive_timeout: Duration,
) -> io::Result<(FrameReader, FrameWriter)> {
    socket.set_nodelay(true)?;
    // Silence is probed: half of the patience first, then every eighth.
    let keepalive = TcpKeepalive::new()
        .with_time(keepalive_timeout / 2)
        .with_interval((keepalive_timeout / 8).max(Duration::from_secs(1)));
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&keepalive)?;
    // Unanswered data counts as well; keepalive alone looks at idle sockets.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    options.set_tcp_user_timeout(Some(keepalive_timeout))?;
    let (read, write) = socket.into_split();
    let reader = FrameReader {
        socket: read,
        buffer: BytesMut::new(),
        limits,
        frame_timeout,
    };
    let writer = FrameWriter {
        socket: write,
        buffer: BytesMut::new(),
        stall_timeout: frame_timeout,
    };
    Ok((reader, writer))
}

impl FrameReader {
    /// From now on frames may be this long.
    pub(super) fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// The next frame; `None` if the other side closed the connection after the
    /// last one.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        if let Some(frame) = try_decode_frame(&mut self.buffer, &self.limits)? {
            return Ok(Some(frame));
        }
        // Nobody has to hurry before a frame begins.
        if self.buffer.is_empty() && self.read().await? == 0 {
            return Ok(None);
        }
        let mut deadline = Instant::now() + self.frame_timeout;
        let mut read_since = 0_usize;
        loop {
            if let Some(frame) = try_decode_frame(&mut self.buffer, &self.limits)? {
                return Ok(Some(frame));
            }
            match timeout_at(deadline, self.read()).await {
                Ok(Ok(0)) => return Err(StreamError::Closed),
                Ok(count) => read_since = read_since.saturating_add(count?),
                Err(_) => return Err(StreamError::Stalled),
            }
            if read_since >= READ_BYTES {
                read_since = 0;
                deadline = Instant::now() + self.frame_timeout;
            }
        }
    }

    /// The next frame, which must begin in time as well.
    pub(super) async fn next_within(&mut self, limit: Duration) -> Result<Frame, StreamError> {
        match timeout(limit, self.next()).await {
            Ok(frame) => frame?.ok_or(StreamError::Closed),
            Err(_) => Err(StreamError::Stalled),
        }
    }

    /// Waits until the other side, which has nothing to say, closes.
    ///
    /// # Cancel safety
    /// Nothing is lost, since anything that comes is an error.
    pub(super) async fn closed(&mut self) -> StreamError {
        match self.next().await {
            Ok(None) => StreamError::Closed,
            Ok(Some(_)) => StreamError::Unexpected,
            Err(error) => error,
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        // For a frame that has begun the decoder has made room already.
        let room = self.buffer.capacity().saturating_sub(self.buffer.len());
        if room == 0 || (room < READ_BYTES / 8 && self.buffer.len() < READ_BYTES) {
            self.buffer.reserve(READ_BYTES);
        }
        self.socket.read_buf(&mut self.buffer).await
    }
}

impl FrameWriter {
    /// From now on the other side may pause for this long.
    pub(super) fn set_stall_timeout(&mut self, stall_timeout: Duration) {
        self.stall_timeout = stall_timeout;
    }

    /// Where frames are encoded.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Writes everything out.
    pub(super) async fn flush(&mut self) -> Result<(), StreamError> {
        let mut rest = self.buffer.as_ref();
        while !rest.is_empty() {
            let written = match timeout(self.stall_timeout, self.socket.write(rest)).await {
                Ok(Ok(0)) => return Err(StreamError::Closed),
                Ok(written) => written?,
                Err(_) => return Err(StreamError::Stalled),
            };
            rest = rest.get(written..).unwrap_or_default();
        }
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        self.buffer.clear();
        Ok(())
    }
}
