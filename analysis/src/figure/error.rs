//! Why a figure cannot be drawn.

use sortie_core::selection::Selection;

use super::FigureKind;
use crate::mixed::Mixed;
use crate::results::ResultsError;

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// There are no results.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Trials of different sweeps would be drawn as one.
    #[error(transparent)]
    Mixed(#[from] Mixed),
    /// The figure needs an axis of numbers.
    #[error("sweep {sweep} has no axis whose values are numbers, which a figure of kind {kind} needs for x")]
    NoNumbers {
        /// The sweep.
        sweep: String,
        /// The kind of the figure.
        kind: FigureKind,
    },
    /// The values of the x axis are no numbers.
    #[error(
        "--by {axis}: not every trial of sweep {sweep} has a number on this axis, which a figure of kind {kind} needs for x; allowed: {}",
        known.join(", ")
    )]
    NotNumeric {
        /// The sweep.
        sweep: String,
        /// The axis.
        axis: String,
        /// The kind of the figure.
        kind: FigureKind,
        /// The axes of numbers.
        known: Vec<String>,
    },
    /// The figure shows one kind of weights.
    #[error(
        "a figure of kind {kind} shows one --method, not {given}; several are allowed for: {}",
        FigureKind::Scatter
    )]
    Methods {
        /// The kind of the figure.
        kind: FigureKind,
        /// The weights used.
        given: String,
    },
    /// The figure cannot be drawn by these axes.
    #[error("a figure of kind {kind} cannot be drawn --by {given}; allowed: {}", kind.takes())]
    By {
        /// The kind of the figure.
        kind: FigureKind,
        /// The axes.
        given: String,
    },
    /// There is no default for the two axes.
    #[error("sweep {sweep} varies fewer than two parameters, so --by must name the two axes of a grid; allowed: {}", known.join(", "))]
    NoPair {
        /// The sweep.
        sweep: String,
        /// The axes of the sweep.
        known: Vec<String>,
    },
    /// An axis has too many values.
    #[error("axis {axis} of sweep {sweep} has {values} values; a figure of kind {kind} shows at most {max}")]
    TooManyValues {
        /// The sweep.
        sweep: String,
        /// The axis.
        axis: String,
        /// The number of its values.
        values: usize,
        /// The largest number allowed.
        max: usize,
        /// The kind of the figure.
        kind: FigureKind,
    },
    /// The axes make too many settings.
    #[error(
        "--by {by}: sweep {sweep} has {settings} settings on these axes; a figure of kind {kind} shows at most {max}"
    )]
    TooManySettings {
        /// The sweep.
        sweep: String,
        /// The axes.
        by: String,
        /// The number of settings.
        settings: usize,
        /// The largest number allowed.
        max: usize,
        /// The kind of the figure.
        kind: FigureKind,
    },
    /// No trial has finished.
    #[error("sweep {sweep} has no finished trial with one held-out domain to draw")]
    NothingDone {
        /// The sweep.
        sweep: String,
    },
    /// Trials have finished, but none has the evaluations.
    #[error(
        "sweep {sweep} has finished trials, but none has the evaluations that the figure needs: weights used {methods}, selection {selection}, {split} split"
    )]
    NotMeasured {
        /// The sweep.
        sweep: String,
        /// The weights used.
        methods: String,
        /// The selection.
        selection: Selection,
        /// The split of the held-out domain.
        split: &'static str,
    },
    /// No setting has a result for every held-out domain.
    #[error("sweep {sweep} has no setting with a finished trial for each held-out domain yet")]
    NoCompleteSetting {
        /// The sweep.
        sweep: String,
    },
    /// No number of the metric was reported.
    #[error("{name} has no {metric}{split} by {along}")]
    NoCurve {
        /// The sweep or trial.
        name: String,
        /// The metric.
        metric: String,
        /// Of which images, if some were asked for.
        split: String,
        /// The horizontal axis.
        along: &'static str,
    },
    /// There are more curves than look different.
    #[error(
        "{name} has {lines} curves of these images; a figure shows at most {max}: name fewer trials with --where, or one of them"
    )]
    TooManyCurves {
        /// The sweep or trial.
        name: String,
        /// The number of curves.
        lines: usize,
        /// The largest number allowed.
        max: usize,
    },
    /// The SVG cannot be rendered.
    #[error("cannot render the figure: {0}")]
    Render(String),
}
