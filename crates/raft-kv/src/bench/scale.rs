//! # Axes
//!
//! From figures to places on an axis, and round steps with labels for it.

/// From a figure to a place on an axis.
pub(super) struct Scale {
    low: f64,
    high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    /// From zero up to at least `most`, in round steps.
    pub(super) fn linear(most: f64) -> Self {
        let rough = most.max(1.0) / 4.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * decade)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let count = (most / step).ceil().max(1.0);
        let mut ticks = vec![0.0];
        while ticks.len() <= whole(count) {
            ticks.push(step * count_of(ticks.len()));
        }
        Self {
            low: 0.0,
            high: step * count,
            ticks,
        }
    }

    /// Whole steps of 1, 2 and 5 that have `least` and `most` between them, as
    /// logarithms.
    pub(super) fn logarithmic(least: f64, most: f64) -> Self {
        let mut values = Vec::new();
        let mut decade = 10_f64.powf(least.max(1e-3).log10().floor());
        while decade <= most {
            values.extend([decade, 2.0 * decade, 5.0 * decade]);
            decade *= 10.0;
        }
        values.push(decade);
        let first = values.iter().rposition(|tick| *tick <= least).unwrap_or(0);
        let last = values.iter().position(|tick| *tick >= most);
        let last = last.unwrap_or(values.len() - 1).max(first + 1);
        let ticks: Vec<f64> = values[first..=last]
            .iter()
            .map(|tick| tick.log10())
            .collect();
        Self {
            low: ticks.first().copied().unwrap_or(0.0),
            high: ticks.last().copied().unwrap_or(1.0),
            ticks,
        }
    }

    /// How far up from the low end a figure is, from 0 to 1.
    pub(super) fn part(&self, figure: f64) -> f64 {
        ((figure - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "there are few of whatever is counted"
)]
pub(super) fn count_of(things: usize) -> f64 {
    things as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number of steps of an axis is a small whole number"
)]
fn whole(count: f64) -> usize {
    count as usize
}

pub(super) fn thousands(figure: f64) -> String {
    if figure >= 10_000.0 {
        format!("{:.0}k", figure / 1000.0)
    } else if figure >= 1000.0 {
        format!("{:.1}k", figure / 1000.0)
    } else {
        format!("{figure:.0}")
    }
}

/// The figure of a logarithm.
pub(super) fn logarithm(figure: f64) -> String {
    let value = 10_f64.powf(figure);
    // As many digits as it has: it is 1, 2 or 5 times a power of ten.
    let digits = if value >= 0.95 {
        0
    } else {
        whole((-figure).ceil())
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps_around_the_figures() {
        let scale = Scale::linear(91_234.0);
        assert_eq!(scale.ticks, [0.0, 25_000.0, 50_000.0, 75_000.0, 100_000.0]);
        let scale = Scale::logarithmic(0.15, 24.0);
        let labels: Vec<_> = scale.ticks.iter().map(|tick| logarithm(*tick)).collect();
        assert_eq!(
            labels,
            ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"]
        );
    }
}
