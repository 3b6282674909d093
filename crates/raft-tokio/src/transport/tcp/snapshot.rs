//! # Snapshots on their way
//!
//! A snapshot travels on a connection of its own, in chunks, so that heartbeats
//! pass it. Each chunk and the whole are checksummed. Whoever waits for the
//! other side waits a limited time, and the sender always learns the end.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_core::{Body, Message, NodeId, SnapshotOutcome};
use raft_wire::frame::{
    ConnectionPurpose, Frame, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
    encode_frame,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::handshake::{Connection, OpenError, open};
use super::incoming::is_plausible;
use super::stream::{FrameWriter, StreamError};
use super::{GROUP, TcpTransportConfig};
use crate::transport::{Inbound, Inbox, Packet};

/// How much data a frame carries.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// With a limited rate, chunks become smaller, so that this many leave in a
/// second and the receiver sees that it goes on.
const CHUNKS_PER_SECOND: u64 = 8;

/// How much is checksummed before other tasks get their turn.
const CHECKSUM_BYTES: usize = 4 << 20;

/// What a header may make us allocate before any data has come.
const PREALLOCATED_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("there is no connection: {0}")]
    Open(#[from] OpenError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Refused(#[from] SnapshotRefusal),
    #[error("the message carries no snapshot")]
    NoSnapshot,
}

/// Takes a snapshot to `peer` and says whether it arrived.
pub(super) async fn send(
    config: &TcpTransportConfig,
    peer: NodeId,
    address: &str,
    message: Message,
) -> SnapshotOutcome {
    let node = config.node_id;
    let started = Instant::now();
    match try_send(config, peer, address, message).await {
        Ok(bytes) => {
            let millis = started.elapsed().as_millis();
            info!(%node, %peer, bytes, millis, "a snapshot arrived at a peer");
            SnapshotOutcome::Arrived
        }
        Err(error) => {
            warn!(%node, %peer, %error, "a snapshot did not arrive at a peer");
            SnapshotOutcome::Failed
        }
    }
}

async fn try_send(
    config: &TcpTransportConfig,
    peer: NodeId,
    address: &str,
    mut message: Message,
) -> Result<usize, SendError> {
    let Body::Snapshot(snapshot) = &mut message.body else {
        return Err(SendError::NoSnapshot);
    };
    let data = std::mem::take(&mut snapshot.data);
    let mut connection = open(config, peer, address, ConnectionPurpose::Snapshot).await?;
    let header = SnapshotHeader {
        group: GROUP,
        message,
        total_bytes: length(&data),
        crc32c: checksum(&data).await,
    };
    connection.write(&Frame::SnapshotHeader(header)).await?;
    connection.writer.set_stall_timeout(config.snapshot_timeout);
    // A receiver that cannot take it says so before everything was sent.
    let early = tokio::select! {
        reply = connection.reader.next() => Some(reply?.ok_or(StreamError::Closed)?),
        sent = send_chunks(config, &mut connection.writer, &data) => {
            sent?;
            None
        }
    };
    let reply = match early {
        Some(reply) => reply,
        None => {
            connection
                .reader
                .next_within(config.snapshot_timeout)
                .await?
        }
    };
    match reply {
        Frame::SnapshotReply(
            SnapshotReply::Received | SnapshotReply::Refused(SnapshotRefusal::NotNeeded),
        ) => Ok(data.len()),
        Frame::SnapshotReply(SnapshotReply::Refused(refusal)) => Err(refusal.into()),
        _ => Err(StreamError::Unexpected.into()),
    }
}

/// Writes the data out, no faster than allowed.
async fn send_chunks(
    config: &TcpTransportConfig,
    writer: &mut FrameWriter,
    data: &Bytes,
) -> Result<(), StreamError> {
    let rate = config.snapshot_bytes_per_second_max;
    let chunk_bytes = chunk_bytes(config);
    let started = Instant::now();
    let mut rest = data.clone();
    let mut offset = 0_u64;
    while !rest.is_empty() {
        let part = rest.split_to(chunk_bytes.min(rest.len()));
        let next = offset.saturating_add(length(&part));
        let chunk = Frame::SnapshotChunk(SnapshotChunk {
            offset,
            crc32c: crc32c::crc32c(&part),
            data: part,
        });
        encode_frame(&chunk, writer.buffer())?;
        writer.flush().await?;
        offset = next;
        if let Some(rate) = rate {
            sleep_until(started + time_for(offset, rate)).await;
        }
    }
    Ok(())
}

