//! The axes of a sweep's grid by which results can be grouped, and their values as people write them.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};
use sortie_core::trial::Point;

use sortie_core::named;

/// An axis that can make rows. The held-out domain always makes the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// Dropout rate on the penultimate representation.
    Dropout,
    /// Learning rate of the backbone.
    Lr,
    /// Weight decay.
    WeightDecay,
    /// Factor of the last layer's learning rate.
    HeadLrFactor,
    /// Seed of the training run.
    Seed,
    /// Seed of the `in`/`out` split.
    Split,
}
named!(Axis, "grouping axis", {
    Dropout => "dropout",
    Lr => "lr",
    WeightDecay => "weight_decay",
    HeadLrFactor => "head_lr_factor",
    Seed => "seed",
    Split => "split",
});

impl Axis {
    /// The axes that are settings; the others only repeat a setting.
    pub(crate) const SETTINGS: [Self; 4] = [Self::Dropout, Self::Lr, Self::WeightDecay, Self::HeadLrFactor];

    /// Where a trial lies on this axis.
    pub fn value(self, point: &Point) -> AxisValue {
        match self {
            Self::Dropout => AxisValue::real(point.dropout),
            Self::Lr => AxisValue::real(point.lr),
            Self::WeightDecay => AxisValue::real(point.weight_decay),
            Self::HeadLrFactor => AxisValue::real(point.head_lr_factor),
            Self::Seed => AxisValue::Whole(point.seed),
            Self::Split => AxisValue::Whole(point.split_seed),
        }
    }
}

/// A value on an axis. Totally ordered, so that it can be a key.
#[derive(Clone, Copy, Debug)]
pub enum AxisValue {
    /// A rate or a factor.
    Real(f64),
    /// A seed.
    Whole(u64),
}

impl AxisValue {
    /// Adding zero takes the sign from a negative zero, which would otherwise be a row of its own.
    fn real(value: f64) -> Self {
        Self::Real(value + 0.0)
    }
}

impl Ord for AxisValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Real(_), Self::Whole(_)) => Ordering::Less,
            (Self::Whole(_), Self::Real(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for AxisValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for AxisValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for AxisValue {}

impl std::fmt::Display for AxisValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Real(value) => f.pad(&number(*value)),
            Self::Whole(value) => value.fmt(f),
        }
    }
}

impl Serialize for AxisValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Real(value) => serializer.serialize_f64(*value),
            Self::Whole(value) => serializer.serialize_u64(*value),
        }
    }
}

/// A number as people write it: 0, 0.5, 0.95, 1, 0.01, 1e-3, 5e-4. Reads back as exactly the same number.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (0.01..1e6).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.5, "0.5"),
            (0.95, "0.95"),
            (1.0, "1"),
            (10.0, "10"),
            (5e-4, "5e-4"),
            (1e-3, "1e-3"),
            (1.5e-3, "1.5e-3"),
            (0.01, "0.01"),
            (-0.25, "-0.25"),
            (3e7, "3e7"),
        ] {
            assert_eq!(number(value), text);
            assert_eq!(text.parse::<f64>().unwrap(), value);
        }
    }

    #[test]
    fn an_axis_is_known_by_its_name() {
        for &axis in Axis::ALL {
            assert_eq!(axis.as_str().parse(), Ok(axis));
        }
        let error = "held_out".parse::<Axis>().unwrap_err().to_string();
        assert_eq!(error, "\"held_out\" is not a grouping axis; allowed: dropout, lr, weight_decay, head_lr_factor, seed, split");
    }
}
