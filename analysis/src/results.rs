//! From records to the numbers of a table: cells of rows (axes) and columns (held-out domains), and a mean per row.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::combine::combine_of;
use sortie_core::job::StateName;
use sortie_core::metrics::{Method, Metric};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{MissingClasses, Work};

use crate::axis::{Axis, AxisValue};
use crate::chosen::{ChoiceAxes, Chosen};
use crate::collect::{Collector, PlainTrial, TrialSummary};
use crate::metric_spec::{MeasuredPair, MetricChoice, MetricSpec, OodSplit};
use crate::mixed::Mixed;
use crate::question::Question;
use crate::scale::Scale;
use crate::statistics::Estimate;
use crate::units::{Unit, take_best};

/// The trials of one row and one held-out domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The row: one value per axis of [`Results::axes`].
    pub row: Vec<(Axis, AxisValue)>,
    /// The column; none where the sweep holds out nothing.
    pub held_out: Option<String>,
    /// The i.i.d. value over the cell's done trials.
    pub iid: Estimate,
    /// The o.o.d. value over the cell's done trials; of no trial where the sweep holds out nothing.
    pub ood: Estimate,
    /// The number of trials planned in this cell.
    pub planned: usize,
    /// The number of these that succeeded.
    pub done: usize,
    /// The settings that were taken as the best, the most frequent first; empty if none was chosen.
    pub chosen: Vec<Chosen>,
    /// The number of trials with the values of this cell.
    pub(crate) measured: usize,
    /// The values that are averaged; none where the sweep holds out nothing.
    pub(crate) values: Vec<MeasuredPair>,
}

impl Cell {
    /// What identifies the cell.
    pub(crate) fn key(&self) -> CellKey<'_> {
        (&self.row, self.held_out.as_deref())
    }
}

/// A row's mean over its held-out domains. Only replicates (trials that differ in nothing but the held-out domain) that are done for every
/// domain are averaged, so that a domain with more finished trials does not shift the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    /// The row: one value per axis of [`Results::axes`].
    pub row: Vec<(Axis, AxisValue)>,
    /// The i.i.d. value over complete replicates.
    pub iid: Estimate,
    /// The o.o.d. value over complete replicates.
    pub ood: Estimate,
    /// The number of trials planned in this row.
    pub planned: usize,
    /// The number of these that succeeded.
    pub done: usize,
    /// The values that are averaged.
    pub(crate) values: Vec<MeasuredPair>,
    /// The number of planned replicates.
    pub(crate) replicates: usize,
}

/// The results for a [`Question`]. Serialises to the JSON of `sortie results --json`, unrounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// Whether the best setting was taken instead of the mean over settings; cells then count pairs of seeds, not trials.
    pub best: bool,
    /// The images on which o.o.d. accuracy was measured.
    pub ood_split: OodSplit,
    /// The metric; left out of JSON if it is the accuracy.
    #[serde(skip_serializing_if = "Metric::is_accuracy")]
    pub metric: Metric,
    /// The metric by which steps and settings were selected; left out of JSON if it is the one that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_by: Option<Metric>,
    /// Trials of the sweep, pairs of held-out domains included.
    pub planned: usize,
    /// Trials that succeeded.
    pub done: usize,
    /// Trials whose attempts are used up. They are in no mean.
    pub failed: usize,
    /// Trials whose loss became NaN or infinite. They are in no mean.
    pub diverged: usize,
    /// Trials that a user cancelled. They are in no mean.
    pub cancelled: usize,
    /// Whether domains may lack classes, so that their accuracies are not of the same task; left out of JSON where they may not.
    #[serde(skip_serializing_if = "MissingClasses::is_refuse")]
    pub missing_classes: MissingClasses,
    /// The steps at which combinations of several trials were evaluated; left out of JSON where there are none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub combined_steps: BTreeSet<u64>,
    /// The planned cells, by row, then by held-out domain.
    pub cells: Vec<Cell>,
    /// One mean per row.
    pub means: Vec<Mean>,
    /// The axes that make rows.
    #[serde(skip)]
    pub axes: Vec<Axis>,
    /// The held-out domains that make columns, in the dataset's order.
    #[serde(skip)]
    pub domains: Vec<String>,
    /// Whether the sweep holds out no domain, so that there is one value for each row.
    #[serde(skip)]
    pub(crate) is_plain: bool,
    /// Whether columns are datasets instead of held-out domains.
    #[serde(skip)]
    pub(crate) of_datasets: bool,
}

