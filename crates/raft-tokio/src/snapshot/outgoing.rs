//! # A snapshot that is sent
//!
//! - Owns: an open snapshot, which stays readable until it is dropped.

use std::fmt;

use bytes::Bytes;
use raft_core::EntryId;

use super::blocking;
use super::custody::Custody;
use super::manifest::SnapshotManifest;
use super::storage::{SnapshotStorageError, StoredSnapshot};

/// The data of a snapshot that is sent, piece by piece.
pub struct OutgoingSnapshot {
    custody: Custody,
    id: EntryId,
    manifest: SnapshotManifest,
    /// `None` while it is being read, and after a read was cancelled.
    stored: Option<StoredSnapshot>,
}

impl fmt::Debug for OutgoingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingSnapshot")
            .field("id", &self.id)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl OutgoingSnapshot {
    pub(super) async fn open(
        custody: &Custody,
        id: EntryId,
        manifest: SnapshotManifest,
    ) -> Result<Self, SnapshotStorageError> {
        let owner = custody.clone();
        let stored = blocking(move || {
            let stored = owner.storage().open(id);
            if matches!(stored, Err(SnapshotStorageError::Damaged(_))) {
                owner.report_damaged(id);
            }
            stored
        })
        .await?;
        if stored.manifest != manifest {
            // Another one was made at the same place.
            return Err(SnapshotStorageError::Missing);
        }
        Ok(Self {
            custody: custody.clone(),
            id,
            manifest,
            stored: Some(stored),
        })
    }

    /// What the data is like.
    pub fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    /// At most `bytes_max` bytes from `offset` on; fewer only at the end.
    ///
    /// # Errors
    /// The disk failed. The replica hears of it, and makes a new snapshot.
    ///
    /// # Cancel safety
    /// Cancelled, nothing more can be read.
    pub async fn read(
        &mut self,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, SnapshotStorageError> {
        let left = self.manifest.data_bytes.saturating_sub(offset);
        let len = usize::try_from(left).map_or(bytes_max, |left| left.min(bytes_max));
        let stored = self.stored.take().ok_or(SnapshotStorageError::Missing)?;
        let (stored, piece) = blocking(move || {
            let mut piece = vec![0; len];
            let read = stored.data.read_exact_at(&mut piece, offset);
            Ok((stored, read.map(|()| piece)))
        })
        .await?;
        self.stored = Some(stored);
        piece.map(Bytes::from).map_err(|error| {
            self.custody.report_damaged(self.id);
            SnapshotStorageError::failed(error)
        })
    }

    /// Reads all of it: whether it is still what it was. To be called when a
    /// receiver says that it is not. If so, the replica hears of it, and makes a
    /// new snapshot.
    ///
    /// # Errors
    /// It is damaged.
    ///
    /// # Cancel safety
    /// Cancel safe, but the check goes on.
    pub async fn check(self) -> Result<(), SnapshotStorageError> {
        let Self {
            custody,
            id,
            stored,
            ..
        } = self;
        let stored = stored.ok_or(SnapshotStorageError::Missing)?;
        blocking(move || {
            let checked = stored.into_reader().finish();
            checked.map_err(|error| {
                custody.report_damaged(id);
                SnapshotStorageError::damaged(error)
            })
        })
        .await
    }
}
