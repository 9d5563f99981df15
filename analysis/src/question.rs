//! What is asked of a sweep's records.

use sortie_core::metrics::Method;
use sortie_core::selection::Selection;

use crate::axis::Axis;
use crate::metric_spec::{MetricChoice, MetricSpec, OodSplit};

/// What to compute from a sweep's records.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How the step within a run is selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// The axes that make rows; other axes are averaged. If empty: every parameter that the sweep varies, else dropout, else a single row.
    pub by: Vec<Axis>,
    /// Take the best setting of a row for each held-out domain and pair of seeds, by what the selection method reads, as DomainBed does.
    /// Otherwise take the mean over all settings, as in the paper.
    pub best: bool,
    /// The images on which o.o.d. accuracy is measured; none for the dataset's default ([`OodSplit::default_for`]). All images only of the
    /// accuracy: other metrics of two splits make none of both.
    pub ood_split: Option<OodSplit>,
    /// The metric, and the one by which steps and settings are selected.
    pub metrics: MetricChoice,
}

impl Question {
    /// What is measured of trials, on this part of the held-out domain.
    pub(crate) fn spec(&self, ood_split: OodSplit) -> MetricSpec {
        let Self { selection, method, ref metrics, .. } = *self;
        MetricSpec { selection, method, ood_split, metrics: metrics.clone() }
    }
}

impl Default for Question {
    fn default() -> Self {
        Self {
            selection: Selection::Iid,
            method: Method::Plain,
            by: Vec::new(),
            best: false,
            ood_split: None,
            metrics: MetricChoice::ACCURACY,
        }
    }
}
