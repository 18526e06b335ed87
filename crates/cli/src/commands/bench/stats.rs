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
    fn one_sample_is_every_percentile() {
        let summary = Summary::of(&mut [Duration::from_millis(3)]);
        assert_eq!((summary.p50_ms, summary.p99_ms, summary.max_ms), (3.0, 3.0, 3.0));
    }
}
