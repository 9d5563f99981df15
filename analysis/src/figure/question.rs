//! What a figure is asked to show.

use sortie_core::metrics::Method;
use sortie_core::named;
use sortie_core::selection::Selection;

use super::FigureError;
use crate::axis::Axis;
use crate::metric_spec::OodSplit;

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
    pub(super) fn takes(self) -> &'static str {
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

/// Fails if the axes do not suit the kind of figure.
pub(super) fn check_by(asked: &FigureQuestion) -> Result<(), FigureError> {
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
