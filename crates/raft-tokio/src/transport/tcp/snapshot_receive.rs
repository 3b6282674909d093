//! # A snapshot on its way in
//!
//! The header is answered by how much of this data is there; the rest comes in
//! chunks and goes to the disk, one at a time. Once the whole is checked and
//! durable, the replica gets the message that announced it. While the disk is at
//! work the sender is told so, since it waits a limited time.
//!
//! - Owns: one connection for snapshots.
//! - Emits: data into the exchange, then a message into the inbox.

use raft_core::{Body, Message, NodeId};
use raft_wire::frame::{Frame, SnapshotChunk, SnapshotHeader, SnapshotRefusal, SnapshotReply};
use tokio::time::{Instant, interval_at, timeout};
use tracing::warn;

use super::handshake::Connection;
use super::plausible::is_plausible;
use super::stream::StreamError;
use super::{GROUP, TcpTransportConfig};
use crate::address_book::AddressBook;
use crate::snapshot::{
    IncomingError, IncomingSnapshot, ReceivedSnapshot, SnapshotExchange, SnapshotManifest,
    SnapshotStorageError,
};
use crate::transport::Inbox;

/// Why a snapshot is not there.
enum Failure {
    /// The sender is told, and then not listened to.
    Refused(SnapshotRefusal),
    /// There is nobody to tell.
    Broken(StreamError),
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Broken(error)
    }
}

/// Where the snapshots of a connection go.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) config: &'a TcpTransportConfig,
    pub(super) inbox: &'a Inbox,
    pub(super) snapshots: &'a SnapshotExchange,
}

/// Takes in the snapshots that come over one connection.
pub(super) async fn receive(
    to: Destination<'_>,
    peer: NodeId,
    mut connection: Connection,
) -> Result<(), StreamError> {
    let config = to.config;
    connection.writer.set_stall_timeout(config.snapshot_timeout);
    while let Some(frame) = connection.reader.next().await? {
        let Frame::SnapshotHeader(header) = frame else {
            return Err(StreamError::Unexpected);
        };
        let message = announced(config, peer, &header)?;
        let refusal = match take_in(to, &mut connection, &header, &message).await {
            Ok(received) => {
                if !received.deliver(to.inbox, message).await {
                    return Err(StreamError::Closed);
                }
                let reply = Frame::SnapshotReply(SnapshotReply::Received);
                connection.write(&reply).await?;
                continue;
            }
            Err(Failure::Broken(error)) => return Err(error),
            Err(Failure::Refused(refusal)) => refusal,
        };
        warn!(node = %config.node_id, %peer, error = %refusal, "did not take a snapshot of a peer");
        let reply = Frame::SnapshotReply(SnapshotReply::Refused(refusal));
        connection.write(&reply).await?;
        // Closing on unread data could take the answer back, so what is still
        // coming is read and forgotten.
        let forget = async { while let Ok(Some(_)) = connection.reader.next().await {} };
        let _ = timeout(config.snapshot_timeout, forget).await;
        break;
    }
    Ok(())
}

/// The message that a header announces, with the manifest of its data.
fn announced(
    config: &TcpTransportConfig,
    peer: NodeId,
    header: &SnapshotHeader,
) -> Result<Message, StreamError> {
    let mut message = header.message.clone();
    if header.group != GROUP || !is_plausible(config, peer, &message) {
        return Err(StreamError::Unexpected);
    }
    let Body::Snapshot(snapshot) = &mut message.body else {
        return Err(StreamError::Unexpected);
    };
    let addresses = AddressBook::decode(&header.addresses).map_err(|_| StreamError::Unexpected)?;
    snapshot.data = SnapshotManifest {
        data_bytes: header.total_bytes,
        crc32c: header.crc32c,
        addresses,
    }
    .encode();
    Ok(message)
}

/// Takes the data in, or finds out why it cannot be had.
async fn take_in(
    to: Destination<'_>,
    connection: &mut Connection,
    header: &SnapshotHeader,
    message: &Message,
) -> Result<ReceivedSnapshot, Failure> {
    let config = to.config;
    let Body::Snapshot(snapshot) = &message.body else {
        return Err(StreamError::Unexpected.into());
    };
    if header.total_bytes > config.snapshot_bytes_max {
        let bytes_max = config.snapshot_bytes_max;
        return Err(Failure::Refused(SnapshotRefusal::TooLarge { bytes_max }));
    }
    let begin = to.snapshots.incoming(snapshot);
    let mut data = match while_working(config, connection, begin).await? {
        Ok(data) => data,
        Err(IncomingError::Busy) => return Err(Failure::Refused(SnapshotRefusal::Busy)),
        Err(IncomingError::Storage(error)) => return Err(not_stored(config, 0, &error)),
        Err(IncomingError::Malformed(_)) => return Err(StreamError::Unexpected.into()),
    };
    let offset = data.offset();
    let reply = SnapshotReply::Accepted { offset };
    connection.write(&Frame::SnapshotReply(reply)).await?;
    while data.offset() < header.total_bytes {
        let Frame::SnapshotChunk(chunk) = connection
            .reader
            .next_within(config.snapshot_timeout)
            .await?
        else {
            return Err(StreamError::Unexpected.into());
        };
        take_chunk(config, connection, &mut data, chunk, header.total_bytes).await?;
    }
    while_working(config, connection, data.finish())
        .await?
        .map_err(|error| not_stored(config, 0, &error))
}

async fn take_chunk(
    config: &TcpTransportConfig,
    connection: &mut Connection,
    data: &mut IncomingSnapshot,
    chunk: SnapshotChunk,
    total_bytes: u64,
) -> Result<(), Failure> {
    let offset = data.offset();
    let bytes = u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
    let is_next = chunk.offset == offset
        && bytes > 0
        && bytes <= total_bytes.saturating_sub(offset)
        && crc32c::crc32c(&chunk.data) == chunk.crc32c;
    if !is_next {
        return Err(Failure::Refused(SnapshotRefusal::Corrupt { offset }));
    }
    while_working(config, connection, data.append(chunk.data))
        .await?
        .map_err(|error| not_stored(config, offset, &error))
}

/// What the sender is told when the data cannot be stored.
fn not_stored(config: &TcpTransportConfig, offset: u64, error: &SnapshotStorageError) -> Failure {
    Failure::Refused(match error {
        SnapshotStorageError::Damaged(_) => SnapshotRefusal::Corrupt { offset },
        error => {
            warn!(node = %config.node_id, %error, "cannot store a snapshot of a peer");
            SnapshotRefusal::StorageFailed
        }
    })
}

/// Waits for the disk, and tells the sender so from time to time.
async fn while_working<T>(
    config: &TcpTransportConfig,
    connection: &mut Connection,
    work: impl Future<Output = T>,
) -> Result<T, StreamError> {
    let period = (config.snapshot_timeout / 3).max(std::time::Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            _ = ticks.tick() => {
                let working = Frame::SnapshotReply(SnapshotReply::Working);
                connection.write(&working).await?;
            }
        }
    }
}
