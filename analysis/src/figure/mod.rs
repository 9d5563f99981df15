//! Figures as SVG, and as PNG for those who cannot show SVG.

mod axes;
mod boxes;
mod clouds;
mod curves;
mod frame;
mod grid;
pub(crate) mod png;
mod ramp;
mod rates;
mod scatter;
mod svg;
#[cfg(test)]
mod tests;

use sortie_core::metrics::Method;
use sortie_core::named;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::Work;

use crate::axis::{Axis, AxisValue, parameter_names};
use crate::collect::in_order;
use crate::measure::{Meter, OodSplit};
use crate::results::{Question, Results, ResultsError, results};

/// The most values of an axis that box plots or a grid have room for.
const VALUES_MAX: usize = 40;

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FigureKind {
    /// I.i.d. against o.o.d. accuracy for every way to choose one setting per held-out domain (the paper's Figure 1).
    Scatter,
    /// Accuracy against the dropout rate.
    Rates,
    /// Accuracy against the step, by dropout rate.
    Curves,
    /// Box plots of the accuracies of single trials, by the dropout rate or another axis.
    Box,
    /// Mean o.o.d. accuracies over two axes, as a heat map.
    Grid,
}
named!(FigureKind, "kind of figure", { Scatter => "scatter", Rates => "rates", Curves => "curves", Box => "box", Grid => "grid" });

impl FigureKind {
    /// The axes that a user may choose for it.
    fn takes(self) -> &'static str {
        match self {
            Self::Scatter | Self::Rates | Self::Curves => "none",
            Self::Box => "one axis",
            Self::Grid => "two different axes",
        }
    }
}

/// What a figure is asked to show.
#[derive(Clone, Debug, PartialEq)]
pub struct FigureQuestion {
    /// What kind of figure.
    pub kind: FigureKind,
    /// How the step within a run is chosen.
    pub selection: Selection,
    /// The models of the trajectory that are judged; only a scatter figure shows several.
    pub methods: Vec<Method>,
    /// The images on which o.o.d. accuracy is measured; none: what suits the dataset ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
    /// The axes by which the figure groups trials; empty: those that suit it.
    pub by: Vec<Axis>,
}

impl FigureQuestion {
    /// The weights as they stand, at the step with the best i.i.d. accuracy.
    pub fn of(kind: FigureKind) -> Self {
        Self {
            kind,
            selection: Selection::Iid,
            methods: vec![Method::Plain],
            ood_split: None,
            by: Vec::new(),
        }
    }
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// There are no results to draw.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The figure needs dropout rates.
    #[error(
        "sweep {sweep} has no axis \"dropout\" whose values are numbers, which a figure of kind {kind} needs"
    )]
    NoRates {
        /// The sweep.
        sweep: String,
        /// The figure that was asked for.
        kind: FigureKind,
    },
    /// The figure shows one model.
    #[error(
        "a figure of kind {kind} shows one method, not {given}; allowed for several: {}",
        FigureKind::Scatter
    )]
    Methods {
        /// The figure that was asked for.
        kind: FigureKind,
        /// The models that were asked for.
        given: String,
    },
    /// The figure goes by other axes, or by none that can be chosen.
    #[error("a figure of kind {kind} cannot be by {given}; allowed: {}", kind.takes())]
    By {
        /// The figure that was asked for.
        kind: FigureKind,
        /// The axes that were asked for.
        given: String,
    },
    /// No pair of axes suggests itself.
    #[error("sweep {sweep} varies fewer than two parameters, so --by must name the two axes of a grid; allowed: {}", known.join(", "))]
    NoPair {
        /// The sweep.
        sweep: String,
        /// The axes that there are.
        known: Vec<String>,
    },
    /// An axis has more values than anybody could tell apart.
    #[error("axis {axis} of sweep {sweep} has {values} values; a figure of kind {kind} shows at most {max}")]
    TooManyValues {
        /// The sweep.
        sweep: String,
        /// The axis.
        axis: String,
        /// How many values it has.
        values: usize,
        /// How many there may be.
        max: usize,
        /// The figure that was asked for.
        kind: FigureKind,
    },
    /// Nothing to draw yet.
    #[error("sweep {sweep} has no finished trial with one held-out domain to draw")]
    NothingDone {
        /// The sweep.
        sweep: String,
    },
    /// Trials are done, but none has what the figure reads.
    #[error(
        "sweep {sweep} has finished trials, but none tells what the figure reads: method {methods}, selection {selection}, {split} split"
    )]
    NotMeasured {
        /// The sweep.
        sweep: String,
        /// The models that were asked for.
        methods: String,
        /// The selection that was asked for.
        selection: Selection,
        /// The split of the held-out domain.
        split: &'static str,
    },
    /// No cloud has a result for every held-out domain.
    #[error("sweep {sweep} has no dropout rate with a finished trial for each held-out domain yet")]
    NoCompleteRate {
        /// The sweep.
        sweep: String,
    },
    /// The SVG cannot be turned into a picture.
    #[error("cannot render the figure: {0}")]
    Render(String),
}

