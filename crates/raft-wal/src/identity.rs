//! # Whose folder it is
//!
//! One small file says which node of which cluster a data folder belongs to.
//! It is written last when a folder is made, so a folder that has it also had a
//! log.
//!
//! - Owns: the file `IDENTITY`.

use std::fmt;
use std::path::Path;

use raft_core::NodeId;

use crate::error::{Attempt, Damage, Failure, OpenError, Operation};
use crate::format::{FORMAT_VERSION, Reader};
use crate::fs::{File, Fs, read_all};
use crate::segment::Stop;

const NAME: &str = "IDENTITY";
const TMP: &str = "IDENTITY.tmp";
const MAGIC: [u8; 8] = *b"RaftNode";

/// Which node of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u128,
    /// The node.
    pub node_id: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {} of cluster {:032x}",
            self.node_id, self.cluster_id
        )
    }
}

impl Identity {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster_id.to_le_bytes());
        out.extend_from_slice(&self.node_id.get().to_le_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            cluster_id: reader.u128()?,
            node_id: NodeId::new(reader.u64()?)?,
        })
    }
}

/// Whether a folder has its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Yes,
    No,
}

/// Refuses a folder that is somebody else's.
pub(crate) fn check<F: Fs>(fs: &F, dir: &Path, own: Identity) -> Result<Named, OpenError> {
    let io = |failure| OpenError::from_failure(failure, dir);
    let names = fs.list(dir).attempt(Operation::List, dir).map_err(io)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(TMP) {
        let path = dir.join(TMP);
        fs.remove(&path)
            .attempt(Operation::Remove, &path)
            .map_err(io)?;
    }
    if !has(NAME) {
        return Ok(Named::No);
    }
    let path = dir.join(NAME);
    let bytes = fs
        .open_read_only(&path)
        .and_then(|file| read_all(&file, 4096))
        .attempt(Operation::Read, &path)
        .map_err(io)?;
    let (version, found) =
        decode(&bytes).ok_or_else(|| Stop::new(0, Damage::Identity).into_corruption(&path))?;
    if version != FORMAT_VERSION {
        return Err(OpenError::UnsupportedVersion {
            file: path,
            found: version,
            supported: FORMAT_VERSION,
        });
    }
    if found != own {
        return Err(OpenError::Foreign {
            dir: dir.to_owned(),
            found,
            own,
        });
    }
    Ok(Named::Yes)
}

fn encode(identity: Identity) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    identity.encode(&mut out);
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u32, Identity)> {
    let (covered, checksum) = bytes.split_last_chunk()?;
    if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut reader = Reader(covered);
    if reader.array() != Some(MAGIC) {
        return None;
    }
    let version = reader.u32()?;
    let identity = Identity::decode(&mut reader)?;
    reader.end().map(|()| (version, identity))
}

/// Says durably whose folder it is.
pub(crate) fn write<F: Fs>(fs: &F, dir: &Path, own: Identity) -> Result<(), Failure> {
    let (tmp, path) = (dir.join(TMP), dir.join(NAME));
    let file = fs.create(&tmp).attempt(Operation::Create, &tmp)?;
    file.write_all_at(&encode(own), 0)
        .attempt(Operation::Write, &tmp)?;
    file.sync_data().attempt(Operation::Sync, &tmp)?;
    fs.rename(&tmp, &path).attempt(Operation::Rename, &path)?;
    fs.sync_dir(dir).attempt(Operation::Sync, dir)
}
