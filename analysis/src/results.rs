//! From records to the numbers of a table: cells of rows (axes) and columns (held-out domains), and a mean per row.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::combine::{COMBINE, MEMBERS, combine_of};
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::Work;

use crate::axis::{Axis, AxisValue, names_of};
use crate::collect::{Collector, TrialSummary};
use crate::metric_spec::{AccuracyPair, OodSplit};
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
        Self {
            selection: Selection::Iid,
            method: Method::Plain,
            by: Vec::new(),
            best: false,
            ood_split: None,
        }
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
    pub(crate) values: Vec<AccuracyPair>,
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
    pub(crate) values: Vec<AccuracyPair>,
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
    #[error(
        "sweep {sweep} holds out no domain, so it has no o.o.d. results; `sortie trials {sweep}` lists its trials"
    )]
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

/// The results of records that lie there anyway: what [`Collector`] does for a stream of them.
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
    /// Groups and averages. Trials with a pair of held-out domains count as planned and done, but make no cell: their only use is to select.
    ///
    /// # Errors
    /// [`ResultsError`] when the sweep holds out no domain or lacks an axis that was asked for.
    pub fn results(mut self) -> Result<Results, ResultsError> {
        if self.holds_out_nothing() {
            return Err(ResultsError::NoDomain { sweep: self.sweep });
        }
        self.settle();
        let axes = self.row_axes()?;
        let (domains, best) = (self.domains(), self.question.best);
        // Combined trials come last, whatever their names are.
        let mut rows: BTreeMap<(bool, Vec<AxisValue>), Vec<&TrialSummary>> = BTreeMap::new();
        for trial in &self.trials {
            let parameters = self.settings.value(trial.setting);
            let values = axes.iter().map(|axis| axis.of(parameters, trial.seed, trial.split_seed)).collect();
            rows.entry((combine_of(parameters).is_some(), values)).or_default().push(trial);
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
                // Sums of floats depend on the order, and nobody can tell in which trials came.
                units.sort_by_key(|unit| unit.coordinates);
            }
            cells.extend(
                domains.iter().filter_map(|domain| Some(cell(&key, domain, row.get(domain.as_str())?))),
            );
            means.push(row_mean(&key, &row, domains.len()));
        }
        Ok(Results {
            selection: self.question.selection,
            method: self.question.method,
            best,
            ood_split: self.spec.ood_split,
            planned: self.total(),
            done: self.count(StateName::Succeeded),
            failed: self.count(StateName::Failed),
            diverged: self.count(StateName::Diverged),
            cancelled: self.count(StateName::Cancelled),
            sweep: self.sweep,
            cells,
            means,
            axes,
            domains,
        })
    }

    fn row_axes(&self) -> Result<Vec<Axis>, ResultsError> {
        let parameters = names_of(self.settings.values());
        let mut axes: Vec<Axis> = Vec::new();
        for axis in &self.question.by {
            // Of a sweep without trials, nothing is known yet.
            if let Axis::Parameter(name) = axis
                && self.total() > 0
                && !parameters.contains(name)
            {
                let known = parameters
                    .iter()
                    .map(String::as_str)
                    .chain(["seed", "split"])
                    .map(str::to_owned)
                    .collect();
                return Err(ResultsError::NoAxis { sweep: self.sweep.clone(), axis: name.clone(), known });
            }
            if !axes.contains(axis) {
                axes.push(axis.clone());
            }
        }
        let combined: Vec<Axis> =
            if self.has_combined() { vec![COMBINE.into(), MEMBERS.into()] } else { Vec::new() };
        if axes.is_empty() {
            // A trial that lacks an axis does not make it vary.
            let varies = |name: &String| {
                self.settings.values().filter_map(|setting| setting.get(name)).collect::<BTreeSet<_>>().len()
                    > 1
            };
            axes =
                parameters.iter().filter(|name| varies(name)).map(|name| Axis::from(name.as_str())).collect();
            axes.retain(|axis| !combined.contains(axis));
        }
        if axes.is_empty() && parameters.iter().any(|name| Axis::from(name.as_str()) == Axis::dropout()) {
            axes.push(Axis::dropout());
        }
        // What is combined is never averaged with what is not, nor with what is combined otherwise.
        axes.extend(combined.into_iter().filter(|axis| !axes.contains(axis)).collect::<Vec<_>>());
        Ok(axes)
    }
}

