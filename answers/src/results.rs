//! From records to the numbers of a table: cells of rows (axes) and columns (held-out domains), and a mean per row.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{Point, Settings};

use crate::axis::{Axis, AxisValue};
use crate::measure::{Measured, OodSplit, measure};
use crate::statistics::Estimate;

/// What is asked of a sweep's records.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How the step within a run is chosen.
    pub selection: Selection,
    /// The axes that make rows; axes not named are averaged. Empty: every setting that the sweep varies, or else dropout.
    pub by: Vec<Axis>,
    /// The images on which o.o.d. accuracy is measured; none: what suits the dataset ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
}

/// The trials of one row and one held-out domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The row: one value per axis of [`Results::axes`].
    pub row: Vec<(Axis, AxisValue)>,
    /// The column.
    pub held_out: String,
    /// I.i.d. accuracy over the cell's done trials.
    pub iid: Estimate,
    /// O.o.d. accuracy over the cell's done trials.
    pub ood: Estimate,
    /// How many trials the sweep plans in this cell.
    pub planned: usize,
    /// How many of them succeeded.
    pub done: usize,
}

/// A row's mean over its held-out domains. The values averaged are replicates (equal in everything but the held-out domain) that are
/// done for every domain of the row, so that a domain that happens to be ahead does not shift the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    /// The row: one value per axis of [`Results::axes`].
    pub row: Vec<(Axis, AxisValue)>,
    /// I.i.d. accuracy over complete replicates.
    pub iid: Estimate,
    /// O.o.d. accuracy over complete replicates.
    pub ood: Estimate,
    /// How many trials the sweep plans in this row.
    pub planned: usize,
    /// How many of them succeeded.
    pub done: usize,
}

/// The answer to a [`Question`]. Serialises to the JSON of `sortie results --json`; nothing is rounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was chosen.
    pub selection: Selection,
    /// The images on which o.o.d. accuracy was measured.
    pub ood_split: OodSplit,
    /// Trials of the sweep, pairs of held-out domains included.
    pub planned: usize,
    /// Trials that succeeded.
    pub done: usize,
    /// Trials whose attempts are used up; in no mean.
    pub failed: usize,
    /// Trials whose loss stopped being a number; in no mean.
    pub diverged: usize,
    /// The cells that the sweep plans, by row, then by held-out domain.
    pub cells: Vec<Cell>,
    /// One mean per row.
    pub means: Vec<Mean>,
    /// The axes that make rows.
    #[serde(skip)]
    pub axes: Vec<Axis>,
    /// The held-out domains that make columns, in the dataset's order.
    #[serde(skip)]
    pub domains: Vec<String>,
}

/// Groups, selects and averages. Trials with a pair of held-out domains count as planned and done, but make no cell: their only use
/// is to select.
pub fn results(sweep: &str, settings: &Settings, records: &[TrialRecord], question: &Question) -> Results {
    let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(settings));
    let axes = row_axes(records, &question.by);
    let domains = domains(settings, records);
    let mut rows: BTreeMap<Vec<AxisValue>, Row> = BTreeMap::new();
    for record in records {
        let [held_out] = record.point.held_out.as_slice() else { continue };
        let key = axes.iter().map(|axis| axis.value(&record.point)).collect();
        let trial = Trial { record, measured: measure(record, question.selection, ood_split) };
        rows.entry(key).or_default().entry(held_out).or_default().push(trial);
    }
    let (mut cells, mut means) = (Vec::new(), Vec::new());
    for (key, row) in &rows {
        let key: Vec<(Axis, AxisValue)> = axes.iter().copied().zip(key.iter().copied()).collect();
        cells.extend(domains.iter().filter_map(|domain| Some(cell(&key, domain, row.get(domain.as_str())?))));
        means.push(row_mean(&key, row));
    }
    let count = |state| records.iter().filter(|record| record.state == state).count();
    Results {
        sweep: sweep.to_owned(),
        selection: question.selection,
        ood_split,
        planned: records.len(),
        done: count(StateName::Succeeded),
        failed: count(StateName::Failed),
        diverged: count(StateName::Diverged),
        cells,
        means,
        axes,
        domains,
    }
}

struct Trial<'a> {
    record: &'a TrialRecord,
    measured: Option<Measured>,
}

/// Trials of a row by held-out domain.
type Row<'a> = BTreeMap<&'a str, Vec<Trial<'a>>>;

