//! # Room for requests
//!
//! Commands wait in front of the loop, limited in number by their channel and in
//! bytes here. Small ones pass: as many as may wait are not more bytes than the
//! limit.
//!
//! - Owns: the room that is left.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::config::RaftConfig;

/// Room for the bytes of large commands that wait in front of the loop. Clones
/// are the same room.
#[derive(Clone, Debug)]
pub(super) struct Room {
    kibibytes: Arc<Semaphore>,
    kibibytes_max: u32,
    small_bytes_max: usize,
}

const KIBIBYTE: usize = 1024;

impl Room {
    pub(super) fn new(config: &RaftConfig) -> Self {
        let bytes_max = config.requests_bytes_max.max(KIBIBYTE);
        let kibibytes_max = u32::try_from(bytes_max / KIBIBYTE)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            kibibytes: Arc::new(Semaphore::new(
                usize::try_from(kibibytes_max).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            kibibytes_max,
            small_bytes_max: bytes_max / config.requests_waiting_max.max(1),
        }
    }

    /// Whether so many bytes are so few that they take up none.
    pub(super) fn passes(&self, bytes: usize) -> bool {
        bytes <= self.small_bytes_max
    }

    /// Waits for room. What is returned gives it back.
    ///
    /// # Errors
    /// Nobody gets room any more.
    pub(super) async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let kibibytes = self.kibibytes(bytes);
        self.kibibytes.clone().acquire_many_owned(kibibytes).await
    }

    /// Takes room if there is some now.
    ///
    /// # Errors
    /// There is none, or nobody gets room any more.
    pub(super) fn try_acquire(
        &self,
        bytes: usize,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let kibibytes = self.kibibytes(bytes);
        self.kibibytes.clone().try_acquire_many_owned(kibibytes)
    }

    /// Nobody gets room any more.
    pub(super) fn close(&self) {
        self.kibibytes.close();
    }

    /// What has to be acquired for so many bytes. More than there is becomes
    /// all that there is: it goes alone.
    fn kibibytes(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(KIBIBYTE))
            .unwrap_or(u32::MAX)
            .min(self.kibibytes_max)
    }
}