/// Takes in the snapshots that come over one connection.
pub(super) async fn receive(
    config: &TcpTransportConfig,
    inbox: &Inbox,
    peer: NodeId,
    mut connection: Connection,
) -> Result<(), StreamError> {
    connection.writer.set_stall_timeout(config.snapshot_timeout);
    while let Some(frame) = connection.reader.next().await? {
        let Frame::SnapshotHeader(header) = frame else {
            return Err(StreamError::Unexpected);
        };
        let announced = Announced::new(config, peer, header)?;
        let reply = match announced.collect(config, &mut connection).await? {
            Ok(message) => {
                let inbound = Inbound::Packet(Packet::Raft(message));
                if !inbox.deliver(inbound).await {
                    return Err(StreamError::Closed);
                }
                SnapshotReply::Received
            }
            Err(refusal) => SnapshotReply::Refused(refusal),
        };
        let is_refused = reply != SnapshotReply::Received;
        connection.write(&Frame::SnapshotReply(reply)).await?;
        if is_refused {
            // Closing on unread data could take the answer back, so what is
            // still coming is read and forgotten.
            let forget = async { while let Ok(Some(_)) = connection.reader.next().await {} };
            let _ = timeout(config.snapshot_timeout, forget).await;
            break;
        }
    }
    Ok(())
}

/// A snapshot that is about to come.
struct Announced {
    message: Message,
    total_bytes: u64,
    crc32c: u32,
}

impl Announced {
    fn new(
        config: &TcpTransportConfig,
        peer: NodeId,
        header: SnapshotHeader,
    ) -> Result<Self, StreamError> {
        let SnapshotHeader {
            group,
            message,
            total_bytes,
            crc32c,
        } = header;
        let is_snapshot = matches!(message.body, Body::Snapshot(_));
        if group != GROUP || !is_snapshot || !is_plausible(config, peer, &message) {
            return Err(StreamError::Unexpected);
        }
        Ok(Self {
            message,
            total_bytes,
            crc32c,
        })
    }

    /// Collects the data, or finds out why it cannot be had.
    async fn collect(
        mut self,
        config: &TcpTransportConfig,
        connection: &mut Connection,
    ) -> Result<Result<Message, SnapshotRefusal>, StreamError> {
        if self.total_bytes > config.snapshot_bytes_max {
            let bytes_max = config.snapshot_bytes_max;
            return Ok(Err(SnapshotRefusal::TooLarge { bytes_max }));
        }
        let first_bytes = self.total_bytes.min(PREALLOCATED_BYTES_MAX);
        let mut data = BytesMut::with_capacity(usize::try_from(first_bytes).unwrap_or(0));
        let mut crc32c = 0;
        while length(&data) < self.total_bytes {
            let Frame::SnapshotChunk(chunk) = connection
                .reader
                .next_within(config.snapshot_timeout)
                .await?
            else {
                return Err(StreamError::Unexpected);
            };
            let offset = length(&data);
            let missing = self.total_bytes.saturating_sub(offset);
            let is_next = chunk.offset == offset
                && !chunk.data.is_empty()
                && length(&chunk.data) <= missing
                && crc32c::crc32c(&chunk.data) == chunk.crc32c;
            if !is_next {
                return Ok(Err(SnapshotRefusal::Corrupt { offset }));
            }
            crc32c = crc32c::crc32c_append(crc32c, &chunk.data);
            data.extend_from_slice(&chunk.data);
        }
        if crc32c != self.crc32c {
            return Ok(Err(SnapshotRefusal::Corrupt { offset: 0 }));
        }
        if let Body::Snapshot(snapshot) = &mut self.message.body {
            snapshot.data = data.freeze();
        }
        Ok(Ok(self.message))
    }
}

/// The checksum of all of it, without keeping other tasks waiting.
async fn checksum(data: &Bytes) -> u32 {
    let mut crc32c = 0;
    for part in data.chunks(CHECKSUM_BYTES) {
        crc32c = crc32c::crc32c_append(crc32c, part);
        tokio::task::yield_now().await;
    }
    crc32c
}

fn chunk_bytes(config: &TcpTransportConfig) -> usize {
    let by_rate = config
        .snapshot_bytes_per_second_max
        .and_then(|rate| usize::try_from(rate.get() / CHUNKS_PER_SECOND).ok())
        .unwrap_or(CHUNK_BYTES_MAX);
    // Half a frame leaves room for what is around the data.
    by_rate
        .min(CHUNK_BYTES_MAX)
        .min(usize::try_from(config.frame_bytes_max / 2).unwrap_or(CHUNK_BYTES_MAX))
        .max(1)
}

/// How long `bytes` take at `rate` bytes per second.
fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn length(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
