//! One trial's two numbers: its i.i.d. and its o.o.d. accuracy at the step that the selection method chooses.

use sortie_core::finetune::SplitBy;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::record::TrialRecord;
use sortie_core::selection::{Selection, Validation};
use sortie_core::trial::Work;

use sortie_core::named;

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

/// The accuracies of a trial with one held-out domain; none unless it succeeded and the evaluations asked for are there.
pub(crate) fn measure(record: &TrialRecord, selection: Selection, ood_split: OodSplit) -> Option<Measured> {
    if record.state != StateName::Succeeded {
        return None;
    }
    let plain: Vec<Evaluation> = record.validation.iter().filter(|row| row.method == Method::Plain).cloned().collect();
    let selected = selection.select(Validation::new(&plain))?;
    let ood = ood_accuracy(record, selected.step, ood_split)?;
    Some(Measured { iid: selected.iid, ood })
}

fn ood_accuracy(record: &TrialRecord, step: u64, ood_split: OodSplit) -> Option<f64> {
    let counts = |row: &&Evaluation| {
        row.method == Method::Plain && row.step == step && record.point.held_out.contains(&row.domain) && ood_split.contains(row.split)
    };
    let rows: Vec<&Evaluation> = record.held_out.iter().filter(counts).collect();
    // With `all`, half of the domain must not pass for the whole of it.
    match (ood_split, rows.as_slice()) {
        (OodSplit::In | OodSplit::Out, [row]) => Some(row.accuracy()),
        (OodSplit::All, [a, b]) if a.split != b.split => over_images(a.score, b.score),
        _ => None,
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
