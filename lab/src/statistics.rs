//! Percentiles and medians of measurements.

use serde::Serialize;

/// The least coverage of an interval.
const COVERAGE: f64 = 0.95;

/// The median and the 99th percentile, as nearest ranks: the smallest value that at least that share of the values do not exceed.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
}

impl Percentiles {
    /// Of these values, in any order; zeros if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| (values.len() * percent).div_ceil(100);
        let at = |percent| values.get(rank(percent).saturating_sub(1)).copied().unwrap_or(0.0);
        Self { p50: at(50), p99: at(99) }
    }
}

/// The middle value, or the mean of the two middle values; none if there are no values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let lower = values.get(values.len().checked_sub(1)? / 2)?;
    let upper = values.get(values.len() / 2)?;
    Some((lower + upper) / 2.0)
}

/// A median and an interval for it.
#[derive(Debug, Serialize)]
pub struct MedianInterval {
    pub median: f64,
    pub interval: [f64; 2],
    /// The probability that the interval of such a sample holds the true median.
    pub coverage: f64,
}

/// The median with its interval of the sign test: between the values of one rank from below and from above, whatever their distribution is.
/// The narrowest that covers 95% is taken; fewer than six values cover less. None without values.
pub fn median_interval(mut values: Vec<f64>) -> Option<MedianInterval> {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    // The probability of at most `rank` of `count` values below the true median.
    let mut probability = 0.5f64.powi(i32::try_from(count).ok()?);
    let (mut below, mut rank, mut coverage) = (probability, 0, 1.0 - 2.0 * probability);
    while rank + 1 < count.div_ceil(2) {
        probability *= (count - rank) as f64 / (rank + 1) as f64;
        below += probability;
        if 1.0 - 2.0 * below < COVERAGE {
            break;
        }
        (rank, coverage) = (rank + 1, 1.0 - 2.0 * below);
    }
    let interval = [*values.get(rank)?, *values.get(count.checked_sub(rank + 1)?)?];
    Some(MedianInterval { median: median(values)?, interval, coverage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    /// The ranks are those of the sign test's tables: 1 of 6 to 8, 2 of 9 to 11, 4 of 15 and 16.
    #[test]
    fn an_interval_of_the_median_has_the_ranks_of_the_sign_test() {
        for (count, low, covered) in [(6u32, 1.0, 0.969), (8, 1.0, 0.992), (9, 2.0, 0.961), (16, 4.0, 0.979)]
        {
            let found = median_interval((1..=count).rev().map(f64::from).collect()).unwrap();
            assert_eq!(found.interval, [low, f64::from(count) + 1.0 - low], "{count}");
            assert!((found.coverage - covered).abs() < 5e-4, "{count}: {}", found.coverage);
        }
        assert_eq!(median_interval(vec![2.0]).unwrap().interval, [2.0, 2.0]);
        assert!(median_interval(vec![]).is_none());
    }

    #[test]
    fn percentiles_are_nearest_ranks_whatever_the_order() {
        let of = |count: u32| {
            let Percentiles { p50, p99 } = Percentiles::of((1..=count).rev().map(f64::from).collect());
            (p50, p99)
        };
        assert_eq!(of(200), (100.0, 198.0));
        assert_eq!(of(3), (2.0, 3.0));
        assert_eq!(of(1), (1.0, 1.0));
        assert_eq!(of(0), (0.0, 0.0));
    }
}
