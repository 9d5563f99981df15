//! How the values of a metric are written in tables and drawn in figures.

use sortie_core::metrics::{FRACTION, Metric};

/// Digits of a number that is no fraction.
const DIGITS: i32 = 4;
/// The most decimals of such a number.
const DECIMALS_MAX: i32 = 8;

/// How the values of a metric are written: in per cent if they are fractions, or as they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    metric: Metric,
    percent: bool,
    decimals: usize,
}

impl Scale {
    /// The scale for these values. A metric whose unit is a fraction is written as it is if some value is none.
    pub(crate) fn of(metric: &Metric, values: impl IntoIterator<Item = f64>) -> Self {
        let mut percent = metric.unit() == FRACTION;
        let mut largest = 0.0_f64;
        for value in values {
            percent &= (0.0..=1.0).contains(&value);
            largest = largest.max(value.abs());
        }
        let magnitude = if largest > 0.0 { largest.log10().floor() as i32 } else { 0 };
        let decimals = if percent { 1 } else { (DIGITS - 1 - magnitude).clamp(0, DECIMALS_MAX) as usize };
        Self { metric: metric.clone(), percent, decimals }
    }

    /// A value as tables show it.
    pub(crate) fn text(&self, value: f64) -> String {
        self.plotted_text(self.plotted(value))
    }

    /// The same with one more digit.
    pub(crate) fn fine_text(&self, value: f64) -> String {
        format!("{:.*}", self.decimals + 1, self.plotted(value) + 0.0)
    }

    /// A difference of two values as tables show it, with its sign.
    pub(crate) fn difference(&self, value: f64) -> String {
        format!("{:+.*}", self.decimals, self.plotted(value))
    }

    /// The same with one more digit.
    pub(crate) fn fine_difference(&self, value: f64) -> String {
        format!("{:+.*}", self.decimals + 1, self.plotted(value))
    }

    /// A value as figures place it.
    pub(crate) fn plotted(&self, value: f64) -> f64 {
        if self.percent { 100.0 * value } else { value }
    }

    /// A value that figures place, as they write it.
    pub(crate) fn plotted_text(&self, plotted: f64) -> String {
        // Adding zero takes the sign from a negative zero.
        format!("{:.*}", self.decimals, plotted + 0.0)
    }

    /// Whether values are written in per cent.
    pub(crate) fn is_percent(&self) -> bool {
        self.percent
    }

    /// Whether both values are there, and tables show them as the same number.
    pub(crate) fn shown_alike(&self, one: Option<f64>, other: Option<f64>) -> bool {
        one.zip(other).is_some_and(|(one, other)| self.text(one) == self.text(other))
    }

    /// The best of these values.
    pub(crate) fn best(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values
            .reduce(|best, next| if self.metric.score(next) > self.metric.score(best) { next } else { best })
    }

    /// The metric's name.
    pub(crate) fn name(&self) -> &str {
        self.metric.name()
    }

    /// A heading with the unit: `o.o.d. accuracy, %`, where `heading` is `o.o.d. accuracy`.
    pub(crate) fn with_unit(&self, heading: &str) -> String {
        match self.metric.unit() {
            _ if self.percent => format!("{heading}, %"),
            "" | FRACTION => heading.to_owned(),
            unit => format!("{heading}, {unit}"),
        }
    }

    /// What differences are counted in: `points` of a hundred, or the metric.
    pub(crate) fn points(&self) -> String {
        if self.percent { "points".to_owned() } else { self.with_unit(self.name()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::metrics::{Goal, MetricSettings};

    #[test]
    fn fractions_are_shown_in_per_cent_and_other_numbers_as_they_are() {
        let shown = |metric: &Metric, values: &[f64]| {
            let scale = Scale::of(metric, values.iter().copied());
            let texts: Vec<String> = values.iter().map(|value| scale.text(*value)).collect();
            (texts.join(" "), scale.with_unit(scale.name()))
        };
        let text = |text: &str, title: &str| (text.to_owned(), title.to_owned());
        assert_eq!(shown(&Metric::ACCURACY, &[0.5, 0.125]), text("50.0 12.5", "accuracy, %"));
        assert_eq!(shown(&Metric::ACCURACY, &[50.0, 12.5]), text("50.00 12.50", "accuracy"));
        assert_eq!(shown(&Metric::LOSS, &[0.5, 0.125]), text("0.5000 0.1250", "loss"));
        let settings = |unit: &str| MetricSettings { goal: Goal::Min, unit: unit.to_owned() };
        let seconds = Metric::named("time", &settings("s"));
        assert_eq!(shown(&seconds, &[12_345.6, 0.0]), text("12346 0", "time, s"));
        let f1 = Metric::named("f1", &settings(FRACTION));
        assert_eq!(shown(&f1, &[0.5]), text("50.0", "f1, %"));
        assert_eq!(Scale::of(&seconds, [3.0]).best([3.0, 1.0, 2.0].into_iter()), Some(1.0));
        assert_eq!(Scale::of(&Metric::ACCURACY, [3.0]).best([3.0, 1.0].into_iter()), Some(3.0));
    }
}
