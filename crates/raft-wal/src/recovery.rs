//! # Recovery
//!
//! From the segments in a folder to what they say: what is whole is kept, what
//! was torn is cut off, what is damaged is refused. `log/reopen.rs` goes on from
//! there.
//!
//! - Owns: nothing that outlives the opening.
//! - Reads: segments. Emits: what was found.
//! - Source: `docs/WAL.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Attempt, Damage, OpenError, Operation};
use crate::folder::{log_dir, segment_name};
use crate::format::{Record, len_u64};
use crate::fs::{Fs, read_all};
use crate::group::{Group, Place};
use crate::identity::Identity;
use crate::replay::{Recovered, Replay, TornTail};
use crate::segment::{Segment, Stop};

/// Nothing longer is a segment.
const SEGMENT_FILE_BYTES_MAX: u64 = 4 << 30;

/// What was found in a folder.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    pub(crate) groups: BTreeMap<u64, Group>,
    pub(crate) oldest_sequence: u64,
    pub(crate) last_batch: u64,
    /// The last segment, without what was torn; `None` in a new folder.
    pub(crate) tail: Option<Tail>,
    /// Segments that are not part of the log.
    pub(crate) leftovers: Vec<PathBuf>,
}

/// The last segment of a log that was found.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    /// The last batch of it that is kept.
    pub(crate) last_batch: u64,
}

impl Found {
    pub(crate) fn new() -> Self {
        Self {
            recovered: Recovered::default(),
            groups: BTreeMap::new(),
            oldest_sequence: 1,
            last_batch: 0,
            tail: None,
            leftovers: Vec::new(),
        }
    }

    pub(crate) fn read<F: Fs>(
        fs: &F,
        data_dir: &Path,
        identity: Identity,
        files: &[(u64, PathBuf)],
        recovered_bytes_max: u64,
    ) -> Result<Self, OpenError> {
        let mut found = Self::new();
        let mut replay = Replay::new(recovered_bytes_max);
        let mut previous: Option<(Segment, Link)> = None;
        // What is left of segments that were being dropped may have gaps.
        let start = files
            .windows(2)
            .rposition(|pair| matches!(pair, [(a, _), (b, _)] if a.checked_add(1) != Some(*b)))
            .map_or(0, |gap| gap + 1);
        let (dropped, files) = files.split_at(start);
        let oldest = files.first().map_or(1, |(sequence, _)| *sequence);
        for (place, (sequence, path)) in files.iter().enumerate() {
            let segment = read_segment(fs, data_dir, path)?;
            let header = &segment.header;
            if header.identity != identity {
                return Err(OpenError::Foreign {
                    dir: data_dir.to_owned(),
                    found: header.identity,
                    own: identity,
                });
            }
            let damaged = |what| Stop::new(0, what).into_corruption(path);
            // A segment that calls itself superfluous would be dropped with all that
            // it says.
            if header.sequence != *sequence || header.oldest_sequence > header.sequence {
                return Err(damaged(Damage::SegmentHeader).into());
            }
            let mut batches = segment.batches();
            let mut sealed = None;
            let mut count = 0_u64;
            let stop = loop {
                if let Some(next) = sealed {
                    break Stop::new(
                        batches.position(),
                        Damage::MissingSegment { sequence: next },
                    );
                }
                let batch = match batches.next() {
                    Ok(batch) => batch,
                    Err(stop) => break stop,
                };
                if count == 0
                    && let Some((earlier, link)) = &previous
                {
                    // A batch proves that the segment before was sealed.
                    link.check(earlier, &segment)?;
                    if let Some(group) = replay.unstated(&batch.records) {
                        let what = Damage::State { group };
                        return Err(Stop::new(batch.trailer_offset, what)
                            .into_corruption(path)
                            .into());
                    }
                }
                count += 1;
                // A seal that is dropped takes its batch with it, so nothing else
                // may be in there.
                let is_alone = batch.records.len() == 1;
                for placed in batch.records {
                    if let Record::Seal(next) = placed.record {
                        if !is_alone || sequence.checked_add(1) != Some(next) {
                            return Err(Stop::new(placed.offset, Damage::Meaningless)
                                .into_corruption(path)
                                .into());
                        }
                        sealed = Some(next);
                    }
                    let place = Place {
                        sequence: *sequence,
                        start: len_u64(placed.offset),
                        end: len_u64(placed.offset + placed.header.record_len()),
                    };
                    replay
                        .record(place, placed.header.group, placed.record)
                        .map_err(|what| Stop::new(placed.offset, what).into_corruption(path))?;
                }
            };
            let last = place + 1 == files.len();
            let empty = count == 0 && place > 0;
            if last && !empty {
                match sealed {
                    Some(_) => return Err(stop.into_corruption(path).into()),
                    None => batches.judge_tail(stop.clone(), 0)?,
                }
            }
            if empty {
                if !last {
                    return Err(stop.into_corruption(path).into());
                }
                // Nothing was ever durable in here, so the one before is the
                // last again: also its seal may only be in the cache.
                batches.judge_tail(stop, 0)?;
                if let Some((earlier, link)) = previous.take() {
                    link.judge(&earlier, header.durable_batch)?;
                    found.torn_tail(&earlier, &link);
                    found.leftovers.push(path.clone());
                    found.last_batch = link.unsealed_batch;
                    found.tail = Some(Tail {
                        segment: earlier,
                        last_batch: link.unsealed_batch,
                    });
                }
                break;
            }
            // What is dropped has no say in what else is.
            replay.oldest_needed = replay.oldest_needed.max(header.oldest_sequence);
            let last_batch = batches.next_number() - 1;
            let link = Link {
                sealed,
                stop,
                chain: batches.chain(),
                position: batches.position(),
                last_batch,
                unsealed_batch: match sealed {
                    Some(_) => last_batch - 1,
                    None => last_batch,
                },
            };
            if last {
                found.torn_tail(&segment, &link);
                found.last_batch = last_batch;
                found.tail = Some(Tail {
                    segment,
                    last_batch,
                });
                break;
            }
            previous = Some((segment, link));
        }

        found.oldest_sequence = replay.oldest_needed;
        if oldest > found.oldest_sequence {
            let sequence = oldest - 1;
            let path = log_dir(data_dir).join(segment_name(sequence));
            return Err(Stop::new(0, Damage::MissingSegment { sequence })
                .into_corruption(&path)
                .into());
        }
        found.leftovers.extend(
            dropped
                .iter()
                .chain(files)
                .filter(|(sequence, _)| *sequence < found.oldest_sequence)
                .map(|(_, path)| path.clone()),
        );
        let finished = replay.finish().map_err(|what| {
            let path = files.first().map_or(data_dir, |(_, path)| path.as_path());
            Stop::new(0, what).into_corruption(path)
        })?;
        found.groups = finished.groups;
        found.recovered.groups = finished.recovered;
        Ok(found)
    }

