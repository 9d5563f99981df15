//! From records to the numbers of a table: cells of rows (axes) and columns (held-out domains), and a mean per row.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{Point, Work};

use crate::axis::{Axis, AxisValue, parameter_names};
use crate::measure::{Measured, Meter, OodSplit, Pairs};
use crate::statistics::Estimate;

/// What is asked of a sweep's records.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How the step within a run is chosen.
    pub selection: Selection,
    /// The model of the trajectory that is judged.
    pub method: Method,
    /// The axes that make rows; axes not named are averaged. Empty: every parameter that the sweep varies, or
    /// else dropout, or else nothing, which makes one row.
    pub by: Vec<Axis>,
    /// Of the settings that a row holds, take the best by what the selection method reads, for each held-out domain and pair of seeds
    /// (DomainBed's way), instead of the mean over all (the paper's).
    pub best: bool,
    /// The images on which o.o.d. accuracy is measured; none: what suits the dataset ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
}

impl Default for Question {
    fn default() -> Self {
        Self { selection: Selection::Iid, method: Method::Plain, by: Vec::new(), best: false, ood_split: None }
    }
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
    /// What is averaged.
    pub(crate) values: Vec<Measured>,
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
    /// What is averaged.
    pub(crate) values: Vec<Measured>,
    /// How many replicates the sweep plans.
    pub(crate) replicates: usize,
}

/// The answer to a [`Question`]. Serialises to the JSON of `sortie results --json`; nothing is rounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was chosen.
    pub selection: Selection,
    /// The model of the trajectory that was judged.
    pub method: Method,
    /// Whether the best setting was taken instead of the mean over settings; cells then count pairs of seeds, not trials.
    pub best: bool,
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
    /// Trials that a user called off; in no mean.
    pub cancelled: usize,
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

/// Why there are no results.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultsError {
    /// Results compare held-out domains, and there are none.
    #[error("sweep {sweep} holds out no domain, so it has no o.o.d. results; `sortie trials {sweep}` lists its trials")]
    NoDomain {
        /// The sweep.
        sweep: String,
    },
    /// Rows are asked for by an axis that no trial has.
    #[error("sweep {sweep} has no axis {axis:?} to make rows of; allowed: {}", known.join(", "))]
    NoAxis {
        /// The sweep.
        sweep: String,
        /// What was asked for.
        axis: String,
        /// The axes that there are.
        known: Vec<String>,
    },
}

/// Groups, selects and averages. Trials with a pair of held-out domains count as planned and done, but make no cell: their only use
/// is to select.
///
/// # Errors
/// [`ResultsError`] when the sweep holds out no domain or lacks an axis that was asked for.
pub fn results(sweep: &str, work: &Work, records: &[TrialRecord], question: &Question) -> Result<Results, ResultsError> {
    if !records.is_empty() && records.iter().all(|record| record.point.held_out.is_empty()) {
        return Err(ResultsError::NoDomain { sweep: sweep.to_owned() });
    }
    let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(work));
    let (meter, pairs) = (Meter { selection: question.selection, method: question.method, ood_split }, Pairs::of(records));
    let axes = row_axes(sweep, records, &question.by)?;
    let domains = domains(work, records);
    let mut rows: BTreeMap<Vec<AxisValue>, Row> = BTreeMap::new();
    for record in records {
        let [held_out] = record.point.held_out.as_slice() else { continue };
        // All trials of a sweep have the same axes.
        let key = axes.iter().filter_map(|axis| axis.value(&record.point)).collect();
        rows.entry(key).or_default().entry(held_out).or_default().push(Unit::of(record, meter, &pairs));
    }
    if question.best {
        rows.values_mut().flat_map(Row::values_mut).for_each(take_best);
    }
    let (mut cells, mut means) = (Vec::new(), Vec::new());
    for (key, row) in &rows {
        let key: Vec<(Axis, AxisValue)> = axes.iter().cloned().zip(key.iter().cloned()).collect();
        cells.extend(domains.iter().filter_map(|domain| Some(cell(&key, domain, row.get(domain.as_str())?))));
        means.push(row_mean(&key, row));
    }
    let count = |state| records.iter().filter(|record| record.state == state).count();
    Ok(Results {
        sweep: sweep.to_owned(),
        selection: question.selection,
        method: question.method,
        best: question.best,
        ood_split,
        planned: records.len(),
        done: count(StateName::Succeeded),
        failed: count(StateName::Failed),
        diverged: count(StateName::Diverged),
        cancelled: count(StateName::Cancelled),
        cells,
        means,
        axes,
        domains,
    })
}