/// What a cell counts: a trial, or the best of several that share their seeds.
struct Unit {
    measured: Option<AccuracyPair>,
    /// By what the best is chosen.
    score: f64,
    done: bool,
    /// What tells it apart from the others of its cell: the setting, unless it is the best of several, and the seeds.
    coordinates: (Option<u32>, u64, u64),
}

impl Unit {
    fn of(trial: &TrialSummary, ranks: &[u32]) -> Self {
        let TrialSummary { setting, state, seed, split_seed, score, measured, .. } = *trial;
        Self {
            measured,
            score,
            done: state == StateName::Succeeded,
            coordinates: (Some(ranks[setting as usize]), seed, split_seed),
        }
    }

    /// The better of two that share their seeds, the first of equals. As long as one is not done, nobody knows which it is.
    fn better(self, other: Self) -> Self {
        let (_, seed, split) = self.coordinates;
        let done = self.done && other.done;
        let measured = self
            .measured
            .zip(other.measured)
            .map(|(own, others)| if other.score > self.score { others } else { own });
        Self { measured, score: self.score.max(other.score), done, coordinates: (None, seed, split) }
    }
}

fn take_best(units: &mut Vec<Unit>) {
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
type CellUnits<'a> = BTreeMap<&'a str, Vec<Unit>>;

fn estimates(measured: &[AccuracyPair]) -> (Estimate, Estimate) {
    let of = |value: fn(&AccuracyPair) -> f64| Estimate::of(&measured.iter().map(value).collect::<Vec<_>>());
    (of(|measured| measured.iid), of(|measured| measured.ood))
}

fn done(units: &[Unit]) -> usize {
    units.iter().filter(|unit| unit.done).count()
}

fn cell(row: &[(Axis, AxisValue)], domain: &str, units: &[Unit]) -> Cell {
    let measured: Vec<AccuracyPair> = units.iter().filter_map(|unit| unit.measured).collect();
    let (iid, ood) = estimates(&measured);
    Cell {
        row: row.to_vec(),
        held_out: domain.to_owned(),
        iid,
        ood,
        planned: units.len(),
        done: done(units),
        values: measured,
    }
}

fn row_mean(key: &[(Axis, AxisValue)], row: &CellUnits<'_>, domains: usize) -> Mean {
    let mut replicates: BTreeMap<(Option<u32>, u64, u64), Vec<AccuracyPair>> = BTreeMap::new();
    for unit in row.values().flatten() {
        replicates.entry(unit.coordinates).or_default().extend(unit.measured);
    }
    let planned_replicates = replicates.len();
    // A sweep holds each point once, so a replicate with as many values as there are domains has one of each. A row of fewer, which a
    // combination of some domains alone can be, has no mean that could stand beside the others.
    let complete: Vec<AccuracyPair> = replicates
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
pub(crate) fn over_domains(domains: &[AccuracyPair]) -> AccuracyPair {
    let n = domains.len() as f64;
    let sum = |value: fn(&AccuracyPair) -> f64| domains.iter().map(value).sum::<f64>();
    AccuracyPair { iid: sum(|domain| domain.iid) / n, ood: sum(|domain| domain.ood) / n }
}

/// The key of a cell: its row and its held-out domain.
pub(crate) type CellKey<'a> = (&'a [(Axis, AxisValue)], &'a str);

/// The name of a row's axis in JSON and CSV: its own, unless what follows in a cell has that name.
pub(crate) fn key(axis: &Axis) -> String {
    if TAKEN.contains(&axis.as_str()) { format!("parameter.{axis}") } else { axis.to_string() }
}

/// What a cell calls its own contents, in JSON or CSV.
const TAKEN: [&str; 10] =
    ["iid", "ood", "iid_mean", "iid_se", "iid_n", "ood_mean", "ood_se", "ood_n", "planned", "done"];

// ExportCounts by hand because the keys of a row depend on the question.
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
