//! Trials of several sweeps: which of them may be averaged, and what tells the others apart.
//!
//! What stands in one row is what one sweep has there. Where two sweeps have different trials in a row, no table averages them.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::parameters::{Parameters, Scalar};

use crate::axis::{Axis, names_of};
use crate::shared::{DATASET, SWEEP, SharedSettings};

/// The sweeps of a trial, by their numbers.
pub(crate) type SweepSet = BTreeSet<usize>;

/// Two sweeps whose different trials would be averaged, and what tells them apart, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mixed(String);

/// The sweeps that are read together, all on one dataset.
#[derive(Debug, Default)]
pub(crate) struct SweepGroup {
    /// Its name; empty if there is none.
    pub dataset: String,
    pub names: Vec<String>,
    pub shared: Vec<SharedSettings>,
    /// How each makes the method that is asked for: see [`crate::collect::makes`].
    pub makes: Vec<Option<String>>,
}

impl SweepGroup {
    /// Whether a sweep does not make the method that is asked for, and another one does.
    pub(crate) fn lacks_method(&self, sweep: usize) -> bool {
        let makes = |of: &Option<String>| of.as_ref().is_some_and(|how| !how.is_empty());
        self.makes[sweep].as_ref().is_some_and(String::is_empty) && self.makes.iter().any(makes)
    }
}

impl SweepGroup {
    /// Fails if a row has different trials of two sweeps. A row is what has the same values on these axes, a combination's name included.
    pub(crate) fn check<'a, R: Ord>(
        &self,
        axes: &[Axis],
        rows: impl Iterator<Item = (R, &'a Parameters, &'a SweepSet)>,
        name: impl Fn(&R) -> String,
    ) -> Result<(), Mixed> {
        if self.names.len() < 2 {
            return Ok(());
        }
        let mut trials: BTreeMap<R, BTreeMap<&SweepSet, BTreeSet<&Parameters>>> = BTreeMap::new();
        for (row, parameters, sweeps) in rows {
            trials.entry(row).or_default().entry(sweeps).or_default().insert(parameters);
        }
        for (row, sets) in &trials {
            // One sweep has all trials of the row.
            let has_all = |sweep: &usize| sets.keys().all(|set| set.contains(sweep));
            if (0..self.names.len()).any(|sweep| has_all(&sweep)) {
                continue;
            }
            return Err(self.mixed(axes, name(row), sets));
        }
        Ok(())
    }

    fn mixed(&self, axes: &[Axis], row: String, sets: &BTreeMap<&SweepSet, BTreeSet<&Parameters>>) -> Mixed {
        // There are two sets, neither of which is empty, that have no sweep in common or lack one of each other's.
        let first = sets.keys().flat_map(|set| set.iter()).next().copied().unwrap_or_default();
        let without = sets.keys().find(|set| !set.contains(&first));
        let second = without.and_then(|set| set.iter().next()).copied().unwrap_or_default();
        let of = |sweep: usize| -> BTreeSet<&Parameters> {
            sets.iter().filter(|(set, _)| set.contains(&sweep)).flat_map(|(_, all)| all).copied().collect()
        };
        let (one, other) = (of(first), of(second));
        let by = |axis: &str| {
            let all = axes.iter().map(Axis::as_str).chain([axis]);
            format!("--by {}", all.collect::<Vec<_>>().join(","))
        };
        let telling = self.telling(axes, (first, &one), (second, &other));
        let mut ways: Vec<String> = telling.as_deref().map(by).into_iter().collect();
        ways.push(by(SWEEP));
        let (first, second) = (&self.names[first], &self.names[second]);
        let dataset = if self.dataset.is_empty() { "the same data" } else { &self.dataset };
        let at = if row.is_empty() { String::new() } else { format!(" at {row}") };
        Mixed(format!(
            "sweeps {first} and {second} have different trials on {dataset}{at}, and trials of different sweeps are not averaged: tell them apart with {}",
            ways.join(" or ")
        ))
    }

    /// An axis on which the trials of the two sweeps have no value in common: a parameter, or else a setting.
    fn telling(
        &self,
        axes: &[Axis],
        (first, one): (usize, &BTreeSet<&Parameters>),
        (second, other): (usize, &BTreeSet<&Parameters>),
    ) -> Option<String> {
        let parameters = names_of(one.iter().chain(other).copied());
        let shared: BTreeSet<String> =
            self.shared.iter().flat_map(SharedSettings::names).map(str::to_owned).collect();
        let names = parameters.into_iter().chain(shared);
        let tells = |name: &String| {
            let values = |sweep: usize, trials: &BTreeSet<&Parameters>| -> BTreeSet<Option<Scalar>> {
                trials.iter().map(|all| self.shared[sweep].value(all, name)).collect()
            };
            values(first, one).is_disjoint(&values(second, other))
        };
        let is_new = |name: &String| {
            ![SWEEP, DATASET].contains(&name.as_str()) && !axes.iter().any(|axis| axis.as_str() == name)
        };
        names.into_iter().filter(is_new).find(tells)
    }
}

/// A row's values with their axes: `dropout 0.9, lr 1e-3`.
pub(crate) fn row_name<'a, V: ToString + 'a>(
    axes: &[Axis],
    values: impl IntoIterator<Item = &'a V>,
) -> String {
    let named = axes.iter().zip(values).map(|(axis, value)| format!("{axis} {}", value.to_string()));
    named.collect::<Vec<_>>().join(", ")
}