/// What a cell counts: a trial, or the best of several that share their seeds.
struct Unit<'a> {
    measured: Option<Measured>,
    /// By what the best is chosen.
    score: f64,
    done: bool,
    /// What tells it apart from the others of its cell.
    coordinates: (Option<&'a Parameters>, u64, u64),
}

impl<'a> Unit<'a> {
    fn of(record: &'a TrialRecord, meter: Meter, pairs: &Pairs<'_>) -> Self {
        let Point { parameters, seed, split_seed, .. } = &record.point;
        Self {
            measured: meter.measure(record, pairs),
            score: meter.select(record, pairs).map_or(f64::NAN, |selected| selected.score),
            done: record.state == StateName::Succeeded,
            coordinates: (Some(parameters), *seed, *split_seed),
        }
    }

    /// The better of two that share their seeds, the first of equals. As long as one is not done, nobody knows which it is.
    fn better(self, other: Self) -> Self {
        let (_, seed, split) = self.coordinates;
        let done = self.done && other.done;
        let measured = self.measured.zip(other.measured).map(|(own, others)| if other.score > self.score { others } else { own });
        Self { measured, score: self.score.max(other.score), done, coordinates: (None, seed, split) }
    }
}

fn take_best(units: &mut Vec<Unit<'_>>) {
    let mut best = BTreeMap::new();
    for unit in units.drain(..) {
        let (_, seed, split) = unit.coordinates;
        let unit = Unit { coordinates: (None, seed, split), ..unit };
        let better = match best.remove(&(seed, split)) {
            Some(known) => Unit::better(known, unit),
            None => unit,
        };
        best.insert((seed, split), better);
    }
    units.extend(best.into_values());
}

/// Units of a row by held-out domain.
type Row<'a> = BTreeMap<&'a str, Vec<Unit<'a>>>;

fn row_axes(sweep: &str, records: &[TrialRecord], by: &[Axis]) -> Result<Vec<Axis>, ResultsError> {
    let points = || records.iter().map(|record| &record.point);
    let parameters = parameter_names(points());
    let mut axes: Vec<Axis> = Vec::new();
    for axis in by {
        // Of a sweep without trials, nothing is known yet.
        if let Axis::Parameter(name) = axis
            && !records.is_empty()
            && !parameters.contains(name)
        {
            let known = parameters.iter().map(String::as_str).chain(["seed", "split"]).map(str::to_owned).collect();
            return Err(ResultsError::NoAxis { sweep: sweep.to_owned(), axis: name.clone(), known });
        }
        if !axes.contains(axis) {
            axes.push(axis.clone());
        }
    }
    if axes.is_empty() {
        axes = parameters.iter().map(|name| Axis::from(name.as_str())).filter(|axis| axis.varies(points())).collect();
    }
    if axes.is_empty() && parameters.iter().any(|name| Axis::from(name.as_str()) == Axis::dropout()) {
        axes.push(Axis::dropout());
    }
    Ok(axes)
}

