//! # What the demo found
//!
//! The figures, whether they are sound, and both in words.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::tally::Tally;
use crate::units::{us_in_ms, whole_ms};

/// What happened around the load.
pub(super) struct Circumstances {
    pub(super) nodes: usize,
    pub(super) clients: usize,
    pub(super) kills: u64,
    pub(super) elections: u64,
    pub(super) load_time: Duration,
    pub(super) longest_unavailable: Duration,
    pub(super) data_kept: Option<PathBuf>,
}

/// What the demo found. Times are in the units that their names end with.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Whether nothing was lost, stale or counted wrongly.
    pub sound: bool,
    /// How many nodes there were.
    pub nodes: usize,
    /// How many clients there were.
    pub clients: usize,
    /// How long the load lasted.
    pub seconds: f64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged writes that were missing later.
    pub lost: u64,
    /// Requests that were refused, or that found no node: not done.
    pub failed: u64,
    /// Requests whose outcome the client does not know.
    pub indeterminate: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Reads that returned something older than what was acknowledged before.
    pub stale_reads: u64,
    /// Counts that came back twice, out of order, or were made twice.
    pub miscounted: u64,
    /// Keys that were read back at the end.
    pub keys_checked: u64,
    /// Acknowledged writes per second.
    pub writes_per_s: f64,
    /// Answered reads per second.
    pub reads_per_s: f64,
    /// The latency that half of the writes stay within.
    pub p50_us: u64,
    /// The latency that 99 of 100 writes stay within.
    pub p99_us: u64,
    /// The longest latency of a write.
    pub max_us: u64,
    /// The latency that half of the reads stay within.
    pub read_p50_us: u64,
    /// The latency that 99 of 100 reads stay within.
    pub read_p99_us: u64,
    /// How often a new leader was elected during the load.
    pub elections: u64,
    /// How often the leader was killed during the load.
    pub kills: u64,
    /// How often all nodes were killed at once after the load.
    pub kills_of_all: u64,
    /// The longest time without an acknowledged write.
    pub longest_unavailable_ms: u64,
    /// The first faults in words.
    pub faults: Vec<String>,
    /// Where the nodes' data is, if it was to be kept.
    pub data: Option<PathBuf>,
}

impl DemoReport {
    pub(super) fn new(tally: &Tally, around: &Circumstances) -> Self {
        let seconds = around.load_time.as_secs_f64();
        // Counts of a demo are far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let per_second = |count: u64| (count as f64 / seconds).round();
        let faults = tally.lost + tally.stale_reads + tally.miscounted;
        Self {
            sound: faults == 0 && tally.writes_acknowledged > 0 && tally.keys_checked > 0,
            nodes: around.nodes,
            clients: around.clients,
            seconds: (seconds * 1000.0).round() / 1000.0,
            acknowledged: tally.writes_acknowledged,
            lost: tally.lost,
            failed: tally.failed,
            indeterminate: tally.indeterminate,
            reads: tally.reads_answered,
            stale_reads: tally.stale_reads,
            miscounted: tally.miscounted,
            keys_checked: tally.keys_checked,
            writes_per_s: per_second(tally.writes_acknowledged),
            reads_per_s: per_second(tally.reads_answered),
            p50_us: tally.write_us.value_at_quantile(0.5),
            p99_us: tally.write_us.value_at_quantile(0.99),
            max_us: tally.write_us.max(),
            read_p50_us: tally.read_us.value_at_quantile(0.5),
            read_p99_us: tally.read_us.value_at_quantile(0.99),
            elections: around.elections,
            kills: around.kills,
            kills_of_all: 1,
            longest_unavailable_ms: whole_ms(around.longest_unavailable),
            faults: tally.faults.clone(),
            data: around.data_kept.clone(),
        }
    }

    /// Whether nothing was lost, stale or counted wrongly, and something was
    /// done at all.
    pub fn is_sound(&self) -> bool {
        self.sound
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            clients,
            seconds,
            acknowledged,
            reads,
            ..
        } = self;
        writeln!(
            f,
            "\n{clients} clients wrote and read on {nodes} nodes for {seconds:.0} s, while the \
             leader was killed {} and brought back;\nafter that all nodes were killed at once \
             and started again.\n",
            times(self.kills)
        )?;
        writeln!(
            f,
            "  acknowledged writes  {acknowledged:>10}   {:>8}/s   half within {} ms, 99 % within {} ms",
            self.writes_per_s,
            us_in_ms(self.p50_us),
            us_in_ms(self.p99_us)
        )?;
        writeln!(
            f,
            "  linearizable reads   {reads:>10}   {:>8}/s   half within {} ms, 99 % within {} ms",
            self.reads_per_s,
            us_in_ms(self.read_p50_us),
            us_in_ms(self.read_p99_us)
        )?;
        writeln!(f, "  refused, not done    {:>10}", self.failed)?;
        writeln!(f, "  outcome unknown      {:>10}", self.indeterminate)?;
        writeln!(f, "  new leaders elected  {:>10}", self.elections)?;
        writeln!(
            f,
            "  longest time without an acknowledged write: {} ms\n",
            self.longest_unavailable_ms
        )?;
        for fault in &self.faults {
            writeln!(f, "  FAULT: {fault}")?;
        }
        if let Some(data) = &self.data {
            writeln!(f, "The nodes' data and logs are in {}.", data.display())?;
        }
        if self.sound {
            write!(
                f,
                "Every acknowledged write was there, no read was stale, and nothing was done twice."
            )
        } else if *acknowledged == 0 {
            write!(f, "Nothing was acknowledged, so nothing was shown.")
        } else {
            write!(
                f,
                "FAILED: {} acknowledged writes were missing, {} reads were stale, {} counts were wrong.",
                self.lost, self.stale_reads, self.miscounted
            )
        }
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}