impl Results {
    /// Whether trials succeeded, and none has the values that were asked for.
    pub fn is_unmeasured(&self) -> bool {
        self.done > 0 && self.cells.iter().all(|cell| cell.measured == 0)
    }

    /// How its values are written.
    pub(crate) fn scale(&self) -> Scale {
        let cells = self.cells.iter().flat_map(|cell| [cell.iid.mean, cell.ood.mean]);
        Scale::of(&self.metric, cells.flatten())
    }

    /// What is measured of its trials.
    pub(crate) fn spec(&self) -> MetricSpec {
        let Self { selection, method, ood_split, .. } = *self;
        MetricSpec { selection, method, ood_split, metrics: self.metrics() }
    }

    /// The metrics of the question.
    pub(crate) fn metrics(&self) -> MetricChoice {
        let shown = self.metric.clone();
        MetricChoice { selected_by: self.selected_by.clone().unwrap_or_else(|| shown.clone()), shown }
    }
}

/// Why there are no results.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultsError {
    /// The sweep holds out no domain.
    #[error(
        "sweep {sweep} holds out no domain, so it has no o.o.d. results; `sortie results {sweep}` has its table"
    )]
    NoDomain {
        /// The sweep.
        sweep: String,
    },
    /// Trials of different sweeps would be averaged.
    #[error(transparent)]
    Mixed(#[from] Mixed),
    /// The usual split of the held-out domain is not the same for all datasets.
    #[error(
        "o.o.d. accuracy is measured on different splits of the held-out domain by default ({datasets}), and one table has one: pass --ood-split"
    )]
    Splits {
        /// The datasets with their splits.
        datasets: String,
    },
    /// Some sweeps hold out domains and others none.
    #[error("sweep {plain} holds out no domain, and others do: they have no table in common")]
    Unlike {
        /// A sweep that holds out none.
        plain: String,
    },
    /// No trial has the axis of the rows.
    #[error("sweep {sweep} has no axis {axis:?} to make rows of; allowed: {}", known.join(", "))]
    NoAxis {
        /// The sweep.
        sweep: String,
        /// The axis.
        axis: String,
        /// The axes of the sweep.
        known: Vec<String>,
    },
}

/// Fails if o.o.d. accuracy is not measured on the same split of the held-out domain on all of these datasets.
pub(crate) fn one_split<'a>(
    datasets: impl Iterator<Item = (&'a str, OodSplit)> + Clone,
) -> Result<(), ResultsError> {
    let mut splits = datasets.clone().map(|(_, split)| split);
    let first = splits.next();
    if splits.all(|split| Some(split) == first) {
        return Ok(());
    }
    let each = datasets.map(|(dataset, split)| format!("{dataset}: {split}"));
    Err(ResultsError::Splits { datasets: each.collect::<Vec<_>>().join(", ") })
}

/// The results of records in memory; [`Collector`] computes the same from a stream.
///
/// # Errors
/// As [`Collector::results`].
pub fn results(
    sweep: &str,
    work: &Work,
    records: &[TrialRecord],
    question: &Question,
) -> Result<Results, ResultsError> {
    Collector::of(sweep, work, records, question).results()
}

