//! An x axis of numbers: linear, or logarithmic where they span several magnitudes.

use sortie_core::parameters::number;

use super::frame::Ticks;

/// Numbers whose largest is so many times their smallest above 0 stand on a logarithmic axis.
const LOGARITHMIC_MIN: f64 = 20.0;
/// More numbers than this have no label each.
const LABELS_MAX: usize = 8;

/// Places numbers on an x axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct XScale {
    /// Ascending.
    values: Vec<f64>,
    /// Whether the axis is logarithmic.
    pub logarithmic: bool,
    /// The place of 0, which no logarithmic axis has: beside the smallest other number.
    zero: f64,
}

impl XScale {
    /// The axis of these ascending numbers.
    pub(super) fn of(values: &[f64]) -> Self {
        let positive: Vec<f64> = values.iter().copied().filter(|value| *value > 0.0).collect();
        let (least, most) = match positive.as_slice() {
            [] => (1.0, 1.0),
            [least, ..] => (*least, positive[positive.len() - 1]),
        };
        let logarithmic = most / least >= LOGARITHMIC_MIN && values.iter().all(|value| *value >= 0.0);
        // As far away as neighbours are on average.
        let step = (most / least).log10() / (positive.len().max(2) - 1) as f64;
        Self { values: values.to_vec(), logarithmic, zero: least.log10() - step }
    }

    /// Whether 0 stands beside a logarithmic axis.
    pub(super) fn has_zero_beside(&self) -> bool {
        self.logarithmic && self.values.first() == Some(&0.0)
    }

    /// The place of a number.
    pub(super) fn at(&self, value: f64) -> f64 {
        match self.logarithmic {
            true if value > 0.0 => value.log10(),
            true => self.zero,
            false => value,
        }
    }

    /// The ends of the axis.
    pub(super) fn range(&self) -> (f64, f64) {
        let first = self.values.first().map_or(0.0, |value| self.at(*value));
        let last = self.values.last().map_or(1.0, |value| self.at(*value));
        let pad = if last > first { 0.04 * (last - first) } else { 0.05 };
        (first - pad, last + pad)
    }

    /// The numbers if there are few, else round ones, with their places.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.range();
        if self.values.len() <= LABELS_MAX {
            return self.values.iter().map(|&value| (self.at(value), number(value))).collect();
        }
        if self.logarithmic {
            let zero = self.has_zero_beside().then(|| (self.zero, number(0.0)));
            let least = self.values.iter().find(|value| **value > 0.0).map_or(low, |value| value.log10());
            let decades = (least.floor() as i32..=high.ceil() as i32).map(|power| {
                let value = 10_f64.powi(power);
                (value.log10(), number(value))
            });
            let inside = decades.filter(|(at, _)| (least - 0.05..=high).contains(at));
            return zero.into_iter().chain(inside).collect();
        }
        let ticks = Ticks::around([low, high]);
        let inside = ticks.values.iter().filter(|value| (low..=high).contains(*value));
        inside.map(|&value| (value, ticks.label(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_make_a_logarithmic_axis_and_zero_stands_beside_it() {
        for rates in [&[0.0, 0.5, 0.9, 0.95][..], &[0.5], &[0.0], &[-1.0, 1e-4, 1.0], &[]] {
            let scale = XScale::of(rates);
            assert!(!scale.logarithmic && !scale.has_zero_beside(), "{rates:?}");
            assert!(rates.iter().all(|rate| scale.at(*rate) == *rate));
        }
        let decays = XScale::of(&[0.0, 1e-6, 1e-4, 1e-2]);
        assert!(decays.logarithmic && decays.has_zero_beside());
        let found: Vec<(f64, String)> =
            decays.ticks().into_iter().map(|(at, label)| (at.round(), label)).collect();
        let expected = [(-8.0, "0"), (-6.0, "1e-6"), (-4.0, "1e-4"), (-2.0, "0.01")];
        assert_eq!(found, expected.map(|(at, label)| (at, label.to_owned())));
    }

    #[test]
    fn of_many_numbers_round_ones_have_labels() {
        let lrs: Vec<f64> = (0..12).map(|k| 1e-5 * 2_f64.powi(k)).collect();
        let labels: Vec<String> = XScale::of(&lrs).ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["1e-5", "1e-4", "1e-3", "0.01"]);
        let rates: Vec<f64> = (0..12).map(|k| f64::from(k) * 0.05).collect();
        assert!(XScale::of(&rates).ticks().len() < 8);
    }
}
