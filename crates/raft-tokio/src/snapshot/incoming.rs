//! # A snapshot that arrives
//!
//! First piece by piece, then as a whole that a message speaks of. Whatever
//! happens to that message, the custody learns when it is done with.
//!
//! - Owns: the part of a snapshot that is there.

use std::fmt;

use bytes::Bytes;
use raft_core::{Body, EntryId, Message, SnapshotMetadata};
use tokio::sync::OwnedSemaphorePermit;

use super::blocking;
use super::custody::{Custody, Fate};
use super::manifest::{MalformedManifest, SnapshotManifest};
use super::storage::{SnapshotPart, SnapshotStorageError};

/// Why a snapshot is not taken in.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IncomingError {
    /// Another one is being taken in. Try again later.
    #[error("another snapshot is being taken in; try again later")]
    Busy,
    /// It has no manifest.
    #[error(transparent)]
    Malformed(#[from] MalformedManifest),
    /// It cannot be stored.
    #[error(transparent)]
    Storage(#[from] SnapshotStorageError),
}

/// A snapshot that is being taken in. Dropping it keeps what is there for the
/// next attempt.
pub struct IncomingSnapshot {
    custody: Custody,
    metadata: SnapshotMetadata,
    manifest: SnapshotManifest,
    progress: Progress,
    place: OwnedSemaphorePermit,
}

enum Progress {
    /// Some of it is there.
    Part {
        /// `None` while it is written to, and after that failed.
        part: Option<Box<dyn SnapshotPart>>,
        offset: u64,
    },
    /// All of it was there already.
    Whole(ReceivedSnapshot),
}

impl fmt::Debug for IncomingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingSnapshot")
            .field("metadata", &self.metadata)
            .field("manifest", &self.manifest)
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

impl IncomingSnapshot {
    pub(super) async fn begin(
        custody: &Custody,
        metadata: SnapshotMetadata,
        manifest: SnapshotManifest,
    ) -> Result<Self, IncomingError> {
        let place = custody.place().await.ok_or(IncomingError::Busy)?;
        let id = metadata.id();
        if custody.is_busy_but_for(id) {
            return Err(IncomingError::Busy);
        }
        let custody = custody.clone();
        let incoming = blocking(move || {
            // The same place in the log has the same state, whoever encoded it.
            let progress = if let Some(existing) = custody.claim_existing(id)? {
                Progress::Whole(ReceivedSnapshot::new(&custody, id, existing))
            } else {
                let part = custody.storage().resume(&metadata, manifest.clone())?;
                let offset = part.data_bytes();
                let part = Some(part);
                Progress::Part { part, offset }
            };
            Ok(Self {
                custody,
                metadata,
                manifest,
                progress,
                place,
            })
        });
        Ok(incoming.await?)
    }

    /// Up to where the data is there, in bytes: what comes next begins here.
    pub fn offset(&self) -> u64 {
        match &self.progress {
            Progress::Part { offset, .. } => *offset,
            Progress::Whole(_) => self.manifest.data_bytes,
        }
    }

    /// Stores the next piece of the data.
    ///
    /// # Errors
    /// The disk failed, or the data is longer than it was to be.
    ///
    /// # Cancel safety
    /// Cancelled, nothing more can be stored in this attempt.
    pub async fn append(&mut self, data: Bytes) -> Result<(), SnapshotStorageError> {
        let Progress::Part { part, offset } = &mut self.progress else {
            return Err(SnapshotStorageError::damaged(
                "it is longer than it was to be",
            ));
        };
        let mut taken = part.take().ok_or(SnapshotStorageError::Missing)?;
        let taken = blocking(move || {
            taken.append(&data)?;
            Ok(taken)
        })
        .await?;
        *offset = taken.data_bytes();
        *part = Some(taken);
        Ok(())
    }

    /// Checks the whole and makes it durable.
    ///
    /// # Errors
    /// It is not what it was to be: then nothing of it is kept. Or the disk
    /// failed.
    ///
    /// # Cancel safety
    /// Cancelled, the snapshot is stored and then removed.
    pub async fn finish(self) -> Result<ReceivedSnapshot, SnapshotStorageError> {
        let Self {
            custody,
            metadata,
            manifest,
            progress,
            place,
        } = self;
        let part = match progress {
            Progress::Whole(received) => return Ok(received),
            Progress::Part { part, .. } => part.ok_or(SnapshotStorageError::Missing)?,
        };
        blocking(move || {
            // Until the end, so that no other attempt meets this one's file.
            let _place = place;
            let id = metadata.id();
            custody.claim(id);
            // From here on whoever leaves gives the claim back.
            let received = ReceivedSnapshot::new(&custody, id, manifest);
            part.finish()?;
            Ok(received)
        })
        .await
    }
}

/// A snapshot whose data is there, and which a message is to speak of. Dropping
/// it instead of delivering that message removes the data.
pub struct ReceivedSnapshot {
    custody: Custody,
    id: EntryId,
    manifest: SnapshotManifest,
    is_delivered: bool,
}

impl fmt::Debug for ReceivedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedSnapshot")
            .field("id", &self.id)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl ReceivedSnapshot {
    fn new(custody: &Custody, id: EntryId, manifest: SnapshotManifest) -> Self {
        Self {
            custody: custody.clone(),
            id,
            manifest,
            is_delivered: false,
        }
    }

    /// The message that announced this snapshot, with the manifest of what is
    /// there; `None` if it speaks of another snapshot.
    pub(crate) fn announced(&self, mut message: Message) -> Option<Message> {
        match &mut message.body {
            Body::Snapshot(snapshot) if snapshot.metadata.id() == self.id => {
                snapshot.data = self.manifest.encode();
                Some(message)
            }
            _ => None,
        }
    }

    /// The message is in the replica's inbox, or gets there without a wait: the
    /// replica says what becomes of the data.
    pub(crate) fn set_delivered(mut self) {
        self.is_delivered = true;
    }
}

impl Drop for ReceivedSnapshot {
    fn drop(&mut self) {
        if !self.is_delivered {
            self.custody.settle(self.id, Fate::Refused);
        }
    }
}