    /// Says in the result that a write was cut short, if one was.
    fn torn_tail(&mut self, segment: &Segment, link: &Link) {
        // Where not even the first header can be read, nothing may have been
        // written at all.
        let begun = link.stop.offset > link.position || link.stop.what != Damage::RecordHeader;
        if link.sealed.is_none() && begun {
            self.recovered.torn_tail = Some(TornTail {
                file: segment.path.clone(),
                offset: len_u64(link.position),
                what: link.stop.what.clone(),
            });
        }
    }
}

/// How a segment ended, for the one behind it.
#[derive(Debug)]
struct Link {
    sealed: Option<u64>,
    stop: Stop,
    chain: u32,
    position: usize,
    last_batch: u64,
    /// The last batch but the seal.
    unsealed_batch: u64,
}

impl Link {
    /// Checks that `next`, which has batches, follows the segment.
    fn check(&self, segment: &Segment, next: &Segment) -> Result<(), OpenError> {
        if self.sealed != Some(next.header.sequence) {
            let what = match self.stop.what {
                Damage::RecordHeader => Damage::Unsealed,
                ref other => other.clone(),
            };
            let stop = Stop {
                what,
                ..self.stop.clone()
            };
            return Err(stop.into_corruption(&segment.path).into());
        }
        let header = &next.header;
        if header.previous_id != segment.header.id
            || header.previous_chain != self.chain
            || header.first_batch != self.last_batch + 1
        {
            return Err(Stop::new(0, Damage::SegmentLink)
                .into_corruption(&next.path)
                .into());
        }
        Ok(())
    }

    /// Judges the end of the segment when the one behind it is empty.
    fn judge(&self, segment: &Segment, durable_elsewhere: u64) -> Result<(), OpenError> {
        if self.sealed.is_some() {
            return Ok(());
        }
        let mut batches = segment.batches();
        while batches.next().is_ok() {}
        batches.judge_tail(self.stop.clone(), durable_elsewhere)?;
        Ok(())
    }
}

pub(crate) fn read_segment<F: Fs>(
    fs: &F,
    data_dir: &Path,
    path: &Path,
) -> Result<Segment, OpenError> {
    let bytes = fs
        .open_read_only(path)
        .and_then(|file| read_all(&file, SEGMENT_FILE_BYTES_MAX))
        .attempt(Operation::Read, path)
        .map_err(|failure| OpenError::from_failure(failure, data_dir))?;
    Segment::parse(path.to_owned(), bytes)
}
