//! The subject of a report, and its options.

use sortie_core::metrics::{Method, TrainingLoss};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::SpecHash;

use crate::diff::RunFacts;
use crate::metric_spec::{MetricChoice, OodSplit};

/// The sweep of a report.
#[derive(Clone, Debug)]
pub struct ReportSubject {
    /// The sweep's name.
    pub name: String,
    /// The sweep.
    pub spec: SweepSpec,
    /// Its trials.
    pub records: Vec<TrialRecord>,
    /// The environments of their accepted attempts.
    pub runs: Vec<(SpecHash, RunFacts)>,
    /// Training losses of some of their steps, the same steps of each.
    pub losses: Vec<(SpecHash, Vec<TrainingLoss>)>,
}

/// The options of a report, and how it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportQuestion {
    /// The selection methods with tables; figures use the first. If empty: iid, those of the sweep file, and last.
    pub selections: Vec<Selection>,
    /// The weights used; if empty, all that were evaluated.
    pub methods: Vec<Method>,
    /// The images on which o.o.d. accuracy is measured; none for the dataset's default ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
    /// The metric that is shown, and the one by which steps are selected.
    pub metrics: MetricChoice,
    /// The conditions that its trials meet, if not all are meant.
    pub conditions: Option<String>,
    /// The command that makes the page.
    pub command: String,
    /// Name and version of the program that makes it.
    pub software: String,
    /// A date to print, if any.
    pub date: Option<String>,
}