fn row_axes(records: &[TrialRecord], by: &[Axis]) -> Vec<Axis> {
    let varies = |axis: &Axis| records.iter().map(|record| axis.value(&record.point)).collect::<BTreeSet<_>>().len() > 1;
    let mut axes: Vec<Axis> = Vec::new();
    for &axis in by {
        if !axes.contains(&axis) {
            axes.push(axis);
        }
    }
    if axes.is_empty() {
        axes = Axis::SETTINGS.into_iter().filter(varies).collect();
    }
    if axes.is_empty() {
        axes.push(Axis::Dropout);
    }
    axes
}

/// The domains that some trial holds out alone, in the dataset's order; unknown ones, by name, last.
pub(crate) fn domains(settings: &Settings, records: &[TrialRecord]) -> Vec<String> {
    let mut domains: Vec<String> =
        records.iter().filter(|record| record.point.held_out.len() == 1).map(|record| record.point.held_out_label()).collect();
    domains.sort_by_cached_key(|domain| (settings.dataset.domain_index(domain).unwrap_or(usize::MAX), domain.clone()));
    domains.dedup();
    domains
}

fn estimates(measured: &[Measured]) -> (Estimate, Estimate) {
    let of = |value: fn(&Measured) -> f64| Estimate::of(&measured.iter().map(value).collect::<Vec<_>>());
    (of(|measured| measured.iid), of(|measured| measured.ood))
}

fn done(trials: &[Trial<'_>]) -> usize {
    trials.iter().filter(|trial| trial.record.state == StateName::Succeeded).count()
}

fn cell(row: &[(Axis, AxisValue)], domain: &str, trials: &[Trial<'_>]) -> Cell {
    let measured: Vec<Measured> = trials.iter().filter_map(|trial| trial.measured).collect();
    let (iid, ood) = estimates(&measured);
    Cell { row: row.to_vec(), held_out: domain.to_owned(), iid, ood, planned: trials.len(), done: done(trials) }
}

fn row_mean(key: &[(Axis, AxisValue)], row: &Row<'_>) -> Mean {
    let mut replicates: BTreeMap<Vec<AxisValue>, Vec<Measured>> = BTreeMap::new();
    for trial in row.values().flatten() {
        if let Some(measured) = trial.measured {
            replicates.entry(coordinates(&trial.record.point)).or_default().push(measured);
        }
    }
    // A sweep holds each point once, so a replicate with as many values as the row has domains has one of each.
    let complete: Vec<Measured> =
        replicates.into_values().filter(|domains| domains.len() == row.len()).map(|domains| over_domains(&domains)).collect();
    let (iid, ood) = estimates(&complete);
    let planned = row.values().map(Vec::len).sum();
    Mean { row: key.to_vec(), iid, ood, planned, done: row.values().map(|trials| done(trials)).sum() }
}

/// Everything that tells trials apart but the held-out domain.
fn coordinates(point: &Point) -> Vec<AxisValue> {
    Axis::ALL.iter().map(|axis| axis.value(point)).collect()
}

/// The unweighted mean over domains; there is at least one.
pub(crate) fn over_domains(domains: &[Measured]) -> Measured {
    let n = domains.len() as f64;
    let sum = |value: fn(&Measured) -> f64| domains.iter().map(value).sum::<f64>();
    Measured { iid: sum(|domain| domain.iid) / n, ood: sum(|domain| domain.ood) / n }
}

// Written by hand because the keys of a row depend on the question.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.row.len() + 5))?;
        for (axis, value) in &self.row {
            map.serialize_entry(axis, value)?;
        }
        map.serialize_entry("held_out", &self.held_out)?;
        map.serialize_entry("iid", &self.iid)?;
        map.serialize_entry("ood", &self.ood)?;
        map.serialize_entry("planned", &self.planned)?;
        map.serialize_entry("done", &self.done)?;
        map.end()
    }
}

impl Serialize for Mean {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.row.len() + 4))?;
        for (axis, value) in &self.row {
            map.serialize_entry(axis, value)?;
        }
        map.serialize_entry("iid", &self.iid)?;
        map.serialize_entry("ood", &self.ood)?;
        map.serialize_entry("planned", &self.planned)?;
        map.serialize_entry("done", &self.done)?;
        map.end()
    }
}