impl Collector {
    /// Groups and averages the trials in rows by these axes.
    ///
    /// # Errors
    /// [`ResultsError::Mixed`] where trials of different sweeps would be averaged.
    pub(crate) fn results_by(mut self, axes: Vec<Axis>) -> Result<Results, ResultsError> {
        self.settle();
        self.check_sweeps(&axes)?;
        if self.holds_out_nothing() {
            return Ok(self.plain_results(axes));
        }
        let (domains, best) = (self.domains(), self.question.best);
        let open = if best { ChoiceAxes::of(self.settings.values(), &axes) } else { ChoiceAxes::default() };
        let mut rows: BTreeMap<RowKey, Vec<&TrialSummary>> = BTreeMap::new();
        for trial in &self.trials {
            let row = self.row(&axes, trial.setting, (trial.seed, trial.split_seed));
            rows.entry(row).or_default().push(trial);
        }
        let ranks = self.settings.ranks();
        let (mut cells, mut means) = (Vec::new(), Vec::new());
        for ((_, values), trials) in rows {
            let key: Vec<(Axis, AxisValue)> = axes.iter().cloned().zip(values).collect();
            let mut row = CellUnits::new();
            for trial in trials {
                row.entry(self.names.value(trial.domain)).or_default().push(Unit::of(trial, &ranks));
            }
            for units in row.values_mut() {
                if best {
                    take_best(units);
                }
                // Sums of floats depend on the order, and the order of arrival is arbitrary.
                units.sort_by_key(|unit| unit.coordinates);
            }
            cells.extend(domains.iter().filter_map(|domain| {
                let units = row.get(domain.as_str())?;
                let done = units.iter().filter(|unit| unit.measured.is_some());
                let chosen = open.chosen(done.map(|unit| self.settings.value(unit.setting)));
                Some(Cell { chosen, ..cell(&key, domain, units) })
            }));
            means.push(row_mean(&key, &row, domains.len()));
        }
        Ok(self.assemble(axes, domains, cells, means))
    }

    /// The results of a sweep without held-out domains: one cell for each row.
    fn plain_results(self, axes: Vec<Axis>) -> Results {
        let ranks = self.settings.ranks();
        let best = self.question.best;
        let open = if best { ChoiceAxes::of(self.settings.values(), &axes) } else { ChoiceAxes::default() };
        let mut rows: BTreeMap<RowKey, Vec<Unit<f64>>> = BTreeMap::new();
        for trial in &self.plain {
            let PlainTrial { setting, state, seed, split_seed, score, value, sweeps: _ } = *trial;
            rows.entry(self.row(&axes, setting, (seed, split_seed))).or_default().push(Unit {
                measured: value,
                score,
                done: state == StateName::Succeeded,
                setting,
                coordinates: (Some(ranks[setting as usize]), seed, split_seed),
            });
        }
        let (mut cells, mut means) = (Vec::new(), Vec::new());
        for ((_, values), mut units) in rows {
            if best {
                take_best(&mut units);
            }
            units.sort_by_key(|unit| unit.coordinates);
            let row: Vec<(Axis, AxisValue)> = axes.iter().cloned().zip(values).collect();
            let chosen = open.chosen(
                units
                    .iter()
                    .filter(|unit| unit.measured.is_some())
                    .map(|unit| self.settings.value(unit.setting)),
            );
            let values: Vec<f64> = units.iter().filter_map(|unit| unit.measured).collect();
            let (iid, ood) = (Estimate::of(&values), Estimate::of(&[]));
            let (planned, done) = (units.len(), done(&units));
            cells.push(Cell {
                row: row.clone(),
                held_out: None,
                iid,
                ood,
                planned,
                done,
                chosen,
                measured: iid.n,
                values: Vec::new(),
            });
            means.push(Mean { row, iid, ood, planned, done, values: Vec::new(), replicates: planned });
        }
        self.assemble(axes, Vec::new(), cells, means)
    }

    /// The key of a trial's row. Combined trials come last.
    pub(crate) fn row(&self, axes: &[Axis], setting: u32, (seed, split_seed): (u64, u64)) -> RowKey {
        let parameters = self.settings.value(setting);
        let values = axes.iter().map(|axis| axis.of(parameters, seed, split_seed)).collect();
        (combine_of(parameters).is_some(), values)
    }

    fn assemble(self, axes: Vec<Axis>, domains: Vec<String>, cells: Vec<Cell>, means: Vec<Mean>) -> Results {
        Results {
            is_plain: cells.iter().any(|cell| cell.held_out.is_none()),
            of_datasets: false,
            selection: self.question.selection,
            method: self.question.method,
            best: self.question.best,
            ood_split: self.spec.ood_split,
            planned: self.total(),
            done: self.count(StateName::Succeeded),
            failed: self.count(StateName::Failed),
            diverged: self.count(StateName::Diverged),
            cancelled: self.count(StateName::Cancelled),
            metric: self.question.metrics.shown.clone(),
            selected_by: Some(self.question.metrics)
                .filter(MetricChoice::selects_by_another)
                .map(|metrics| metrics.selected_by),
            sweep: self.sweep,
            missing_classes: self.missing_classes,
            combined_steps: self.combined_steps,
            cells,
            means,
            axes,
            domains,
        }
    }
}