/// Draws a figure of what a question asks as an SVG document.
///
/// # Errors
/// [`FigureError`] when there is nothing to draw yet, or the question does not fit the kind of figure or the sweep.
pub fn figure(
    sweep: &str,
    work: &Work,
    records: &[TrialRecord],
    asked: &FigureQuestion,
) -> Result<String, FigureError> {
    let mut asked = FigureQuestion { methods: distinct(&asked.methods), ..asked.clone() };
    if asked.methods.is_empty() {
        asked.methods.push(Method::Plain);
    }
    if asked.methods.len() > 1 && asked.kind != FigureKind::Scatter {
        return Err(FigureError::Methods { kind: asked.kind, given: names(&asked.methods) });
    }
    check_by(&asked)?;
    if records.iter().any(|record| record.point.combine().is_some()) {
        // What combines several trials is no replicate of any: it is drawn as itself, or not at all.
        let (combined, single): (Vec<TrialRecord>, Vec<TrialRecord>) =
            records.iter().cloned().partition(|record| record.point.combine().is_some());
        return Sheet { sweep, work, records: &single, combined: &combined, asked: &asked }.draw();
    }
    Sheet { sweep, work, records, combined: &[], asked: &asked }.draw()
}

fn check_by(asked: &FigureQuestion) -> Result<(), FigureError> {
    let fits = match asked.kind {
        FigureKind::Scatter | FigureKind::Rates | FigureKind::Curves => asked.by.is_empty(),
        FigureKind::Box => asked.by.len() < 2,
        FigureKind::Grid => match asked.by.as_slice() {
            [] => true,
            [rows, columns] => rows != columns,
            _ => false,
        },
    };
    let given = || asked.by.iter().map(Axis::as_str).collect::<Vec<_>>().join(",");
    if fits { Ok(()) } else { Err(FigureError::By { kind: asked.kind, given: given() }) }
}

/// All that a figure is made of.
struct Sheet<'a> {
    sweep: &'a str,
    work: &'a Work,
    /// The trials that combine no others.
    records: &'a [TrialRecord],
    combined: &'a [TrialRecord],
    asked: &'a FigureQuestion,
}

