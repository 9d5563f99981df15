//! The axes of a sweep's grid by which results can be grouped, and a trial's values on them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};
use sortie_core::finetune;
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::trial::Point;

/// An axis that can make rows. The held-out domain always makes the columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// A setting, by its name in the sweep file, such as `dropout` or `lr`.
    Parameter(String),
    /// Seed of the training run.
    Seed,
    /// Seed of the `in`/`out` split.
    Split,
}

impl Axis {
    /// The dropout rate, over which figures are drawn.
    pub(crate) fn dropout() -> Self {
        Self::from("dropout")
    }

    /// The axis's name in commands and columns.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Parameter(name) => name,
            Self::Seed => "seed",
            Self::Split => "split",
        }
    }

    /// The value of a trial on this axis; none if its sweep has no such axis.
    pub fn value(&self, point: &Point) -> Option<AxisValue> {
        match self {
            Self::Parameter(name) => point.parameters.get(name).cloned().map(AxisValue::Scalar),
            Self::Seed => Some(AxisValue::Whole(point.seed)),
            Self::Split => Some(AxisValue::Whole(point.split_seed)),
        }
    }

    /// The value on a row of trials with these parameters. Seeds are not among the parameters.
    pub(crate) fn of(&self, parameters: &Parameters, seed: u64, split_seed: u64) -> AxisValue {
        match self {
            Self::Parameter(name) => {
                parameters.get(name).cloned().map_or(AxisValue::Absent, AxisValue::Scalar)
            }
            Self::Seed => AxisValue::Whole(seed),
            Self::Split => AxisValue::Whole(split_seed),
        }
    }

    /// Whether the trials have different values on it.
    pub(crate) fn varies<'a>(&self, points: impl IntoIterator<Item = &'a Point>) -> bool {
        points.into_iter().map(|point| self.value(point)).collect::<BTreeSet<_>>().len() > 1
    }
}

impl From<&str> for Axis {
    fn from(name: &str) -> Self {
        match name {
            "seed" => Self::Seed,
            "split" => Self::Split,
            _ => Self::Parameter(name.to_owned()),
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The names of the parameters of these trials, in the order of tables: first those of fine-tuning in the order of its identity, then all
/// others by name.
pub fn parameter_names<'a>(points: impl IntoIterator<Item = &'a Point>) -> Vec<String> {
    names_of(points.into_iter().map(|point| &point.parameters))
}

/// The same for parameters without points.
pub(crate) fn names_of<'a>(parameters: impl IntoIterator<Item = &'a Parameters>) -> Vec<String> {
    in_order(parameters.into_iter().flat_map(Parameters::keys).map(String::as_str).collect())
        .map(str::to_owned)
        .collect()
}

/// Names of parameters in that order.
pub(crate) fn in_order(names: BTreeSet<&str>) -> impl Iterator<Item = &str> {
    let known: Vec<&str> = finetune::AXES.into_iter().filter_map(|axis| names.get(axis).copied()).collect();
    known.into_iter().chain(names.into_iter().filter(|name| !finetune::AXES.contains(name)))
}

/// A value on an axis. It is totally ordered, so that it can be a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AxisValue {
    /// The trials lack this axis, but others of their sweep have it.
    Absent,
    /// The value of a parameter.
    Scalar(Scalar),
    /// A seed.
    Whole(u64),
}

impl fmt::Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.pad("-"),
            Self::Scalar(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
        }
    }
}

impl Serialize for AxisValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Scalar(value) => value.serialize(serializer),
            Self::Whole(value) => serializer.serialize_u64(*value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::Parameters;

    #[test]
    fn an_axis_is_known_by_its_name() {
        for (name, axis) in
            [("seed", Axis::Seed), ("split", Axis::Split), ("lr", Axis::Parameter("lr".into()))]
        {
            assert_eq!(Axis::from(name), axis);
            assert_eq!(axis.to_string(), name);
        }
    }

    #[test]
    fn parameters_are_listed_as_fine_tuning_does_and_then_by_name() {
        let named = |names: &[&str]| {
            let parameters: Parameters =
                names.iter().map(|name| ((*name).to_owned(), Scalar::Flag(true))).collect();
            Point { held_out: vec![], parameters, seed: 0, split_seed: 0 }
        };
        let points = [named(&["weight_decay", "batch", "dropout"]), named(&["lr", "alpha"])];
        assert_eq!(parameter_names(&points), ["dropout", "lr", "weight_decay", "alpha", "batch"]);
    }
}
