//! The two values of a metric of a trial, i.i.d. and o.o.d., at the step that the selection method selects.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Metric, Score, SplitName};
use sortie_core::named;
use sortie_core::record::{Detail, TrialRecord};
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

/// The values of a metric of one succeeded trial with a held-out domain; accuracies are fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MeasuredPair {
    /// Unweighted mean over training domains of the value on `out`.
    pub iid: f64,
    /// The value on the held-out domain.
    pub ood: f64,
}

/// The metric that is shown, and the one by which steps and settings are selected.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricChoice {
    /// The metric that is shown.
    pub shown: Metric,
    /// The metric by which steps and settings are selected.
    pub selected_by: Metric,
}

impl MetricChoice {
    /// The accuracy, selected by itself.
    pub const ACCURACY: Self = Self { shown: Metric::ACCURACY, selected_by: Metric::ACCURACY };

    /// How much of the evaluations it needs.
    pub fn detail(&self) -> Detail {
        let accuracies = self.shown.is_accuracy() && self.selected_by.is_accuracy();
        if accuracies { Detail::Scores } else { Detail::All }
    }

    /// Whether steps and settings are selected by another metric than the one that is shown.
    pub(crate) fn selects_by_another(&self) -> bool {
        self.shown != self.selected_by
    }
}

impl Default for MetricChoice {
    fn default() -> Self {
        Self::ACCURACY
    }
}

/// What is measured of trials.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricSpec {
    /// How the step within a run is selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// The images of the held-out domain.
    pub ood_split: OodSplit,
    /// The metric, and the one by which steps and settings are selected.
    pub metrics: MetricChoice,
}

/// The values that are kept of a trial with one held-out domain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measurement {
    /// The trial did not succeed, or lacks the evaluations.
    Missing,
    /// The step is selected. The values at this step may be missing.
    Selected { score: f64, measured: Option<MeasuredPair> },
    /// The step is selected when the trials that hold out one more domain are known. Holds the values of each step of the outline.
    Undecided { outline: Outline, measured: Box<[Option<MeasuredPair>]> },
}

impl MetricSpec {
    /// What a trial is measured by. A combination was evaluated once, as method plain, so its only step is used.
    fn for_trial(&self, record: &TrialRecord) -> Cow<'_, Self> {
        if record.point.combine().is_none() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { selection: Selection::Last, method: Method::Plain, ..self.clone() })
    }

    /// Measures a trial with one held-out domain.
    pub(crate) fn measure(&self, record: &TrialRecord) -> Measurement {
        let spec = self.for_trial(record);
        if record.state != StateName::Succeeded {
            return Measurement::Missing;
        }
        if spec.selection.needs_pairs() {
            let outline = Validation::of(record, spec.method, &spec.metrics.selected_by).outline();
            let all = spec.by_step(record);
            let measured = outline.steps().iter().map(|step| all.get(step).copied()).collect();
            return Measurement::Undecided { outline, measured };
        }
        match spec.select(record) {
            Some(Selected { step, score }) => {
                Measurement::Selected { score, measured: spec.at(record, step) }
            }
            None => Measurement::Missing,
        }
    }

    /// The i.i.d. value of a trial without held-out domains at its selected step, with the score of that step; none if it did not succeed or
    /// lacks the evaluations.
    pub(crate) fn measure_iid(&self, record: &TrialRecord) -> Option<(f64, f64)> {
        let spec = self.for_trial(record);
        if record.state != StateName::Succeeded {
            return None;
        }
        let Selected { step, score } = spec.select(record)?;
        Some((score, Validation::of(record, spec.method, &spec.metrics.shown).iid(step)?))
    }

    /// The selected step of a single run; none without evaluations, or if selection needs other runs.
    pub(crate) fn select(&self, record: &TrialRecord) -> Option<Selected> {
        let validation = Validation::of(record, self.method, &self.metrics.selected_by);
        match self.selection {
            Selection::Iid => selection::iid(validation),
            Selection::Last => selection::last(validation),
            Selection::Oracle => {
                selection::oracle(HeldOut::of(record, self.method, &self.metrics.selected_by))
            }
            Selection::Loo => None,
        }
    }

    /// The values after a step, whether it is selected or not.
    pub(crate) fn at(&self, record: &TrialRecord, step: u64) -> Option<MeasuredPair> {
        let rows: Vec<&Evaluation> = self.held_out(record).filter(|row| row.step == step).collect();
        Some(MeasuredPair {
            iid: Validation::of(record, self.method, &self.metrics.shown).iid(step)?,
            ood: self.ood(&rows)?,
        })
    }

    /// The values after every step that has both.
    fn by_step(&self, record: &TrialRecord) -> BTreeMap<u64, MeasuredPair> {
        let mut held_out: BTreeMap<u64, Vec<&Evaluation>> = BTreeMap::new();
        for row in self.held_out(record) {
            held_out.entry(row.step).or_default().push(row);
        }
        let validation = Validation::of(record, self.method, &self.metrics.shown).iid_by_step();
        let measured = |(step, iid)| Some((step, MeasuredPair { iid, ood: self.ood(held_out.get(&step)?)? }));
        validation.into_iter().filter_map(measured).collect()
    }

    /// The evaluations that make up the o.o.d. value.
    fn held_out<'a>(&'a self, record: &'a TrialRecord) -> impl Iterator<Item = &'a Evaluation> {
        let counts = move |row: &&Evaluation| {
            record.point.held_out.contains(&row.domain) && self.ood_split.contains(row.split)
        };
        HeldOut::of(record, self.method, &self.metrics.shown).rows().filter(counts)
    }

    fn ood(&self, rows: &[&Evaluation]) -> Option<f64> {
        // With `all`, both splits must be there.
        match (self.ood_split, rows) {
            (OodSplit::In | OodSplit::Out, [row]) => self.metrics.shown.of(row),
            (OodSplit::All, [a, b]) if a.split != b.split && self.metrics.shown.is_accuracy() => {
                over_images(a.score?, b.score?)
            }
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