impl Sheet<'_> {
    fn draw(&self) -> Result<String, FigureError> {
        let Self { sweep, records, asked, .. } = *self;
        match asked.kind {
            FigureKind::Rates | FigureKind::Curves => {
                let mut rates = records.iter().map(|record| Axis::dropout().value(&record.point));
                if !rates.all(|rate| matches!(rate, Some(AxisValue::Scalar(Scalar::Number(_))))) {
                    return Err(FigureError::NoRates { sweep: sweep.to_owned(), kind: asked.kind });
                }
                let results = self.results(vec![Axis::dropout()])?;
                self.check_measured()?;
                let averaged = averaged_axes(records, &[Axis::dropout()]);
                Ok(match asked.kind {
                    FigureKind::Rates => rates::draw(&rates::Curves::of(&results), &results, &averaged),
                    _ => curves::draw(&curves::trajectories(&results, records), &results, &averaged),
                })
            }
            FigureKind::Scatter => self.scatter(),
            FigureKind::Box | FigureKind::Grid => self.grouped(),
        }
    }

    fn grouped(&self) -> Result<String, FigureError> {
        let Self { sweep, records, asked, .. } = *self;
        // Whether there is anything at all comes before the question by what to group it.
        self.check_measured()?;
        let by = match asked.kind {
            _ if !asked.by.is_empty() => asked.by.clone(),
            FigureKind::Grid => axes::of_grid(records).ok_or_else(|| {
                let known = axes::names(records);
                FigureError::NoPair { sweep: sweep.to_owned(), known }
            })?,
            _ => vec![axes::of_box(records)],
        };
        let results = self.results(by.clone())?;
        self.check_values(&by)?;
        let others = averaged_axes(records, &by);
        Ok(match asked.kind {
            FigureKind::Grid => grid::draw(&grid::Grid::of(&results), &results, &others),
            _ => boxes::draw(&boxes::panels(&results), &results, &others),
        })
    }

    /// An error if one of these axes has more values than a figure can show.
    fn check_values(&self, by: &[Axis]) -> Result<(), FigureError> {
        for axis in by {
            let values = axes::values(axis, self.records);
            if values > VALUES_MAX {
                let (sweep, axis, kind) = (self.sweep.to_owned(), axis.to_string(), self.asked.kind);
                return Err(FigureError::TooManyValues { sweep, axis, values, max: VALUES_MAX, kind });
            }
        }
        Ok(())
    }

    fn scatter(&self) -> Result<String, FigureError> {
        let Self { sweep, work, records, combined, asked } = *self;
        let results = self.results(Vec::new())?;
        let meter = self.meter(&results);
        let alone = records.iter().chain(combined).filter(|record| record.point.held_out.len() == 1);
        let domains = in_order(work.domains(), alone.map(|record| record.point.held_out_label()));
        let clouds = clouds::clouds(records, &asked.methods, meter, &domains);
        let (models, combined_missing) = clouds::combined(combined, meter, &domains);
        if clouds.is_empty() && models.is_empty() {
            self.check_measured()?;
            return Err(FigureError::NoCompleteRate { sweep: sweep.to_owned() });
        }
        let rates = clouds::rates(records);
        let wanted =
            asked.methods.iter().flat_map(|&method| rates.iter().map(move |&rate| (method, rate.cloned())));
        let missing = wanted.filter(|(method, rate)| {
            !clouds.iter().any(|cloud| (cloud.method, &cloud.rate) == (*method, rate))
        });
        let (methods, missing) = (&asked.methods, missing.collect());
        let done = models.len();
        let models = scatter::with_room(models);
        let combined_hidden = done - models.len();
        let scatter = scatter::Scatter {
            clouds: &clouds,
            combined: &models,
            methods,
            missing,
            combined_missing,
            combined_hidden,
        };
        Ok(scatter::draw(&scatter, &results))
    }

    /// Results by these axes. Those of several models name none of them.
    fn results(&self, by: Vec<Axis>) -> Result<Results, FigureError> {
        let method = if let [only] = self.asked.methods.as_slice() { *only } else { Method::Plain };
        self.results_of(method, by)
    }

    fn results_of(&self, method: Method, by: Vec<Axis>) -> Result<Results, FigureError> {
        let FigureQuestion { selection, ood_split, .. } = *self.asked;
        let question = Question { selection, method, by, best: false, ood_split };
        Ok(results(self.sweep, self.work, self.records, &question)?)
    }

    fn meter(&self, results: &Results) -> Meter {
        Meter { selection: results.selection, method: results.method, ood_split: results.ood_split }
    }

    /// An error that says why there is nothing to draw, if there is nothing.
    fn check_measured(&self) -> Result<(), FigureError> {
        let sweep = self.sweep.to_owned();
        let mut split = "";
        for &method in &self.asked.methods {
            let results = self.results_of(method, Vec::new())?;
            if results.cells.iter().all(|cell| cell.done == 0) {
                return Err(FigureError::NothingDone { sweep });
            }
            if results.cells.iter().any(|cell| cell.ood.n > 0) {
                return Ok(());
            }
            split = results.ood_split_label();
        }
        Err(FigureError::NotMeasured {
            sweep,
            methods: names(&self.asked.methods),
            selection: self.asked.selection,
            split,
        })
    }
}

fn distinct(methods: &[Method]) -> Vec<Method> {
    let first = |&(index, method): &(usize, &Method)| !methods[..index].contains(method);
    methods.iter().enumerate().filter(first).map(|(_, method)| *method).collect()
}

fn names(methods: &[Method]) -> String {
    methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",")
}

/// The axes other than these that the sweep varies: a figure by these averages over them.
fn averaged_axes(records: &[TrialRecord], by: &[Axis]) -> Vec<Axis> {
    let points = || records.iter().map(|record| &record.point);
    let parameters = parameter_names(points()).into_iter().map(Axis::Parameter);
    let axes = parameters.chain([Axis::Seed, Axis::Split]).filter(|axis| !by.contains(axis));
    axes.filter(|axis| axis.varies(points())).collect()
}

/// What a reader must know about every number of the figure: how it was made, by a choice of steps or not, and what is missing.
fn notes(results: &Results, averaged: &[Axis], selects: bool) -> Vec<String> {
    let Results { selection, method, planned, done, failed, diverged, cancelled, .. } = results;
    let split = results.ood_split_label();
    let measured = format!("o.o.d.: held-out domain, {split} split; i.i.d.: training domains, out split");
    let mut progress = if selects { format!("step selection {selection}; ") } else { String::new() };
    if *method != Method::Plain {
        progress.push_str(&format!("model {method}; "));
    }
    if !averaged.is_empty() {
        let names: Vec<&str> = averaged.iter().map(|axis| axis.as_str()).collect();
        progress.push_str(&format!("averaged over {}; ", names.join(", ")));
    }
    progress.push_str(&format!("{done} of {planned} trials done"));
    for (count, what) in [(failed, "failed"), (diverged, "diverged"), (cancelled, "cancelled")] {
        if *count > 0 {
            progress.push_str(&format!(", {count} {what}"));
        }
    }
    vec![measured, progress]
}
