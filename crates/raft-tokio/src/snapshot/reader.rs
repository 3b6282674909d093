//! # What a state machine reads
//!
//! The data of a snapshot, from its beginning to its end.
//!
//! - Owns: a buffer, and how much is left.

use std::fmt;
use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};

use super::CHUNK_BYTES;

/// How much memory a length alone may take, before its bytes have come.
const PREALLOCATED_BYTES_MAX: u64 = 16 << 20;

/// Reads the data of a snapshot. Buffered: small pieces cost little.
///
/// The data is checked against its checksum at the end, and a state machine that
/// stops reading before that is checked all the same. So what is read first is
/// not known to be good before all of it was.
pub struct SnapshotReader {
    source: BufReader<Box<dyn Read + Send>>,
    bytes_left: u64,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("bytes_left", &self.bytes_left)
            .finish_non_exhaustive()
    }
}

impl SnapshotReader {
    /// Reads this many bytes from `source`.
    pub fn new(source: impl Read + Send + 'static, bytes: u64) -> Self {
        Self {
            source: BufReader::with_capacity(CHUNK_BYTES, Box::new(source)),
            bytes_left: bytes,
        }
    }

    /// Reads what is in memory: a snapshot that a test has made, for instance.
    pub fn of_bytes(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let bytes = super::manifest::len_u64(&data);
        Self::new(data.reader(), bytes)
    }

    /// How much has not been read, in bytes.
    pub fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    /// Reads everything that is left into memory.
    ///
    /// # Errors
    /// It cannot be read, or its checksum is wrong.
    pub fn read_whole(&mut self) -> io::Result<Bytes> {
        let expected = self.bytes_left.min(PREALLOCATED_BYTES_MAX);
        let mut data = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        self.read_to_end(&mut data)?;
        Ok(data.into())
    }

    /// Reads the value that [`SnapshotJob::value`] wrote, which takes memory for
    /// its bytes and for itself.
    ///
    /// # Errors
    /// It cannot be read, or is none of this type.
    ///
    /// [`SnapshotJob::value`]: crate::SnapshotJob::value
    #[cfg(feature = "serde")]
    pub fn value<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, crate::BoxError> {
        Ok(postcard::from_bytes(&self.read_whole()?)?)
    }

    /// Reads to the end, so that the checksum is looked at.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len =
            usize::try_from(self.bytes_left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if len == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..len])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes_left -= u64::try_from(count).unwrap_or(self.bytes_left);
                Ok(count)
            }
        }
    }
}
