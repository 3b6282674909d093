//! # What a phase measured
//!
//! - Owns: the latencies and the failures of all clients of one phase.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::ClientError;
use crate::resp::Reply;
use crate::units::whole_us;

/// A histogram of microseconds, up to a minute.
pub(super) fn latencies() -> Histogram<u64> {
    let latencies = Histogram::new_with_bounds(1, 60_000_000, 3);
    latencies.unwrap_or_else(|_| unreachable!("the bounds are constants that are allowed"))
}

/// What the clients of a phase measured, together: a histogram for each would
/// not stay in any cache.
pub(super) struct Measured {
    pub(super) latency_us: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    pub(super) broken: u64,
}

impl Measured {
    pub(super) fn new() -> Self {
        Self {
            latency_us: latencies(),
            errors: 0,
            last_error: None,
            broken: 0,
        }
    }

    /// A reply came after `latency`.
    pub(super) fn on_reply(&mut self, reply: Reply, latency: Duration) {
        if let Reply::Error(error) = reply {
            self.errors += 1;
            self.last_error = Some(error);
        } else {
            self.latency_us.saturating_record(whole_us(latency));
        }
    }

    pub(super) fn on_broken(&mut self, error: &ClientError) {
        self.broken += 1;
        self.last_error = Some(error.to_string());
    }
}
