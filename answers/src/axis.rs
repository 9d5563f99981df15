//! The axes of a sweep's grid by which results can be grouped, and a trial's values on them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};
use sortie_core::finetune;
use sortie_core::parameters::Scalar;
use sortie_core::trial::Point;

/// An axis that can make rows. The held-out domain always makes the columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// A setting, by its name: `dropout`, `lr`, or whatever the sweep file calls it.
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

    /// Where a trial lies on this axis; none if its sweep has no such axis.
    pub fn value(&self, point: &Point) -> Option<AxisValue> {
        match self {
            Self::Parameter(name) => point.parameters.get(name).cloned().map(AxisValue::Scalar),
            Self::Seed => Some(AxisValue::Whole(point.seed)),
            Self::Split => Some(AxisValue::Whole(point.split_seed)),
        }
    }

    /// Whether these trials differ on it.
    pub(crate) fn varies<'a>(&self, points: impl IntoIterator<Item = &'a Point>) -> bool {
        points.into_iter().map(|point| self.value(point)).collect::<BTreeSet<_>>().len() > 1
    }
}

/// The parameter that names how trials were combined to one model.
pub const COMBINE: &str = "combine";
/// The parameter that tells how many trials were combined.
pub const MEMBERS: &str = "members";

/// Whether a trial combines others (their average, their ensemble). It lacks axes that its members differ on, and must never be averaged
/// with them.
pub fn is_combined(point: &Point) -> bool {
    matches!((point.parameters.get(COMBINE), point.parameters.get(MEMBERS)), (Some(Scalar::Text(_)), Some(Scalar::Number(_))))
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

/// The names of the parameters that these trials have, in the order in which tables list them: those of fine-tuning as its identity
/// lists them, then all others by name.
pub fn parameter_names<'a>(points: impl IntoIterator<Item = &'a Point>) -> Vec<String> {
    let names: BTreeSet<&str> = points.into_iter().flat_map(|point| point.parameters.keys()).map(String::as_str).collect();
    let known = finetune::AXES.into_iter().filter(|axis| names.contains(axis));
    let others = names.iter().copied().filter(|name| !finetune::AXES.contains(name));
    known.chain(others).map(str::to_owned).collect()
}

/// A value on an axis. Totally ordered, so that it can be a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AxisValue {
    /// A parameter's.
    Scalar(Scalar),
    /// A seed.
    Whole(u64),
}

impl fmt::Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
        }
    }
}

impl Serialize for AxisValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
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
        for (name, axis) in [("seed", Axis::Seed), ("split", Axis::Split), ("lr", Axis::Parameter("lr".into()))] {
            assert_eq!(Axis::from(name), axis);
            assert_eq!(axis.to_string(), name);
        }
    }

    #[test]
    fn combined_trials_are_known_by_both_of_their_parameters() {
        let combines = |parameters: &[(&str, Scalar)]| {
            let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            is_combined(&Point { held_out: vec![], parameters, seed: 0, split_seed: 0 })
        };
        let (name, members) = (("combine", Scalar::Text("ensemble".into())), ("members", Scalar::Number(18.0)));
        assert!(combines(&[name.clone(), members.clone(), ("dropout", Scalar::Number(0.9))]));
        assert!(!combines(std::slice::from_ref(&name)) && !combines(std::slice::from_ref(&members)));
        // A command may have axes of these names for something else.
        assert!(!combines(&[("combine", Scalar::Flag(true)), members]));
    }

    #[test]
    fn parameters_are_listed_as_fine_tuning_does_and_then_by_name() {
        let named = |names: &[&str]| {
            let parameters: Parameters = names.iter().map(|name| ((*name).to_owned(), Scalar::Flag(true))).collect();
            Point { held_out: vec![], parameters, seed: 0, split_seed: 0 }
        };
        let points = [named(&["weight_decay", "batch", "dropout"]), named(&["lr", "alpha"])];
        assert_eq!(parameter_names(&points), ["dropout", "lr", "weight_decay", "alpha", "batch"]);
    }
}
