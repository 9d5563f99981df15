//! One trial's two numbers: its i.i.d. and its o.o.d. accuracy at the step that the selection method chooses.

use std::collections::BTreeMap;

use sortie_core::finetune::SplitBy;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::named;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{self, CrossValidation, HeldOut, Selected, Selection, Validation};
use sortie_core::trial::{Point, Work};

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
pub(crate) struct Measured {
    /// Unweighted mean over training domains of accuracy on `out`.
    pub iid: f64,
    /// Accuracy on the held-out domain.
    pub ood: f64,
}

/// What is measured of trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Meter {
    /// How the step within a run is chosen.
    pub selection: Selection,
    /// The model of the trajectory.
    pub method: Method,
    /// The images of the held-out domain.
    pub ood_split: OodSplit,
}

impl Meter {
    /// The accuracies of a trial with one held-out domain; none unless it succeeded and what is asked for is there.
    pub(crate) fn measure(self, record: &TrialRecord, pairs: &Pairs<'_>) -> Option<Measured> {
        self.at(record, self.select(record, pairs)?.step)
    }

    /// The same after some step, whether or not it would be chosen.
    pub(crate) fn at(self, record: &TrialRecord, step: u64) -> Option<Measured> {
        let ood = self.ood_accuracy(record, step)?;
        Some(Measured { iid: Validation::of(record, self.method).iid_accuracy(step)?, ood })
    }

    /// The step that counts, and by what settings compare; none unless the trial succeeded.
    pub(crate) fn select(self, record: &TrialRecord, pairs: &Pairs<'_>) -> Option<Selected> {
        if record.state != StateName::Succeeded {
            return None;
        }
        let validation = Validation::of(record, self.method);
        match self.selection {
            Selection::Iid => selection::iid(validation),
            Selection::Last => selection::last(validation),
            Selection::Loo => selection::leave_one_out(validation, &pairs.around(record, self.method)),
            Selection::Oracle => selection::oracle(HeldOut::of(record, self.method)),
        }
    }

    fn ood_accuracy(self, record: &TrialRecord, step: u64) -> Option<f64> {
        let counts = |row: &&Evaluation| record.point.held_out.contains(&row.domain) && self.ood_split.contains(row.split);
        let rows: Vec<&Evaluation> = HeldOut::of(record, self.method).at(step).filter(counts).collect();
        // With `all`, half of the domain must not pass for the whole of it.
        match (self.ood_split, rows.as_slice()) {
            (OodSplit::In | OodSplit::Out, [row]) => Some(row.accuracy()),
            (OodSplit::All, [a, b]) if a.split != b.split => over_images(a.score, b.score),
            _ => None,
        }
    }
}

/// The succeeded trials that hold out two domains, by everything else that tells trials apart.
pub(crate) struct Pairs<'a>(BTreeMap<Coordinates<'a>, Vec<&'a TrialRecord>>);

/// Everything that tells trials apart but the held-out domains.
type Coordinates<'a> = (&'a Parameters, u64, u64);

fn coordinates(point: &Point) -> Coordinates<'_> {
    (&point.parameters, point.seed, point.split_seed)
}

impl<'a> Pairs<'a> {
    /// Those among a sweep's trials.
    pub(crate) fn of(records: &'a [TrialRecord]) -> Self {
        let mut pairs: BTreeMap<Coordinates<'a>, Vec<&TrialRecord>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.state == StateName::Succeeded && record.point.held_out.len() == 2) {
            pairs.entry(coordinates(&record.point)).or_default().push(record);
        }
        Self(pairs)
    }

    /// What those that also held out a trial's only held-out domain tell about the other one.
    fn around(&self, record: &TrialRecord, method: Method) -> Vec<CrossValidation<'a>> {
        let [test] = record.point.held_out.as_slice() else { return Vec::new() };
        let pairs = self.0.get(&coordinates(&record.point)).into_iter().flatten();
        pairs.filter_map(|pair| CrossValidation::of(pair, test, method)).collect()
    }
}

/// The accuracy on the images of both; none if a bare fraction does not tell how many images it speaks of.
fn over_images(a: Score, b: Score) -> Option<f64> {
    let n = (a.n() + b.n()) as f64;
    match (a, b) {
        // Counts add up without rounding.
        (Score::Counts { correct: first, .. }, Score::Counts { correct: second, .. }) => Some((first + second) as f64 / n),
        _ if a.n() == 0 || b.n() == 0 => None,
        _ => Some((a.accuracy() * a.n() as f64 + b.accuracy() * b.n() as f64) / n),
    }
}
