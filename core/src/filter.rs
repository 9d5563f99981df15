//! `--where 'dropout=0.9 and held_out=sketch'`: the trials that a command is about.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameters::Scalar;
use crate::trial::Point;

/// Conditions that must all hold. In files and on the wire a text, which is parsed where it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(Vec<Condition>);

/// The value that a trial must have on one axis.
#[derive(Clone, Debug, PartialEq)]
enum Condition {
    /// The held-out domains, as tables write them.
    HeldOut(String),
    /// The seed of the training run.
    Seed(u64),
    /// The seed of the `in`/`out` split.
    Split(u64),
    /// Any other axis: this text where its values are texts, even if it looks like a number, else this value.
    Parameter { axis: String, text: String, value: Scalar },
}

/// A filter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read the condition {condition:?}: write AXIS=VALUE, joined by ' and ', such as 'dropout=0.9 and held_out=sketch'"
)]
pub struct BadFilter {
    condition: String,
}

/// A condition on an axis that a sweep does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{axis:?} is not an axis of this sweep; its axes are {known}")]
pub struct UnknownAxis {
    axis: String,
    known: String,
}

/// As it is read.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.0.iter().enumerate() {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}{}={}", condition.axis(), condition.value())?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Filter {
    type Error = BadFilter;

    fn try_from(text: String) -> Result<Self, BadFilter> {
        Self::parse(&text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}

impl Condition {
    fn axis(&self) -> &str {
        match self {
            Self::HeldOut(_) => "held_out",
            Self::Seed(_) => "seed",
            Self::Split(_) => "split",
            Self::Parameter { axis, .. } => axis,
        }
    }

    /// The value that it asks for, as it is read.
    fn value(&self) -> String {
        match self {
            Self::HeldOut(text) | Self::Parameter { text, .. } => text.clone(),
            Self::Seed(seed) | Self::Split(seed) => seed.to_string(),
        }
    }

    fn is_met_by(&self, point: &Point) -> bool {
        match self {
            Self::HeldOut(label) => point.held_out_label() == *label,
            Self::Seed(seed) => point.seed == *seed,
            Self::Split(seed) => point.split_seed == *seed,
            Self::Parameter { axis, text, value } => match point.parameters.get(axis) {
                Some(Scalar::Text(held)) => held == text,
                held => held == Some(value),
            },
        }
    }

    /// The value of a trial on the axis.
    fn value_of(&self, point: &Point) -> Option<String> {
        Some(match self {
            Self::HeldOut(_) => point.held_out_label(),
            Self::Seed(_) => point.seed.to_string(),
            Self::Split(_) => point.split_seed.to_string(),
            Self::Parameter { axis, .. } => point.parameters.get(axis)?.to_string(),
        })
    }
}

/// The conditions of a filter that no trial meets, found by looking at all trials one by one.
#[derive(Clone, Debug)]
pub struct UnmetConditions(Vec<(Condition, Values)>);

/// Values in the order in which they were seen. There are no more than an axis may have.
#[derive(Clone, Debug, Default)]
struct Values {
    known: BTreeSet<String>,
    ordered: Vec<String>,
}

impl UnmetConditions {
    /// Before any trial was seen, every condition is unmet.
    pub fn of(filter: &Filter) -> Self {
        Self(filter.0.iter().map(|condition| (condition.clone(), Values::default())).collect())
    }

    /// Takes note of a trial.
    pub fn see(&mut self, point: &Point) {
        self.0.retain_mut(|(condition, values)| {
            if let Some(value) = condition.value_of(point)
                && values.known.insert(value.clone())
            {
                values.ordered.push(value);
            }
            !condition.is_met_by(point)
        });
    }

    /// Axis and value of each condition that none of them met, and the values that they have instead.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, String, &[String])> {
        self.0
            .iter()
            .map(|(condition, values)| (condition.axis(), condition.value(), values.ordered.as_slice()))
    }
}

