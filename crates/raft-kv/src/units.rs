//! Durations as whole numbers, for reports and progress bars.

use std::time::Duration;

/// Whole milliseconds.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole microseconds.
pub(crate) fn whole_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as a number of milliseconds, for people.
pub(crate) fn us_in_ms(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_shown_with_all_their_digits() {
        assert_eq!(us_in_ms(7), "0.007");
        assert_eq!(us_in_ms(12_345), "12.345");
    }
}
