//! # How long the disk takes
//!
//! What a service can promise rests on the disk: a write is acknowledged after
//! a sync on a quorum. So the disk is measured as the log uses it, by small
//! writes into a file that has its space already, each synced.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::measured::latencies;
use super::report::DiskReport;
use crate::units::whole_us;

/// The probe ends after so many syncs, or after this time.
const SYNCS: usize = 1000;
const TIME: Duration = Duration::from_secs(2);

/// Writes and syncs `bytes` again and again, in a file that is made at `path`.
///
/// # Errors
/// The disk does not take it.
pub(super) fn probe(path: &Path, bytes: usize) -> io::Result<DiskReport> {
    let block = vec![b'x'; bytes.max(1)];
    let mut file = File::create(path)?;
    for _ in 0..SYNCS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut times_us: Histogram<u64> = latencies();
    let started = Instant::now();
    for _ in 0..SYNCS {
        let before = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times_us.saturating_record(whole_us(before.elapsed()));
        if started.elapsed() > TIME {
            break;
        }
    }
    std::fs::remove_file(path)?;
    Ok(DiskReport {
        write_bytes: block.len(),
        syncs: times_us.len(),
        p50_us: times_us.value_at_quantile(0.5),
        p99_us: times_us.value_at_quantile(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_measures_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let report = probe(&folder.path().join("disk"), 256).unwrap();
        assert!(report.syncs > 0);
        assert!(report.p50_us <= report.p99_us);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(probe(&folder.path().join("missing/disk"), 1).is_err());
    }
}
