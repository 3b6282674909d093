//! # How long nothing was acknowledged
//!
//! Owns the time of the last acknowledged write of all clients, and the longest
//! time between two.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Availability {
    last: Instant,
    longest: Duration,
}

impl Availability {
    pub(super) fn since(start: Instant) -> Self {
        Self {
            last: start,
            longest: Duration::ZERO,
        }
    }

    /// A write was acknowledged at `now`, or the load ended.
    pub(super) fn mark(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last);
        self.longest = self.longest.max(gap);
        self.last = self.last.max(now);
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_whoever_reports_it_late() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut availability = Availability::since(start);
        for mark in [10, 500, 490, 600] {
            availability.mark(at(mark));
        }
        assert_eq!(availability.longest(), Duration::from_millis(490));
    }
}
