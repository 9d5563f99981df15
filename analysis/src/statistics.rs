//! Means with their standard errors, quantiles and bootstrap intervals.

use serde::Serialize;
use sortie_core::random::{Purpose, stream, uniform_below};
use sortie_core::selection::mean;

/// Resamples of an interval.
const RESAMPLES: usize = 10_000;
/// The share of resamples below an interval, and above it.
const TAIL: f64 = 0.025;
/// An interval needs at least this many values.
const VALUES_MIN: usize = 3;

/// A mean of accuracies (fractions) with its standard error. Fields are in the order of the JSON contract.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The arithmetic mean; none without values.
    pub mean: Option<f64>,
    /// Sample standard deviation / sqrt(n); none for fewer than two values.
    pub se: Option<f64>,
    /// The number of values.
    pub n: usize,
}

impl Estimate {
    /// Mean and standard error of these values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        let mean = mean(values);
        let se = mean.filter(|_| n > 1).map(|mean| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (n - 1) as f64 / n as f64).sqrt()
        });
        Self { mean, se, n }
    }
}

/// The quantile of some part (0 to 1) of these ascending values, linear between neighbours as NumPy does by default; none without values.
pub(crate) fn quantile(ascending: &[f64], part: f64) -> Option<f64> {
    let place = part * (ascending.len().max(1) - 1) as f64;
    let low = *ascending.get(place.floor() as usize)?;
    let high = *ascending.get(place.ceil() as usize)?;
    Some(low + (high - low) * place.fract())
}

/// The percentile bootstrap's 95% interval of a mean.
pub(crate) fn bootstrap_interval(values: &[f64]) -> Option<[f64; 2]> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let mut rng = stream(0, Purpose::Resampling, 0, 0, 0);
    let mut resample = || {
        let draws = (0..values.len()).map(|_| values[uniform_below(&mut rng, values.len() as u64) as usize]);
        draws.sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    let outside = (TAIL * RESAMPLES as f64) as usize;
    Some([means[outside], means[RESAMPLES - 1 - outside]])
}

/// The total number of seeds that a comparison needs for the standard error `target`, if the error falls with the square root of their
/// number. It is at least one more than `seeds`, and at most twice as many, because an error from few seeds is itself uncertain.
pub fn seeds_for(seeds: u64, error: f64, target: f64) -> u64 {
    let needed = (seeds as f64 * (error / target).powi(2)).ceil();
    // A number that is too large becomes the largest one, and NaN becomes 0.
    (needed as u64).clamp(seeds + 1, (2 * seeds).max(seeds + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0];
        let found = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| quantile(&values, part).unwrap());
        assert_eq!(found, [1.0, 1.75, 3.0, 5.0, 8.0]);
        assert_eq!((quantile(&[3.0], 0.25), quantile(&[], 0.5)), (Some(3.0), None));
    }

    #[test]
    fn the_standard_error_is_the_samples() {
        // Deviations -3, -1, 1, 3: sum of squares 20, variance 20/3, se = sqrt(20/3/4) = sqrt(5/3).
        let estimate = Estimate::of(&[2.0, 4.0, 6.0, 8.0]);
        assert_eq!((estimate.mean, estimate.n), (Some(5.0), 4));
        assert!((estimate.se.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn seeds_follow_the_square_of_the_error() {
        for (seeds, error, target, needed) in [
            (10, 0.012, 0.01, 15),
            (10, 0.0101, 0.01, 11),
            (3, 0.1, 0.01, 6),
            (1, f64::INFINITY, 0.01, 2),
            (4, f64::NAN, 0.01, 5),
        ] {
            assert_eq!(seeds_for(seeds, error, target), needed);
        }
    }

    #[test]
    fn one_value_has_no_error_and_nothing_has_no_mean() {
        assert_eq!(Estimate::of(&[0.75]), Estimate { mean: Some(0.75), se: None, n: 1 });
        assert_eq!(Estimate::of(&[]), Estimate { mean: None, se: None, n: 0 });
    }
}
