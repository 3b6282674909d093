//! # Once per second
//!
//! What could be said per packet is said once per second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(1);

/// Lets something happen at most once per second.
#[derive(Debug)]
pub(super) struct Seldom {
    since: Instant,
    /// In milliseconds after `since`.
    next: AtomicU64,
}

impl Seldom {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            next: AtomicU64::new(0),
        }
    }

    /// Whether it may happen now. If so, it has.
    pub(super) fn allows(&self) -> bool {
        let now = self.since.elapsed();
        let next = self.next.load(Ordering::Relaxed);
        if millis(now) < next {
            return false;
        }
        self.next
            .compare_exchange(
                next,
                millis(now.saturating_add(PAUSE)),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Lets it happen at once: what it would say is new.
    pub(super) fn reset(&self) {
        self.next.store(0, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
