//! The default axes of figures.

use std::collections::BTreeSet;

use sortie_core::record::TrialRecord;

use crate::axis::{Axis, parameter_names};

/// The axis of box plots: dropout if it varies, else the first parameter that varies, else the first parameter.
pub(super) fn of_box(records: &[TrialRecord]) -> Axis {
    let parameters = parameters(records);
    let varying: Vec<&Axis> = parameters.iter().filter(|axis| values(axis, records) > 1).collect();
    let dropout = varying.iter().find(|axis| ***axis == Axis::dropout());
    dropout.or(varying.first()).copied().or(parameters.first()).cloned().unwrap_or(Axis::Seed)
}

/// The axes of a grid: the two parameters with most values, the longer one first; none if fewer than two vary.
pub(super) fn of_grid(records: &[TrialRecord]) -> Option<Vec<Axis>> {
    let mut varying: Vec<(usize, Axis)> =
        parameters(records).into_iter().map(|axis| (values(&axis, records), axis)).collect();
    varying.retain(|(values, _)| *values > 1);
    // The sort is stable: of equals, the first in the order of tables.
    varying.sort_by_key(|(values, _)| std::cmp::Reverse(*values));
    varying.truncate(2);
    (varying.len() == 2).then(|| varying.into_iter().map(|(_, axis)| axis).collect())
}

/// The names of all axes.
pub(super) fn names(records: &[TrialRecord]) -> Vec<String> {
    parameters(records).iter().chain([&Axis::Seed, &Axis::Split]).map(Axis::to_string).collect()
}

/// The number of values of an axis.
pub(super) fn values(axis: &Axis, records: &[TrialRecord]) -> usize {
    records.iter().filter_map(|record| axis.value(&record.point)).collect::<BTreeSet<_>>().len()
}

fn parameters(records: &[TrialRecord]) -> Vec<Axis> {
    parameter_names(records.iter().map(|record| &record.point)).into_iter().map(Axis::Parameter).collect()
}
