//! # Timers
//!
//! Ticks since something was heard, and the time after which to campaign, drawn
//! anew for each term so that votes do not split (Raft §5.2).
//!
//! - Owns: the election counter, the drawn timeout, the generator.
//! - Source: Raft §5.2, §9.3; etcd `tickElection`, `resetRandomizedElectionTimeout`.

/// The election timer of a server.
#[derive(Debug)]
pub(crate) struct Timer {
    election_ticks: u32,
    elapsed: u32,
    randomized_timeout: u32,
    generator: SplitMix64,
}

impl Timer {
    pub(crate) fn new(election_ticks: u32, seed: u64) -> Self {
        let mut timer = Self {
            election_ticks,
            elapsed: 0,
            randomized_timeout: election_ticks,
            generator: SplitMix64(seed),
        };
        timer.reset();
        timer
    }

    /// One tick has passed.
    pub(crate) fn tick(&mut self) {
        self.elapsed = self.elapsed.saturating_add(1);
    }

    /// The leader was heard of, or a period begins.
    pub(crate) fn restart(&mut self) {
        self.elapsed = 0;
    }

    /// A role or term begins: draws a new timeout as well.
    pub(crate) fn reset(&mut self) {
        self.elapsed = 0;
        let jitter = self.generator.below(self.election_ticks);
        self.randomized_timeout = self.election_ticks.saturating_add(jitter);
    }

    /// Whether it is time to campaign.
    pub(crate) fn is_past_randomized_timeout(&self) -> bool {
        self.elapsed >= self.randomized_timeout
    }

    /// Whether the shortest election timeout has passed: a leader's period, and
    /// the end of the lease that protects it.
    pub(crate) fn is_past_election_timeout(&self) -> bool {
        self.elapsed >= self.election_ticks
    }

    #[cfg(test)]
    fn randomized_timeout(&self) -> u32 {
        self.randomized_timeout
    }

    pub(crate) fn set_randomized_timeout(&mut self, ticks: u32) {
        self.randomized_timeout = ticks;
    }
}

/// Steele, Lea and Flood's generator: small, seedable, good enough for jitter.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        let drawn = self.next().checked_rem(u64::from(bound)).unwrap_or(0);
        u32::try_from(drawn).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_timeouts_fill_the_range_and_nothing_else() {
        let mut timer = Timer::new(10, 7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            timer.reset();
            let drawn = timer.randomized_timeout();
            assert!((10..20).contains(&drawn), "{drawn}");
            seen[usize::try_from(drawn - 10).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 800), "{seen:?}");
    }
}
