//! An axis of the grid: a list varies, a scalar is fixed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameters::Scalar;

/// The values of one axis, in the order of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredAxis", into = "StoredAxis")]
pub struct Axis {
    /// At least one value, all different.
    pub values: Vec<Scalar>,
    /// Whether the file gave a scalar, which a later submission may not change.
    pub fixed: bool,
}

/// An axis as it is stored: numbers by their values, and beside them what was written for them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAxis {
    values: Vec<Scalar>,
    fixed: bool,
    /// For each value; nothing for an axis that no program reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    written: Vec<Option<String>>,
}

impl From<StoredAxis> for Axis {
    fn from(StoredAxis { mut values, fixed, written }: StoredAxis) -> Self {
        for (value, text) in values.iter_mut().zip(written) {
            if let Some(text) = text {
                *value = value.clone().with_written(&text);
            }
        }
        Self { values, fixed }
    }
}

impl From<Axis> for StoredAxis {
    fn from(Axis { values, fixed }: Axis) -> Self {
        let written = |value: &Scalar| value.written().map(str::to_owned);
        let any = values.iter().any(|value| value.written().is_some());
        let written = if any { values.iter().map(written).collect() } else { Vec::new() };
        Self { values, fixed, written }
    }
}

impl Axis {
    /// An axis that was given no value in the file.
    pub(super) fn fixed(value: Scalar) -> Self {
        Self { values: vec![value], fixed: true }
    }

    /// The axis with the values of both; none when a fixed value changed.
    pub(super) fn grown_by(&self, new: &Self) -> Option<Self> {
        if new.fixed && !new.values.iter().all(|value| self.values.contains(value)) {
            return None;
        }
        Some(Self { values: union(&self.values, &new.values), fixed: self.fixed && new.fixed })
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fixed, self.values.as_slice()) {
            (true, [value]) => value.fmt(f),
            (_, values) => {
                let values: Vec<String> = values.iter().map(Scalar::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
        }
    }
}

/// The old values, then the new ones that are not among them.
pub(super) fn union<T: Clone + PartialEq>(old: &[T], new: &[T]) -> Vec<T> {
    let mut all = old.to_vec();
    for value in new {
        if !all.contains(value) {
            all.push(value.clone());
        }
    }
    all
}
