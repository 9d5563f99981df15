//! The default axes of figures.

use std::collections::BTreeSet;

use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;

use super::settings::setting;
use crate::axis::{Axis, AxisValue, parameter_names};

/// The largest number of settings that a figure tells apart by default.
const SETTINGS_MAX: usize = 8;

/// The axis of box plots: dropout if it varies, else the first parameter that varies, else the first parameter.
pub(super) fn of_box(records: &[TrialRecord]) -> Axis {
    let varying = varying(records);
    let first = dropout_of(&varying).or(varying.first()).cloned();
    first.or_else(|| parameters(records).into_iter().next()).unwrap_or(Axis::Seed)
}

/// The axes of a grid: the two parameters with most values, the longer one first; none if fewer than two vary.
pub(super) fn of_grid(records: &[TrialRecord]) -> Option<Vec<Axis>> {
    let mut varying: Vec<(usize, Axis)> =
        varying(records).into_iter().map(|axis| (values(&axis, records), axis)).collect();
    // The sort is stable: of equals, the first in the order of tables.
    varying.sort_by_key(|(values, _)| std::cmp::Reverse(*values));
    varying.truncate(2);
    (varying.len() == 2).then(|| varying.into_iter().map(|(_, axis)| axis).collect())
}

/// The x axis of rates: dropout if it varies, else the first parameter of numbers that varies, else dropout or the first one of numbers; none
/// without such a parameter.
pub(crate) fn of_rates(records: &[TrialRecord]) -> Option<Axis> {
    let mut numeric = parameters(records);
    numeric.retain(|axis| is_numeric(axis, records));
    let varying: Vec<Axis> = numeric.iter().filter(|axis| values(axis, records) > 1).cloned().collect();
    let found = dropout_of(&varying).or(varying.first()).or(dropout_of(&numeric)).or(numeric.first());
    found.cloned()
}

/// The axes whose settings have a line each: all parameters that vary, if they make few settings, else dropout if it varies, else the
/// first that varies. Where none varies, dropout.
pub(super) fn of_curves(records: &[TrialRecord]) -> Vec<Axis> {
    let varying = varying(records);
    if !varying.is_empty() && count(&varying, records) <= SETTINGS_MAX {
        return varying;
    }
    let first = dropout_of(&varying).or(varying.first()).cloned();
    first.or_else(|| dropout_of(&parameters(records)).cloned()).into_iter().collect()
}

/// The axes whose settings are a group of points each: dropout if it varies, else the only parameter that varies, else dropout. The other
/// parameters are those over which a group chooses.
pub(super) fn of_scatter(records: &[TrialRecord]) -> Vec<Axis> {
    let varying = varying(records);
    let only = match varying.as_slice() {
        [only] if values(only, records) <= SETTINGS_MAX => Some(only),
        _ => None,
    };
    let first = dropout_of(&varying).or(only).cloned();
    first.or_else(|| dropout_of(&parameters(records)).cloned()).into_iter().collect()
}

/// The same for several sweeps: the axes of each.
pub(crate) fn of_scatters<'a>(sweeps: impl Iterator<Item = &'a [TrialRecord]>) -> Vec<Axis> {
    let mut by: Vec<Axis> = Vec::new();
    for axis in sweeps.flat_map(of_scatter) {
        if !by.contains(&axis) {
            by.push(axis);
        }
    }
    by
}

/// The names of all axes.
pub(super) fn names(records: &[TrialRecord]) -> Vec<String> {
    parameters(records).iter().chain([&Axis::Seed, &Axis::Split]).map(Axis::to_string).collect()
}

/// The names of the axes whose values are numbers.
pub(super) fn numeric_names(records: &[TrialRecord]) -> Vec<String> {
    let parameters = parameters(records).into_iter().filter(|axis| is_numeric(axis, records));
    parameters.chain([Axis::Seed, Axis::Split]).map(|axis| axis.to_string()).collect()
}

/// The number of values of an axis.
pub(super) fn values(axis: &Axis, records: &[TrialRecord]) -> usize {
    records.iter().filter_map(|record| axis.value(&record.point)).collect::<BTreeSet<_>>().len()
}

/// The number of different settings on these axes.
pub(super) fn count(axes: &[Axis], records: &[TrialRecord]) -> usize {
    records.iter().map(|record| setting(axes, &record.point)).collect::<BTreeSet<_>>().len()
}

/// Whether every trial has a number on it.
pub(super) fn is_numeric(axis: &Axis, records: &[TrialRecord]) -> bool {
    records.iter().all(|record| axis.value(&record.point).as_ref().and_then(as_number).is_some())
}

/// The number that a value is.
pub(super) fn as_number(value: &AxisValue) -> Option<f64> {
    match value {
        AxisValue::Scalar(Scalar::Number(number)) => Some(number.get()),
        AxisValue::Whole(whole) => Some(*whole as f64),
        AxisValue::Scalar(_) | AxisValue::Absent => None,
    }
}

/// The parameters in which the trials differ.
fn varying(records: &[TrialRecord]) -> Vec<Axis> {
    let mut varying = parameters(records);
    varying.retain(|axis| values(axis, records) > 1);
    varying
}

fn dropout_of(axes: &[Axis]) -> Option<&Axis> {
    axes.iter().find(|axis| **axis == Axis::dropout())
}

fn parameters(records: &[TrialRecord]) -> Vec<Axis> {
    parameter_names(records.iter().map(|record| &record.point)).into_iter().map(Axis::Parameter).collect()
}
