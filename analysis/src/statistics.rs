//! Means with their standard errors, quantiles and intervals.

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

/// The 95% interval of the mean over all values, where only values of the same stratum are alike: strata are taken as they are, and the
/// error is that of their own means (Student's t with Welch and Satterthwaite's degrees of freedom). None unless every stratum has two
/// values.
pub(crate) fn stratified_interval(strata: &[Vec<f64>]) -> Option<[f64; 2]> {
    let all = strata.concat();
    let (mean, n) = (mean(&all)?, all.len() as f64);
    let (mut variance, mut per_freedom) = (0.0, 0.0);
    for stratum in strata {
        let share = stratum.len() as f64 / n;
        let part = (share * Estimate::of(stratum).se?).powi(2);
        variance += part;
        per_freedom += part * part / (stratum.len() - 1) as f64;
    }
    if variance == 0.0 {
        return Some([mean, mean]);
    }
    let reach = students_t(variance * variance / per_freedom, 2.0 * TAIL) * variance.sqrt();
    Some([mean - reach, mean + reach])
}

/// The number that Student's t with these degrees of freedom (at least 1) is beyond, on either side, with this probability.
fn students_t(freedom: f64, beyond: f64) -> f64 {
    const STEPS: usize = 100_000;
    // With t = sqrt(freedom) tan(angle), the density is cos(angle)^(freedom - 1) up to a factor.
    let step = std::f64::consts::FRAC_PI_2 / STEPS as f64;
    let density = |index: usize| ((index as f64 + 0.5) * step).cos().powf(freedom - 1.0);
    let total: f64 = (0..STEPS).map(density).sum();
    let (wanted, mut sum) = ((1.0 - beyond) * total, 0.0);
    for index in 0..STEPS {
        let here = density(index);
        if sum + here >= wanted {
            return freedom.sqrt() * ((index as f64 + (wanted - sum) / here) * step).tan();
        }
        sum += here;
    }
    f64::INFINITY
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
    fn students_t_is_that_of_tables() {
        // Tables of the 97.5th percentile; the last is between degrees of freedom, by SciPy.
        for (freedom, expected) in [
            (1.0, 12.7062),
            (2.0, 4.3027),
            (4.0, 2.7764),
            (8.0, 2.3060),
            (120.0, 1.9799),
            (1e6, 1.9600),
            (1.5, 6.0167),
        ] {
            let found = students_t(freedom, 0.05);
            assert!((found - expected).abs() < 1e-4 * expected, "{freedom}: {found}");
        }
    }

    #[test]
    fn strata_that_disagree_do_not_widen_their_interval() {
        // Means 3 and -2, variances 1 and 4, three values each: standard error sqrt(1/3 + 4/3) / 2, and by hand (5/3)^2 / (1/18 + 16/18)
        // degrees of freedom.
        let strata = [vec![2.0, 3.0, 4.0], vec![-4.0, -2.0, 0.0]];
        let [low, high] = stratified_interval(&strata).unwrap();
        let reach = students_t(25.0 / 9.0 / (17.0 / 18.0), 0.05) * (5.0_f64 / 3.0).sqrt() / 2.0;
        assert!((low - (0.5 - reach)).abs() < 1e-9 && (high - (0.5 + reach)).abs() < 1e-9, "{low} {high}");
        assert_eq!(stratified_interval(&[vec![1.0, 1.0], vec![3.0, 3.0]]), Some([2.0, 2.0]));
        assert_eq!(stratified_interval(&[vec![1.0, 2.0], vec![3.0]]), None);
        assert_eq!(stratified_interval(&[]), None);
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
