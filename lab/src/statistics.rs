//! Percentiles and medians of measurements.

use serde::Serialize;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
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
