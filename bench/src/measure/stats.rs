//! Medians of repeated measurements, and percentiles of many times.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that can be recorded; no measurement here takes longer.
const LONGEST: Duration = Duration::from_mins(10);
/// Significant digits of a recorded time, which is off by at most a thousandth.
const DIGITS: u8 = 3;

/// Median: the middle value, or the mean of the two in the middle of an even number of values; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// Histogram of times.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    /// Makes an empty histogram.
    ///
    /// # Errors
    /// Only when its memory cannot be allocated.
    pub fn new() -> Result<Self> {
        let longest = LONGEST.as_nanos() as u64;
        Ok(Self(Histogram::new_with_bounds(100, longest, DIGITS).context("no histogram")?))
    }

    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    pub fn add(&mut self, other: &Self) {
        // Both histograms have the same bounds, so that no value can be outside of them.
        let _ = self.0.add(&other.0);
    }

    pub fn summary(&self) -> Percentiles {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Percentiles {
            count: self.0.len(),
            p50: ms(self.0.value_at_quantile(0.5)),
            p95: ms(self.0.value_at_quantile(0.95)),
            p99: ms(self.0.value_at_quantile(0.99)),
            p999: ms(self.0.value_at_quantile(0.999)),
            max: ms(self.0.max()),
        }
    }
}

/// Percentiles in milliseconds: the time below which that share of the values lay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let medians = [median(&[]), median(&[3.0]), median(&[9.0, 1.0, 5.0]), median(&[4.0, 1.0, 2.0, 9.0])];
        assert_eq!(medians.map(|value| (value * 10.0) as i64), [0, 30, 50, 30]);
    }

    #[test]
    fn percentiles_are_those_of_all_parts_together() {
        let (mut low, mut high) = (Times::new().unwrap(), Times::new().unwrap());
        for n in 1..=500 {
            low.record(Duration::from_micros(n * 10));
            high.record(Duration::from_micros(5_000 + n * 10));
        }
        low.add(&high);
        let all = low.summary();
        assert_eq!(all.count, 1_000);
        for (found, wanted) in [(all.p50, 5.0), (all.p95, 9.5), (all.p99, 9.9), (all.p999, 9.99), (all.max, 10.0)] {
            assert!((found - wanted).abs() <= wanted * 0.002, "{found} is not {wanted}");
        }
    }

    #[test]
    fn what_takes_too_long_counts_as_the_longest() {
        let mut times = Times::new().unwrap();
        times.record(Duration::from_hours(5));
        assert!((times.summary().max / 600_000.0 - 1.0).abs() < 0.01);
    }
}
