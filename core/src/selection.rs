//! Which step of a run counts. Pure; the types keep held-out metrics away from selectors that must not see them.

use crate::metrics::{Evaluation, SplitName};
use crate::named;

/// A way to choose the step within a run (docs/protocol.md, "Evaluation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// The step with the best i.i.d. accuracy, the earliest of equals.
    Iid,
    /// The last step.
    Last,
}
named!(Selection, "selection method", { Iid => "iid", Last => "last" });

/// The evaluations on training domains: all that a selector without an oracle may read.
#[derive(Clone, Copy, Debug)]
pub struct Validation<'a>(&'a [Evaluation]);

impl<'a> Validation<'a> {
    /// Evaluations of one run and one method, none of them on a held-out domain.
    pub fn new(evaluations: &'a [Evaluation]) -> Self {
        Self(evaluations)
    }

    /// The i.i.d. accuracy after a step: the unweighted mean over training domains of accuracy on `out`; none if nothing was read.
    pub fn iid_accuracy(&self, step: u64) -> Option<f64> {
        let read = |evaluation: &&Evaluation| evaluation.step == step && evaluation.split == SplitName::Out;
        let accuracies: Vec<f64> = self.0.iter().filter(read).map(Evaluation::accuracy).collect();
        mean(&accuracies)
    }

    fn steps(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = self.0.iter().map(|evaluation| evaluation.step).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

/// A chosen step with the i.i.d. accuracy there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selected {
    /// The step.
    pub step: u64,
    /// Its i.i.d. accuracy.
    pub iid: f64,
}

impl Selection {
    /// Chooses a step; none when the run has no evaluation.
    pub fn select(self, validation: Validation<'_>) -> Option<Selected> {
        let scored = validation.steps().into_iter().filter_map(|step| Some(Selected { step, iid: validation.iid_accuracy(step)? }));
        match self {
            // `reduce` keeps the earlier one unless the later one is strictly better.
            Self::Iid => scored.reduce(|best, next| if next.iid > best.iid { next } else { best }),
            Self::Last => scored.max_by_key(|selected| selected.step),
        }
    }
}

/// The arithmetic mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / values.len() as f64)
}
