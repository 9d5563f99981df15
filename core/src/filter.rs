//! `--where 'dropout=0.9 and held_out=sketch'`: which trials a command means.

use crate::trial::Point;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Number { axis: &'static str, value: f64 },
    HeldOut(String),
}

/// A filter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the condition {condition:?}: write AXIS=VALUE, joined by ' and ', with an axis of {}", AXES.join(", "))]
pub struct BadFilter {
    condition: String,
}

const AXES: &[&str] = &["dropout", "lr", "weight_decay", "head_lr_factor", "held_out", "seed", "split"];

impl Filter {
    /// Reads conditions joined by `and`.
    ///
    /// # Errors
    /// [`BadFilter`] names the condition.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        text.split(" and ").map(condition).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a trial meets every condition. Numbers compare as numbers: `lr=0.001` meets 1e-3.
    pub fn matches(&self, point: &Point) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Number { axis, value } => number(point, axis) == Some(*value),
            Condition::HeldOut(label) => point.held_out_label() == *label,
        })
    }
}

fn number(point: &Point, axis: &str) -> Option<f64> {
    Some(match axis {
        "dropout" => point.dropout,
        "lr" => point.lr,
        "weight_decay" => point.weight_decay,
        "head_lr_factor" => point.head_lr_factor,
        "seed" => point.seed as f64,
        "split" => point.split_seed as f64,
        _ => return None,
    })
}

fn condition(text: &str) -> Result<Condition, BadFilter> {
    let bad = || BadFilter { condition: text.trim().to_owned() };
    let (axis, value) = text.split_once('=').ok_or_else(bad)?;
    let (axis, value) = (axis.trim(), value.trim());
    let axis = AXES.iter().copied().find(|known| *known == axis).ok_or_else(bad)?;
    if axis == "held_out" {
        return if value.is_empty() { Err(bad()) } else { Ok(Condition::HeldOut(value.to_owned())) };
    }
    value.parse().map(|value| Condition::Number { axis, value }).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::tests::example;

    #[test]
    fn all_conditions_must_hold_and_numbers_compare_as_numbers() {
        let point = example().point;
        for (text, expected) in
            [("dropout=0.9", true), ("lr = 0.001 and held_out = sketch", true), ("lr=1e-3 and seed=1", false), ("held_out=photo", false)]
        {
            assert_eq!(Filter::parse(text).unwrap().matches(&point), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for bad in ["", "dropout", "dropout=x", "steps=3", "held_out=", "dropout=0.9 and"] {
            let error = Filter::parse(bad).unwrap_err().to_string();
            assert!(!error.contains('\n') && error.contains("dropout, lr"), "{error}");
        }
    }
}
