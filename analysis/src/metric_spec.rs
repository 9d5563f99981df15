//! One trial's two numbers: its i.i.d. and its o.o.d. accuracy at the step that the selection method chooses.

use std::collections::BTreeMap;

use sortie_core::finetune::SplitBy;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::named;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{self, HeldOut, Outline, Selected, Selection, Validation};
use sortie_core::trial::Work;

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
    /// The split that is reported unless another is asked for: `in`, as DomainBed does. Where the split deals out stems, the objects
    /// of the held-out domain's `in` split were trained on in other styles; only `out` shows new ones.
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

/// What is measured of trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MetricSpec {
    /// How the step within a run is chosen.
    pub selection: Selection,
    /// The model of the trajectory.
    pub method: Method,
    /// The images of the held-out domain.
    pub ood_split: OodSplit,
}

/// What is kept of one trial with one held-out domain: never more than its accuracies by step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measurement {
    /// It did not succeed, or lacks what is asked for.
    Missing,
    /// The step is chosen. What is asked for need not have been measured there.
    Selected { score: f64, measured: Option<AccuracyPair> },
    /// The step is chosen once the runs are known that hold out one more domain: what was measured after each step of the outline.
    Undecided { outline: Outline, measured: Box<[Option<AccuracyPair>]> },
}

impl MetricSpec {
    /// Reads a trial with one held-out domain; the record is not needed any more afterwards. A combination has one model, as method plain,
    /// that was evaluated once: there is no step to select, and nothing to select it by.
    pub(crate) fn read(self, record: &TrialRecord) -> Measurement {
        if record.point.combine().is_some() {
            return Self { selection: Selection::Last, method: Method::Plain, ..self }.read_by_itself(record);
        }
        self.read_by_itself(record)
    }

    fn read_by_itself(self, record: &TrialRecord) -> Measurement {
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

    /// The step that is chosen of a run by itself; none where there is nothing to choose from, or other runs are needed for it.
    pub(crate) fn select(self, record: &TrialRecord) -> Option<Selected> {
        let validation = Validation::of(record, self.method);
        match self.selection {
            Selection::Iid => selection::iid(validation),
            Selection::Last => selection::last(validation),
            Selection::Oracle => selection::oracle(HeldOut::of(record, self.method)),
            Selection::Loo => None,
        }
    }

    /// The accuracies after some step, whether or not it would be chosen.
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

    /// What the o.o.d. accuracy is made of.
    fn held_out(self, record: &TrialRecord) -> impl Iterator<Item = &Evaluation> {
        let counts = move |row: &&Evaluation| {
            record.point.held_out.contains(&row.domain) && self.ood_split.contains(row.split)
        };
        HeldOut::of(record, self.method).rows().filter(counts)
    }

    fn ood_accuracy(self, rows: &[&Evaluation]) -> Option<f64> {
        // With `all`, half of the domain must not pass for the whole of it.
        match (self.ood_split, rows) {
            (OodSplit::In | OodSplit::Out, [row]) => Some(row.accuracy()),
            (OodSplit::All, [a, b]) if a.split != b.split => over_images(a.score, b.score),
            _ => None,
        }
    }
}

/// The accuracy on the images of both; none if a bare fraction does not tell how many images it speaks of.
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
