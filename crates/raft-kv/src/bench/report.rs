//! # What the bench found
//!
//! The figures, as they are printed and as they are written as JSON.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use super::measured::Measured;
use super::{BenchOptions, Target, Workload};
use crate::units::us_in_ms;

/// How wide the longest bar of a histogram is, in characters.
const BAR_WIDTH: u64 = 50;

/// The percentiles that are kept of a phase, for the picture.
const PERCENTILES: [f64; 13] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99,
];

/// What was measured. Times are in the units that their names end with.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Whom the clients asked.
    pub entrance: String,
    /// How many nodes were started for it; nothing if the servers ran already.
    pub nodes_started: Option<usize>,
    /// How large a value was.
    pub value_bytes: usize,
    /// How many different keys there were.
    pub keys: u64,
    /// How many requests each client sent at once.
    pub pipeline: usize,
    /// The disk, if it was measured.
    pub disk: Option<DiskReport>,
    /// One after the other.
    pub phases: Vec<PhaseReport>,
}

/// How long the disk took for a small write and its sync.
#[derive(Clone, Debug, Serialize)]
pub struct DiskReport {
    /// How much was written for each sync.
    pub write_bytes: usize,
    /// How many syncs there were.
    pub syncs: u64,
    /// Half of them stayed within this.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
}

/// One workload with one number of clients.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// What the clients did.
    pub workload: String,
    /// How many of a hundred requests read.
    pub reads_percent: u8,
    /// How many connections there were.
    pub clients: usize,
    /// How long it took.
    pub seconds: f64,
    /// Requests that were answered without an error.
    pub requests: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Connections that broke.
    pub broken_connections: u64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// The fastest.
    pub min_us: u64,
    /// Half of the requests stayed within this.
    pub p50_us: u64,
    /// 90 of 100.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Within which time how many of a hundred requests stayed.
    pub percentiles: Vec<PercentileRow>,
    /// How many requests took up to that long.
    pub histogram: Vec<HistogramRow>,
}

/// So many of a hundred requests stayed within a time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PercentileRow {
    /// How many of a hundred.
    pub percentile: f64,
    /// The time.
    pub us: u64,
}

/// Requests that took about as long.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HistogramRow {
    /// The longest of them.
    pub up_to_us: u64,
    /// How many.
    pub requests: u64,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set => f.write_str("SET"),
            Self::Get => f.write_str("GET"),
            Self::Mixed { reads_percent } => write!(f, "{reads_percent} % GET"),
        }
    }
}

impl PhaseReport {
    pub(super) fn new(
        workload: Workload,
        clients: usize,
        measured: &Measured,
        elapsed: Duration,
    ) -> Self {
        let latency = &measured.latency_us;
        let seconds = elapsed.as_secs_f64();
        // Each row reaches twice as far as the one before.
        let rows = latency.iter_log(64, 2.0).map(|row| HistogramRow {
            up_to_us: row.value_iterated_to(),
            requests: row.count_since_last_iteration(),
        });
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let requests_per_s = (latency.len() as f64 / seconds).round();
        let percentiles = PERCENTILES.map(|percentile| PercentileRow {
            percentile,
            us: latency.value_at_percentile(percentile),
        });
        Self {
            workload: workload.to_string(),
            reads_percent: workload.reads_percent(),
            clients,
            seconds: (seconds * 1000.0).round() / 1000.0,
            requests: latency.len(),
            errors: measured.errors,
            broken_connections: measured.broken,
            requests_per_s,
            min_us: latency.min(),
            p50_us: latency.value_at_quantile(0.5),
            p90_us: latency.value_at_quantile(0.9),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
            percentiles: percentiles.to_vec(),
            histogram: rows.filter(|row| row.requests > 0).collect(),
        }
    }
}

impl BenchReport {
    pub(super) fn new(
        options: &BenchOptions,
        entrance: &str,
        disk: Option<DiskReport>,
        phases: Vec<PhaseReport>,
    ) -> Self {
        Self {
            entrance: entrance.to_owned(),
            nodes_started: match options.target {
                Target::Running(_) => None,
                Target::Started { nodes, .. } => Some(nodes),
            },
            value_bytes: options.value_bytes,
            keys: options.keys,
            pipeline: options.pipeline,
            disk,
            phases,
        }
    }

    pub(super) fn at_once(&self) -> String {
        match self.pipeline {
            1 => "one request at a time".to_owned(),
            pipeline => format!("{pipeline} requests at a time"),
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "clients of {}; values of {} bytes, {} keys, {}",
            self.entrance,
            self.value_bytes,
            self.keys,
            self.at_once()
        )?;
        if let Some(disk) = &self.disk {
            writeln!(
                f,
                "the disk, {} syncs of {} bytes each: p50 {} ms, p99 {} ms",
                disk.syncs,
                disk.write_bytes,
                us_in_ms(disk.p50_us),
                us_in_ms(disk.p99_us)
            )?;
        }
        let head = format!(
            "{:<9} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9}",
            "", "clients", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
        );
        writeln!(
            f,
            "\n{head}{}",
            self.disk.as_ref().map_or("", |_| "  p50 / sync")
        )?;
        for phase in &self.phases {
            write!(
                f,
                "{:<9} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9}",
                phase.workload,
                phase.clients,
                phase.requests_per_s,
                us_in_ms(phase.p50_us),
                us_in_ms(phase.p99_us),
                us_in_ms(phase.p999_us),
                us_in_ms(phase.max_us)
            )?;
            if let Some(disk) = &self.disk {
                write!(f, "  {:>10.2}", ratio(phase.p50_us, disk.p50_us))?;
            }
            writeln!(f)?;
        }
        for phase in &self.phases {
            writeln!(f, "\n{phase}")?;
        }
        Ok(())
    }
}

/// The histogram of a phase.
impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} clients, {:.1} s: {} answered, {} errors, {} broken connections",
            self.workload,
            self.clients,
            self.seconds,
            self.requests,
            self.errors,
            self.broken_connections
        )?;
        let rows = &self.histogram;
        let most = rows.iter().map(|row| row.requests).max().unwrap_or(1);
        let bar = if std::io::stdout().is_terminal() {
            "█"
        } else {
            "#"
        };
        for row in rows {
            let width = (row.requests * BAR_WIDTH).div_ceil(most);
            writeln!(
                f,
                "  up to {:>9} ms {:>9} {}",
                us_in_ms(row.up_to_us),
                row.requests,
                bar.repeat(usize::try_from(width).unwrap_or(0))
            )?;
        }
        Ok(())
    }
}

fn ratio(us: u64, to_us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
    let ratio = us as f64 / to_us.max(1) as f64;
    ratio
}
