//! The kind of a figure and its options.

use sortie_core::metrics::Method;
use sortie_core::named;
use sortie_core::selection::Selection;

use super::page::FigurePage;
use super::presets::FigurePreset;
use crate::axis::Axis;
use crate::metric_spec::{MetricChoice, OodSplit};

/// The kind of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FigureKind {
    /// I.i.d. against o.o.d. accuracy for every way to choose one setting per held-out domain (the paper's Figure 1).
    Scatter,
    /// Accuracy against the values of an axis whose values are numbers, such as the dropout rate.
    Rates,
    /// Accuracy against the step, with a line for each setting.
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
            Self::Scatter | Self::Curves => "different axes, which tell settings apart",
            Self::Rates => "an axis for x, and different ones, which tell settings apart",
            Self::Box => "one axis",
            Self::Grid => "two different axes",
        }
    }
}

/// The options of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct FigureQuestion {
    /// Its kind.
    pub kind: FigureKind,
    /// How the step within a run is selected.
    pub selection: Selection,
    /// The weights used; only a scatter figure shows several kinds.
    pub methods: Vec<Method>,
    /// The images on which o.o.d. accuracy is measured; none for the dataset's default ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
    /// The metric that is drawn, and the one by which steps are selected.
    pub metrics: MetricChoice,
    /// The axes by which the figure groups trials; empty for its defaults.
    pub by: Vec<Axis>,
    /// The groups of a figure of the paper instead of those by methods and axes; its kind is scatter.
    pub preset: Option<FigurePreset>,
    /// The page that it is drawn on.
    pub page: FigurePage,
}

impl FigureQuestion {
    /// The weights after the step with the best i.i.d. accuracy.
    pub fn of(kind: FigureKind) -> Self {
        Self {
            kind,
            selection: Selection::Iid,
            methods: vec![Method::Plain],
            ood_split: None,
            metrics: MetricChoice::ACCURACY,
            by: Vec::new(),
            preset: None,
            page: FigurePage::default(),
        }
    }
}
