//! # A snapshot on its way out
//!
//! A snapshot travels on a connection of its own, in chunks, so that heartbeats
//! pass it. The receiver says first how much it has, and gets the rest. A chunk
//! is in memory at a time; each and the whole are checksummed. Whoever waits for
//! the other side waits a limited time.
//!
//! A connection that breaks is followed by another one, as long as each attempt
//! finds the receiver further than the one before. Whatever happens, the replica
//! learns the end.
//!
//! - Owns: one transfer.
//! - Reads: the data, from the exchange.

use std::num::NonZeroU64;
use std::time::Duration;

use raft_core::{Body, Message, NodeId, SnapshotOutcome};
use raft_wire::frame::{
    ConnectionPurpose, Frame, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply,
    encode_frame,
};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::handshake::{OpenError, open};
use super::stream::{FrameReader, FrameWriter, StreamError};
use super::{GROUP, TcpTransportConfig};
use crate::snapshot::{OutgoingSnapshot, SnapshotExchange, SnapshotStorageError};

/// How much data a frame carries.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// With a limited rate, chunks become smaller, so that this many leave in a
/// second and the receiver sees that it goes on.
const CHUNKS_PER_SECOND: u64 = 8;

/// How often a receiver may say in a row that its disk is at work. It does so
/// three times per `snapshot_timeout`.
const WORKING_COUNT_MAX: u32 = 180;

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("there is no connection: {0}")]
    Open(#[from] OpenError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Refused(#[from] SnapshotRefusal),
    #[error("it cannot be read: {0}")]
    Read(#[from] SnapshotStorageError),
    #[error("the message carries no snapshot")]
    NoSnapshot,
}

impl SendError {
    /// Whether the same may succeed over another connection.
    fn is_broken_off(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Stream(_))
    }
}

/// Takes a snapshot to `peer` and says whether it arrived.
pub(super) async fn send(
    config: &TcpTransportConfig,
    snapshots: &SnapshotExchange,
    peer: NodeId,
    address: &str,
    message: Message,
) -> SnapshotOutcome {
    let node = config.node_id;
    let started = Instant::now();
    match send_resuming(config, snapshots, peer, address, message).await {
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

async fn send_resuming(
    config: &TcpTransportConfig,
    snapshots: &SnapshotExchange,
    peer: NodeId,
    address: &str,
    mut message: Message,
) -> Result<u64, SendError> {
    let Body::Snapshot(snapshot) = &mut message.body else {
        return Err(SendError::NoSnapshot);
    };
    let data = snapshots.outgoing(snapshot).await?;
    let manifest = data.manifest();
    let total_bytes = manifest.data_bytes;
    let crc32c = manifest.crc32c;
    let addresses = manifest.addresses.encode();
    // The header says it.
    snapshot.data = bytes::Bytes::new();
    let mut transfer = Transfer {
        header: SnapshotHeader {
            group: GROUP,
            message,
            total_bytes,
            crc32c,
            addresses,
        },
        data,
        begun_at: None,
    };
    let mut reached = None;
    loop {
        let Err(error) = transfer.attempt(config, peer, address).await else {
            return Ok(total_bytes);
        };
        if matches!(error, SendError::Refused(SnapshotRefusal::Corrupt { .. })) {
            // The next attempt may do, unless it was wrong from the start.
            transfer.data.check().await?;
            return Err(error);
        }
        let began = transfer.begun_at.take();
        if !error.is_broken_off() || began <= reached {
            return Err(error);
        }
        reached = began;
        debug!(node = %config.node_id, %peer, %error, "a snapshot broke off; going on with it");
        sleep(config.reconnect_delay_min).await;
    }
}

/// A snapshot on its way.
struct Transfer {
    header: SnapshotHeader,
    data: OutgoingSnapshot,
    /// Where the receiver wanted the attempt to begin, in bytes, if it said so.
    begun_at: Option<u64>,
}

impl Transfer {
    async fn attempt(
        &mut self,
        config: &TcpTransportConfig,
        peer: NodeId,
        address: &str,
    ) -> Result<(), SendError> {
        let mut connection = open(config, peer, address, ConnectionPurpose::Snapshot).await?;
        let header = Frame::SnapshotHeader(self.header.clone());
        connection.write(&header).await?;
        let total_bytes = self.header.total_bytes;
        let offset = match reply(config, &mut connection.reader).await? {
            SnapshotReply::Accepted { offset } if offset <= total_bytes => offset,
            SnapshotReply::Received | SnapshotReply::Refused(SnapshotRefusal::NotNeeded) => {
                return Ok(());
            }
            SnapshotReply::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(StreamError::Unexpected.into()),
        };
        self.begun_at = Some(offset);
        connection.writer.set_stall_timeout(config.snapshot_timeout);
        let mut pace = Pace::begin(config.snapshot_bytes_per_second_max);
        let mut next = offset;
        while next < total_bytes {
            let data = self.data.read(next, chunk_bytes(config)).await?;
            let chunk = SnapshotChunk {
                offset: next,
                crc32c: crc32c::crc32c(&data),
                data,
            };
            let bytes = u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
            // A receiver that cannot take it says so before everything was sent.
            tokio::select! {
                biased;
                early = reply(config, &mut connection.reader) => {
                    return Err(match early? {
                        SnapshotReply::Refused(refusal) => refusal.into(),
                        _ => StreamError::Unexpected.into(),
                    });
                }
                sent = send_chunk(&mut connection.writer, chunk, &mut pace) => sent?,
            }
            next = next.saturating_add(bytes);
        }
        match reply(config, &mut connection.reader).await? {
            SnapshotReply::Received | SnapshotReply::Refused(SnapshotRefusal::NotNeeded) => Ok(()),
            SnapshotReply::Refused(refusal) => Err(refusal.into()),
            _ => Err(StreamError::Unexpected.into()),
        }
    }
}

/// The next answer that is one: a receiver whose disk is at work is waited for,
/// within reason.
async fn reply(
    config: &TcpTransportConfig,
    reader: &mut FrameReader,
) -> Result<SnapshotReply, StreamError> {
    for _ in 0..WORKING_COUNT_MAX {
        match reader.next_within(config.snapshot_timeout).await? {
            Frame::SnapshotReply(SnapshotReply::Working) => {}
            Frame::SnapshotReply(reply) => return Ok(reply),
            _ => return Err(StreamError::Unexpected),
        }
    }
    Err(StreamError::Stalled)
}

/// Writes a chunk out, and waits until the next one may follow.
async fn send_chunk(
    writer: &mut FrameWriter,
    chunk: SnapshotChunk,
    pace: &mut Pace,
) -> Result<(), StreamError> {
    let bytes = u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
    encode_frame(&Frame::SnapshotChunk(chunk), writer.buffer())?;
    writer.flush().await?;
    pace.keep(bytes).await;
    Ok(())
}

/// How fast chunks may follow each other.
struct Pace {
    bytes_per_second_max: Option<NonZeroU64>,
    started: Instant,
    sent_bytes: u64,
}

impl Pace {
    fn begin(bytes_per_second_max: Option<NonZeroU64>) -> Self {
        Self {
            bytes_per_second_max,
            started: Instant::now(),
            sent_bytes: 0,
        }
    }

    /// Waits until so many more bytes may have been sent.
    async fn keep(&mut self, bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        if let Some(rate) = self.bytes_per_second_max {
            sleep_until(self.started + time_for(self.sent_bytes, rate)).await;
        }
    }
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
