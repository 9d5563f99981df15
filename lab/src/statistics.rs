//! Percentiles and medians of measurements.

use serde::Serialize;

/// The median and the 99th percentile.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
}

impl Percentiles {
    /// Of these values, in any order; zeros if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(0.0)
        };
        Self { p50: at(0.5), p99: at(0.99) }
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
    fn percentiles_do_not_depend_on_the_order() {
        let Percentiles { p50, p99 } = Percentiles::of((0..200).rev().map(f64::from).collect());
        assert_eq!((p50, p99), (100.0, 198.0));
        let Percentiles { p50, p99 } = Percentiles::of(Vec::new());
        assert_eq!((p50, p99), (0.0, 0.0));
    }
}
