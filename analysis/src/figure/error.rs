//! Why a figure cannot be drawn.

use sortie_core::selection::Selection;

use super::FigureKind;
use crate::results::ResultsError;

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
        "a figure of kind {kind} shows one --method, not {given}; several are allowed for: {}",
        FigureKind::Scatter
    )]
    Methods {
        /// The figure that was asked for.
        kind: FigureKind,
        /// The models that were asked for.
        given: String,
    },
    /// The figure goes by other axes, or by none that can be chosen.
    #[error("a figure of kind {kind} cannot be drawn --by {given}; allowed: {}", kind.takes())]
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
        "sweep {sweep} has finished trials, but none has the evaluations that the figure needs: weights used {methods}, selection {selection}, {split} split"
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