impl Filter {
    /// Reads conditions joined by `and`.
    ///
    /// # Errors
    /// [`BadFilter`] names the condition.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        text.split(" and ").map(condition).collect::<Result<_, _>>().map(Self)
    }

    /// The trials with this value of a parameter.
    pub fn of_parameter(axis: &str, value: &Scalar) -> Self {
        Self(vec![Condition::Parameter {
            axis: axis.to_owned(),
            text: value.to_string(),
            value: value.clone(),
        }])
    }

    /// The filter without its conditions on an axis, and the values that those ask for.
    pub fn split_off(&self, axis: &str) -> (Self, Vec<String>) {
        let (apart, rest): (Vec<_>, Vec<_>) =
            self.0.iter().cloned().partition(|condition| condition.axis() == axis);
        (Self(rest), apart.iter().map(Condition::value).collect())
    }

    /// The axes that it has conditions on.
    pub fn axes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Condition::axis)
    }

    /// Whether a trial meets every condition. Numbers compare as numbers: `lr=0.001` meets 1e-3.
    pub fn matches(&self, point: &Point) -> bool {
        self.0.iter().all(|condition| condition.is_met_by(point))
    }

    /// Whether a value on one axis meets the conditions on that axis; of the point, only that axis is looked at.
    pub fn allows(&self, axis: &str, point: &Point) -> bool {
        self.0.iter().filter(|condition| condition.axis() == axis).all(|condition| condition.is_met_by(point))
    }

    /// Refuses conditions on axes that a trial of the sweep does not have, which would silently mean no trial.
    ///
    /// # Errors
    /// [`UnknownAxis`] names the axis and those that there are.
    pub fn check(&self, example: &Point) -> Result<(), UnknownAxis> {
        let known: Vec<&str> =
            example.parameters.keys().map(String::as_str).chain(["held_out", "seed", "split"]).collect();
        match self.axes().find(|axis| !known.contains(axis)) {
            Some(axis) => Err(UnknownAxis { axis: axis.to_owned(), known: known.join(", ") }),
            None => Ok(()),
        }
    }
}

fn condition(text: &str) -> Result<Condition, BadFilter> {
    let bad = || BadFilter { condition: text.trim().to_owned() };
    let (axis, value) = text.split_once('=').ok_or_else(bad)?;
    let (axis, text) = (axis.trim(), value.trim());
    if text.ends_with(" and") || axis.is_empty() || text.is_empty() {
        return Err(bad());
    }
    let seed = || text.parse().map_err(|_| bad());
    Ok(match axis {
        "held_out" => Condition::HeldOut(text.to_owned()),
        "seed" => Condition::Seed(seed()?),
        "split" => Condition::Split(seed()?),
        _ => Condition::Parameter { axis: axis.to_owned(), text: text.to_owned(), value: Scalar::read(text) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::tests::example;

    #[test]
    fn all_conditions_must_hold_and_numbers_compare_as_numbers() {
        let point = example().point;
        for (text, expected) in [
            ("dropout=0.9", true),
            ("lr = 0.001 and held_out = sketch", true),
            ("lr=1e-3 and seed=1", false),
            ("held_out=photo", false),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.matches(&point), expected, "{text}");
            assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
            let json = serde_json::to_string(&filter).unwrap();
            assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter, "{json}");
        }
        let filter = Filter::of_parameter("lr", &Scalar::Number(1e-3.into()));
        assert!(filter.matches(&point) && Filter::parse("lr=1e-3").unwrap() == filter);
    }

    #[test]
    fn texts_that_look_like_numbers_are_met_as_texts() {
        let mut point = example().point;
        point.held_out = vec!["007".into()];
        point.parameters.insert("layers".into(), Scalar::Text("1".into()));
        point.parameters.insert("amp".into(), Scalar::Text("true".into()));
        point.seed = (1 << 53) + 1;
        let filter =
            Filter::parse("held_out=007 and layers=1 and amp=true and seed=9007199254740993").unwrap();
        assert!(filter.matches(&point));
        point.seed = 1 << 53;
        assert!(!filter.matches(&point));
    }

    #[test]
    fn a_value_that_no_trial_has_is_named_with_those_that_there_are() {
        let filter = Filter::parse("dropout=0.3 and held_out=sketch and seed=0").unwrap();
        let mut unmet = UnmetConditions::of(&filter);
        for (dropout, seed) in [(0.9, 0), (0.5, 1), (0.9, 2)] {
            let mut point = example().point;
            point.parameters.insert("dropout".into(), Scalar::Number(dropout.into()));
            point.seed = seed;
            unmet.see(&point);
        }
        let found: Vec<_> = unmet.conditions().collect();
        assert_eq!(found, [("dropout", "0.3".to_owned(), ["0.9".to_owned(), "0.5".to_owned()].as_slice())]);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for bad in ["", "dropout", "seed=x", "held_out=", "dropout=0.9 and"] {
            let error = Filter::parse(bad).unwrap_err().to_string();
            assert!(!error.contains('\n') && error.contains("AXIS=VALUE"), "{error}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Filter>(&json).is_err(), "{bad}");
        }
        let error = Filter::parse("steps=3").unwrap().check(&example().point).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"steps\" is not an axis of this sweep; its axes are dropout, head_lr_factor, lr, weight_decay, held_out, seed, split"
        );
    }
}