/// Whether a row is of combined trials, and its values.
pub(crate) type RowKey = (bool, Vec<AxisValue>);

/// Units of a row by held-out domain.
type CellUnits<'a> = BTreeMap<&'a str, Vec<Unit<MeasuredPair>>>;

fn estimates(measured: &[MeasuredPair]) -> (Estimate, Estimate) {
    let of = |value: fn(&MeasuredPair) -> f64| Estimate::of(&measured.iter().map(value).collect::<Vec<_>>());
    (of(|measured| measured.iid), of(|measured| measured.ood))
}

fn done<M>(units: &[Unit<M>]) -> usize {
    units.iter().filter(|unit| unit.done).count()
}

fn cell(row: &[(Axis, AxisValue)], domain: &str, units: &[Unit<MeasuredPair>]) -> Cell {
    let measured: Vec<MeasuredPair> = units.iter().filter_map(|unit| unit.measured).collect();
    let (iid, ood) = estimates(&measured);
    Cell {
        row: row.to_vec(),
        held_out: Some(domain.to_owned()),
        iid,
        ood,
        planned: units.len(),
        done: done(units),
        chosen: Vec::new(),
        measured: measured.len(),
        values: measured,
    }
}

fn row_mean(key: &[(Axis, AxisValue)], row: &CellUnits<'_>, domains: usize) -> Mean {
    let mut replicates: BTreeMap<(Option<u32>, u64, u64), Vec<MeasuredPair>> = BTreeMap::new();
    for unit in row.values().flatten() {
        replicates.entry(unit.coordinates).or_default().extend(unit.measured);
    }
    let planned_replicates = replicates.len();
    // Each point is in the sweep once, so a replicate with as many values as there are domains has one for each domain. A combination of
    // some domains only has fewer, and no mean that is comparable with the others.
    let complete: Vec<MeasuredPair> = replicates
        .into_values()
        .filter(|values| values.len() == domains)
        .map(|values| over_domains(&values))
        .collect();
    let (iid, ood) = estimates(&complete);
    let planned = row.values().map(Vec::len).sum();
    let done = row.values().map(|units| done(units)).sum();
    Mean { row: key.to_vec(), iid, ood, planned, done, values: complete, replicates: planned_replicates }
}

/// The unweighted mean over domains; there is at least one.
pub(crate) fn over_domains(domains: &[MeasuredPair]) -> MeasuredPair {
    let n = domains.len() as f64;
    let sum = |value: fn(&MeasuredPair) -> f64| domains.iter().map(value).sum::<f64>();
    MeasuredPair { iid: sum(|domain| domain.iid) / n, ood: sum(|domain| domain.ood) / n }
}

/// The key of a cell: its row and its held-out domain.
pub(crate) type CellKey<'a> = (&'a [(Axis, AxisValue)], Option<&'a str>);

/// The name of a row's axis in JSON and CSV. It has a prefix if a field of a cell has the same name.
pub(crate) fn key(axis: &Axis) -> String {
    if TAKEN.contains(&axis.as_str()) { format!("parameter.{axis}") } else { axis.to_string() }
}

/// The names of a cell's fields in JSON or CSV.
const TAKEN: [&str; 11] =
    ["iid", "ood", "iid_mean", "iid_se", "iid_n", "ood_mean", "ood_se", "ood_n", "planned", "done", "chosen"];

// `Serialize` is implemented by hand because the keys of a row depend on the question.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (axis, value) in &self.row {
            map.serialize_entry(&key(axis), value)?;
        }
        if let Some(held_out) = &self.held_out {
            map.serialize_entry("held_out", held_out)?;
        }
        map.serialize_entry("iid", &self.iid)?;
        if self.held_out.is_some() {
            map.serialize_entry("ood", &self.ood)?;
        }
        map.serialize_entry("planned", &self.planned)?;
        map.serialize_entry("done", &self.done)?;
        if !self.chosen.is_empty() {
            map.serialize_entry("chosen", &self.chosen)?;
        }
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
