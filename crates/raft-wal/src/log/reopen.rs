//! # The segment to go on with
//!
//! The last segment is written anew before anything in it counts.
//!
//! - Owns: nothing that outlives the opening.
//! - Reads: what recovery found. Emits: the active segment.
//! - Source: `docs/WAL.md`.

use std::path::Path;

use super::{Active, Heading};
use crate::error::{Attempt, Failure, Operation};
use crate::folder::{SEGMENT_TMP, segment_name, spare_path};
use crate::format::{Encoder, SEGMENT_HEADER_BYTES, SegmentHeader, len_u64};
use crate::fs::{File, Fs};
use crate::identity::Identity;
use crate::recovery::Found;

/// Writes the last segment again under a new id, and puts it in place of the
/// old one. Every record that is kept stays where it was in the file. What could be
/// read may have been in the cache only, after a sync that failed: now it is durable,
/// and the torn part is gone.
pub(super) fn rewrite<F: Fs>(
    fs: &F,
    dir: &Path,
    identity: Identity,
    found: &Found,
    spares: &mut usize,
) -> Result<Active<F::File>, Failure> {
    let id = fs.unique_id();
    let header = match &found.tail {
        None => SegmentHeader {
            id,
            sequence: 1,
            identity,
            previous_id: 0,
            previous_chain: 0,
            oldest_sequence: 1,
            first_batch: 1,
            durable_batch: 0,
        },
        Some(tail) => SegmentHeader {
            id,
            oldest_sequence: found.oldest_sequence,
            durable_batch: tail.last_batch,
            ..tail.segment.header.clone()
        },
    };
    let mut bytes = header.encode();
    let mut encoder = Encoder::new();
    encoder.begin(id, SEGMENT_HEADER_BYTES, SegmentHeader::chain(&bytes));
    let mut heading = Heading::Missing;
    if let Some(tail) = &found.tail {
        let mut batches = tail.segment.batches();
        while batches.next_number() <= tail.last_batch
            && let Ok(batch) = batches.next()
        {
            let start = encoder.position();
            for placed in &batch.records {
                encoder.copy(&placed.header, tail.segment.payload(placed));
            }
            encoder.trailer(batch.trailer.batch, batch.trailer.durable_batch, start);
            heading = Heading::Written;
        }
    }
    let (batches, chain) = encoder.encoded();
    bytes.extend_from_slice(batches);

    // On a full disk a spare is the only place.
    let (tmp, file) = if *spares > 0 {
        *spares -= 1;
        let tmp = spare_path(dir, *spares);
        let file = fs.open(&tmp).attempt(Operation::Open, &tmp)?;
        (tmp, file)
    } else {
        let tmp = dir.join(SEGMENT_TMP);
        let file = fs.create(&tmp).attempt(Operation::Create, &tmp)?;
        (tmp, file)
    };
    file.write_all_at(&bytes, 0)
        .attempt(Operation::Write, &tmp)?;
    file.sync_data().attempt(Operation::Sync, &tmp)?;
    let allocated = file.len_bytes().attempt(Operation::Read, &tmp)?;
    let path = dir.join(segment_name(header.sequence));
    fs.rename(&tmp, &path).attempt(Operation::Rename, &path)?;
    fs.sync_dir(dir).attempt(Operation::Sync, dir)?;
    Ok(Active {
        file,
        path,
        id,
        sequence: header.sequence,
        end: len_u64(bytes.len()),
        allocated,
        chain,
        heading,
    })
}
