//! The two accuracies of a trial, i.i.d. and o.o.d., at the step that the selection method selects.

use std::collections::BTreeMap;

use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::named;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{self, HeldOut, Outline, Selected, Selection, Validation};
use sortie_core::trial::{SplitBy, Work};

/// The images of the held-out domain on which o.o.d. accuracy is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OodSplit {
    /// The `in` split.
    In,
    /// The `out` split.
    Out,
    /// Both splits, every image counted once.
    All,
}
named!(OodSplit, "split of the held-out domain", { In => "in", Out => "out", All => "all" });

impl OodSplit {
    /// The default: `in`, as in DomainBed, and `out` for a split by stem. There, training on other domains has seen the objects of the `in`
    /// split in other styles, so only the `out` split has new objects.
    pub fn default_for(work: &Work) -> Self {
        match work {
            Work::Finetune(settings) => match settings.dataset.split_by {
                SplitBy::Image => Self::In,
                SplitBy::Stem => Self::Out,
            },
            Work::Command(_) => Self::In,
        }
    }

    fn contains(self, split: SplitName) -> bool {
        match self {
            Self::In => split == SplitName::In,
            Self::Out => split == SplitName::Out,
            Self::All => true,
        }
    }
}

/// The accuracies (fractions) of one succeeded trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AccuracyPair {
    /// Unweighted mean over training domains of accuracy on `out`.
    pub iid: f64,
    /// Accuracy on the held-out domain.
    pub ood: f64,
}

/// How the accuracies of trials are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MetricSpec {
    /// How the step within a run is selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// The images of the held-out domain.
    pub ood_split: OodSplit,
}

/// The accuracies that are kept of a trial with one held-out domain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measurement {
    /// The trial did not succeed, or lacks the evaluations.
    Missing,
    /// The step is selected. The accuracies at this step may be missing.
    Selected { score: f64, measured: Option<AccuracyPair> },
    /// The step is selected when the trials that hold out one more domain are known. Holds the accuracies of each step of the outline.
    Undecided { outline: Outline, measured: Box<[Option<AccuracyPair>]> },
}

impl MetricSpec {
    /// Measures a trial with one held-out domain. A combination was evaluated once, as method plain, so its only step is used.
    pub(crate) fn measure(self, record: &TrialRecord) -> Measurement {
        if record.point.combine().is_some() {
            return Self { selection: Selection::Last, method: Method::Plain, ..self }.measure_single(record);
        }
        self.measure_single(record)
    }

    fn measure_single(self, record: &TrialRecord) -> Measurement {
        if record.state != StateName::Succeeded {
            return Measurement::Missing;
        }
        if self.selection.needs_pairs() {
            let (outline, all) = (Validation::of(record, self.method).outline(), self.by_step(record));
            let measured = outline.steps().iter().map(|step| all.get(step).copied()).collect();
            return Measurement::Undecided { outline, measured };
        }
        match self.select(record) {
            Some(Selected { step, score }) => {
                Measurement::Selected { score, measured: self.at(record, step) }
            }
            None => Measurement::Missing,
        }
    }

    /// The selected step of a single run; none without evaluations, or if selection needs other runs.
    pub(crate) fn select(self, record: &TrialRecord) -> Option<Selected> {
        let validation = Validation::of(record, self.method);
        match self.selection {
            Selection::Iid => selection::iid(validation),
            Selection::Last => selection::last(validation),
            Selection::Oracle => selection::oracle(HeldOut::of(record, self.method)),
            Selection::Loo => None,
        }
    }

    /// The accuracies after a step, whether it is selected or not.
    pub(crate) fn at(self, record: &TrialRecord, step: u64) -> Option<AccuracyPair> {
        let rows: Vec<&Evaluation> = self.held_out(record).filter(|row| row.step == step).collect();
        Some(AccuracyPair {
            iid: Validation::of(record, self.method).iid_accuracy(step)?,
            ood: self.ood_accuracy(&rows)?,
        })
    }

    /// The accuracies after every step that has both.
    fn by_step(self, record: &TrialRecord) -> BTreeMap<u64, AccuracyPair> {
        let mut held_out: BTreeMap<u64, Vec<&Evaluation>> = BTreeMap::new();
        for row in self.held_out(record) {
            held_out.entry(row.step).or_default().push(row);
        }
        let validation = Validation::of(record, self.method).iid_accuracies();
        let measured =
            |(step, iid)| Some((step, AccuracyPair { iid, ood: self.ood_accuracy(held_out.get(&step)?)? }));
        validation.into_iter().filter_map(measured).collect()
    }

    /// The evaluations that make up the o.o.d. accuracy.
    fn held_out(self, record: &TrialRecord) -> impl Iterator<Item = &Evaluation> {
        let counts = move |row: &&Evaluation| {
            record.point.held_out.contains(&row.domain) && self.ood_split.contains(row.split)
        };
        HeldOut::of(record, self.method).rows().filter(counts)
    }

    fn ood_accuracy(self, rows: &[&Evaluation]) -> Option<f64> {
        // With `all`, both splits must be there.
        match (self.ood_split, rows) {
            (OodSplit::In | OodSplit::Out, [row]) => row.accuracy(),
            (OodSplit::All, [a, b]) if a.split != b.split => over_images(a.score?, b.score?),
            _ => None,
        }
    }
}

/// The accuracy on the images of both splits; none if an accuracy has no number of images.
fn over_images(a: Score, b: Score) -> Option<f64> {
    let n = (a.n() + b.n()) as f64;
    match (a, b) {
        // Counts add up without rounding.
        (Score::Counts { correct: first, .. }, Score::Counts { correct: second, .. }) => {
            Some((first + second) as f64 / n)
        }
        _ if a.n() == 0 || b.n() == 0 => None,
        _ => Some((a.accuracy() * a.n() as f64 + b.accuracy() * b.n() as f64) / n),
    }
}
