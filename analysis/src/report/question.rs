//! What a report is about, and what it shows.

use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::TrialId;

use crate::diff::RunFacts;
use crate::metric_spec::OodSplit;

/// What a report is about.
#[derive(Clone, Debug)]
pub struct ReportSubject {
    /// The sweep's name.
    pub name: String,
    /// The sweep.
    pub spec: SweepSpec,
    /// Its trials.
    pub records: Vec<TrialRecord>,
    /// What their accepted attempts ran on.
    pub runs: Vec<(TrialId, RunFacts)>,
}

/// What a report shows, and how it came to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportQuestion {
    /// The selection methods that get tables, the first of which the figures use; empty: iid, those that the sweep planned, and last.
    pub selections: Vec<Selection>,
    /// The models of the trajectory; empty: all that were evaluated.
    pub methods: Vec<Method>,
    /// The images on which o.o.d. accuracy is measured; none: what suits the dataset ([`OodSplit::default_for`]).
    pub ood_split: Option<OodSplit>,
    /// The command that makes the page, as it was typed.
    pub command: String,
    /// Name and version of the program that makes it.
    pub software: String,
    /// When, if anybody wants to know.
    pub date: Option<String>,
}
