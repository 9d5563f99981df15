//! Figures as SVG, and as PNG for those who cannot show SVG.

mod curves;
mod frame;
pub(crate) mod png;
mod rates;
mod scatter;
mod svg;
#[cfg(test)]
mod tests;

use sortie_core::metrics::Method;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::trial::Work;

use crate::axis::{Axis, AxisValue, parameter_names};
use crate::results::{Question, Results, ResultsError, results};
use sortie_core::named;

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FigureKind {
    /// I.i.d. against o.o.d. accuracy for every way to choose one setting per held-out domain (the paper's Figure 1).
    Scatter,
    /// Accuracy against the dropout rate.
    Rates,
    /// Accuracy against the step, by dropout rate.
    Curves,
}
named!(FigureKind, "kind of figure", { Scatter => "scatter", Rates => "rates", Curves => "curves" });

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// There are no results to draw.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Every kind of figure has the dropout rate in it.
    #[error("sweep {sweep} has no axis \"dropout\" whose values are numbers, which a figure of kind {kind} needs")]
    NoRates {
        /// The sweep.
        sweep: String,
        /// The figure that was asked for.
        kind: FigureKind,
    },
    /// Nothing to draw yet.
    #[error("sweep {sweep} has no finished trial with one held-out domain to draw")]
    NothingDone {
        /// The sweep.
        sweep: String,
    },
    /// No dropout rate has a result for every held-out domain.
    #[error("sweep {sweep} has no dropout rate with a finished trial for each held-out domain yet")]
    NoCompleteRate {
        /// The sweep.
        sweep: String,
    },
    /// The scatter figure would have more points than anybody could see.
    #[error("there are {combinations} ways to choose one setting per held-out domain; the figure draws at most {max} points")]
    TooManyCombinations {
        /// How many combinations there are, over all dropout rates.
        combinations: u128,
        /// How many are drawn at most.
        max: u128,
    },
    /// The SVG cannot be turned into a picture.
    #[error("cannot render the figure: {0}")]
    Render(String),
}

/// Draws a figure of what a question asks as an SVG document; its rows are dropout rates, whatever the question says.
///
/// # Errors
/// [`FigureError`] when there is nothing to draw yet, or too much.
pub fn figure(kind: FigureKind, sweep: &str, work: &Work, records: &[TrialRecord], question: &Question) -> Result<String, FigureError> {
    let mut rates = records.iter().map(|record| Axis::dropout().value(&record.point));
    if !rates.all(|rate| matches!(rate, Some(AxisValue::Scalar(Scalar::Number(_))))) {
        return Err(FigureError::NoRates { sweep: sweep.to_owned(), kind });
    }
    let question = Question { by: vec![Axis::dropout()], ..question.clone() };
    let results = results(sweep, work, records, &question)?;
    if results.cells.iter().all(|cell| cell.ood.n == 0) {
        return Err(FigureError::NothingDone { sweep: sweep.to_owned() });
    }
    match kind {
        FigureKind::Rates => Ok(rates::draw(&rates::Curves::of(&results), &results, &averaged_axes(records))),
        FigureKind::Curves => Ok(curves::draw(&curves::trajectories(&results, records), &results, &averaged_axes(records))),
        FigureKind::Scatter => {
            let clouds = scatter::clouds(&results, records)?;
            Ok(scatter::draw(&clouds, &results))
        }
    }
}

/// The axes other than dropout that the sweep varies: a figure by dropout rate averages over them.
fn averaged_axes(records: &[TrialRecord]) -> Vec<Axis> {
    let points = || records.iter().map(|record| &record.point);
    let parameters = parameter_names(points()).into_iter().map(Axis::Parameter);
    let axes = parameters.chain([Axis::Seed, Axis::Split]).filter(|axis| *axis != Axis::dropout());
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