/// The domains that some trial holds out alone, in the dataset's order; unknown ones, by name, last.
pub(crate) fn domains<'a>(work: &Work, records: impl IntoIterator<Item = &'a TrialRecord>) -> Vec<String> {
    let alone = records.into_iter().filter(|record| record.point.held_out.len() == 1);
    let mut domains: Vec<String> = alone.map(|record| record.point.held_out_label()).collect();
    let place = |domain: &String| work.domains().iter().position(|known| known == domain).unwrap_or(usize::MAX);
    domains.sort_by_cached_key(|domain| (place(domain), domain.clone()));
    domains.dedup();
    domains
}

fn estimates(measured: &[Measured]) -> (Estimate, Estimate) {
    let of = |value: fn(&Measured) -> f64| Estimate::of(&measured.iter().map(value).collect::<Vec<_>>());
    (of(|measured| measured.iid), of(|measured| measured.ood))
}

fn done(units: &[Unit<'_>]) -> usize {
    units.iter().filter(|unit| unit.done).count()
}

fn cell(row: &[(Axis, AxisValue)], domain: &str, units: &[Unit<'_>]) -> Cell {
    let measured: Vec<Measured> = units.iter().filter_map(|unit| unit.measured).collect();
    let (iid, ood) = estimates(&measured);
    Cell { row: row.to_vec(), held_out: domain.to_owned(), iid, ood, planned: units.len(), done: done(units), values: measured }
}

fn row_mean(key: &[(Axis, AxisValue)], row: &Row<'_>) -> Mean {
    let mut replicates: BTreeMap<(Option<&Parameters>, u64, u64), Vec<Measured>> = BTreeMap::new();
    for unit in row.values().flatten() {
        replicates.entry(unit.coordinates).or_default().extend(unit.measured);
    }
    let planned_replicates = replicates.len();
    // A sweep holds each point once, so a replicate with as many values as the row has domains has one of each.
    let complete: Vec<Measured> =
        replicates.into_values().filter(|domains| domains.len() == row.len()).map(|domains| over_domains(&domains)).collect();
    let (iid, ood) = estimates(&complete);
    let planned = row.values().map(Vec::len).sum();
    let done = row.values().map(|units| done(units)).sum();
    Mean { row: key.to_vec(), iid, ood, planned, done, values: complete, replicates: planned_replicates }
}

/// The accuracies of each trial with one held-out domain, in the order of the records; none of what has no result.
pub(crate) fn measured(work: &Work, records: &[TrialRecord], question: &Question) -> Vec<Option<Measured>> {
    let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(work));
    let (meter, pairs) = (Meter { selection: question.selection, method: question.method, ood_split }, Pairs::of(records));
    records.iter().map(|record| (record.point.held_out.len() == 1).then(|| meter.measure(record, &pairs)).flatten()).collect()
}

/// The unweighted mean over domains; there is at least one.
pub(crate) fn over_domains(domains: &[Measured]) -> Measured {
    let n = domains.len() as f64;
    let sum = |value: fn(&Measured) -> f64| domains.iter().map(value).sum::<f64>();
    Measured { iid: sum(|domain| domain.iid) / n, ood: sum(|domain| domain.ood) / n }
}

/// The name of a row's axis in JSON and CSV: its own, unless what follows in a cell has that name.
pub(crate) fn key(axis: &Axis) -> String {
    if TAKEN.contains(&axis.as_str()) { format!("parameter.{axis}") } else { axis.to_string() }
}

/// What a cell calls its own contents, in JSON or CSV.
const TAKEN: [&str; 10] = ["iid", "ood", "iid_mean", "iid_se", "iid_n", "ood_mean", "ood_se", "ood_n", "planned", "done"];

// Written by hand because the keys of a row depend on the question.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.row.len() + 5))?;
        for (axis, value) in &self.row {
            map.serialize_entry(&key(axis), value)?;
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
            map.serialize_entry(&key(axis), value)?;
        }
        map.serialize_entry("iid", &self.iid)?;
        map.serialize_entry("ood", &self.ood)?;
        map.serialize_entry("planned", &self.planned)?;
        map.serialize_entry("done", &self.done)?;
        map.end()
    }
}
