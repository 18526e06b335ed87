//! Percentiles.

use std::time::Duration;

use serde::Serialize;

/// What a set of samples looks like, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
    pub mean_ms: f64,
}

impl Summary {
    /// Of at least one sample; sorts them.
    pub(super) fn of(samples: &mut [Duration]) -> Self {
        samples.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        // The smallest sample that so many percent do not exceed.
        let percentile = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1) - 1;
            samples.get(rank).copied().map_or(0.0, ms)
        };
        let total: Duration = samples.iter().sum();
        Self {
            p50_ms: percentile(50),
            p90_ms: percentile(90),
            p99_ms: percentile(99),
            min_ms: samples.first().copied().map_or(0.0, ms),
            max_ms: samples.last().copied().map_or(0.0, ms),
            mean_ms: ms(total) / samples.len().max(1) as f64,
        }
    }
}

/// What rounds found, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// Told as the figure itself.
    #[serde(skip)]
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one round.
    pub(super) fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| rounds.get(place).copied().unwrap_or(f64::NAN);
        let last = rounds.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(rounds.len() / 2));
        Self { median, min: at(0), max: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let summary = Summary::of(&mut samples);
        assert_eq!((summary.p50_ms, summary.p90_ms, summary.p99_ms), (50.0, 90.0, 99.0));
        assert_eq!((summary.min_ms, summary.max_ms, summary.mean_ms), (1.0, 100.0, 50.5));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |rounds: &[f64]| {
            let Spread { median, min, max } = Spread::of(rounds.to_vec());
            (median, min, max)
        };
        assert_eq!(spread(&[9.0]), (9.0, 9.0, 9.0));
        assert_eq!(spread(&[9.0, 1.0]), (5.0, 1.0, 9.0));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), (2.0, 1.0, 9.0));
        assert_eq!(spread(&[4.0, 9.0, 1.0, 2.0]), (3.0, 1.0, 9.0));
    }

    #[test]
    fn one_sample_is_every_percentile() {
        let summary = Summary::of(&mut [Duration::from_millis(3)]);
        assert_eq!((summary.p50_ms, summary.p99_ms, summary.max_ms), (3.0, 3.0, 3.0));
    }
}
