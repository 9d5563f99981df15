//! The trajectory of a trial: the average of its weights, the sum of its logits, the best step so far.

use std::collections::BTreeMap;

use sortie_core::metrics::{Evaluation, Method, SplitName};
use tch::{TchError, Tensor, no_grad};

use super::EvalSplit;

/// The state of a trajectory; part of every checkpoint.
#[derive(Default)]
pub(crate) struct Trajectory {
    /// The mean of the flat buffers of weights that entered it; none before the first.
    pub(crate) average: Option<Tensor>,
    /// How many entered it.
    pub(crate) averaged: u64,
    /// Sums of logits [n, classes], by split.
    pub(crate) ensemble: BTreeMap<EvalSplit, Tensor>,
    /// Evaluations that entered them.
    pub(crate) ensembled: u64,
    /// The best i.i.d. accuracy of each method, and its step.
    pub(crate) best: BTreeMap<Method, (f64, u64)>,
    /// The weights of those steps, where they are saved.
    pub(crate) selected: BTreeMap<Method, Snapshot>,
}

/// Weights at one step.
pub(crate) struct Snapshot {
    /// The flat buffer.
    pub(crate) values: Tensor,
    /// Statistics that training moves, in the network's order.
    pub(crate) buffers: Vec<Tensor>,
}

impl Trajectory {
    /// Adds weights to the average: `mean += (weights - mean) / count`.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub(crate) fn average_in(&mut self, values: &Tensor) -> Result<(), TchError> {
        self.averaged += 1;
        no_grad(|| {
            match &mut self.average {
                None => self.average = Some(values.f_detach_copy()?),
                Some(average) => {
                    let _ = average.f_lerp_(values, 1.0 / self.averaged as f64)?;
                }
            }
            Ok(())
        })
    }

    /// Adds the logits of an evaluation to the ensemble, all splits at once.
    ///
    /// # Errors
    /// What libtorch reports; nothing has entered then.
    pub(crate) fn ensemble_in(&mut self, logits: &BTreeMap<EvalSplit, Tensor>) -> Result<(), TchError> {
        let mut sums = BTreeMap::new();
        for (eval_split, logits) in logits {
            let sum = match self.ensemble.get(eval_split) {
                Some(sum) => sum.f_add(logits)?,
                None => logits.shallow_clone(),
            };
            sums.insert(*eval_split, sum);
        }
        self.ensemble = sums;
        self.ensembled += 1;
        Ok(())
    }

    /// Records the i.i.d. accuracy of a method at a step: the unweighted mean over training domains of the accuracy on `out`
    /// (docs/protocol.md, "Evaluation"). Returns whether it is the best so far. Of equal steps the earliest is the best.
    pub(crate) fn is_best(
        &mut self,
        method: Method,
        step: u64,
        evaluations: &[Evaluation],
        held_out: &[String],
    ) -> bool {
        let accuracies: Vec<f64> = evaluations
            .iter()
            .filter(|evaluation| {
                evaluation.method == method
                    && evaluation.split == SplitName::Out
                    && !held_out.contains(&evaluation.domain)
            })
            .filter_map(Evaluation::accuracy)
            .collect();
        if accuracies.is_empty() {
            return false;
        }
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        if self.best.get(&method).is_some_and(|(best, _)| mean <= *best) {
            return false;
        }
        self.best.insert(method, (mean, step));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::metrics::Score;

    #[test]
    fn the_average_is_the_mean_of_what_entered() {
        let mut trajectory = Trajectory::default();
        for value in [1.0_f32, 2.0, 6.0] {
            trajectory.average_in(&Tensor::from_slice(&[value, -value])).unwrap();
        }
        let average = Vec::<f32>::try_from(trajectory.average.unwrap()).unwrap();
        assert!((average[0] - 3.0).abs() < 1e-6 && (average[1] + 3.0).abs() < 1e-6, "{average:?}");
    }

    #[test]
    fn the_earliest_of_equal_steps_is_the_best_and_held_out_domains_do_not_count() {
        let mut trajectory = Trajectory::default();
        let evaluation = |step, domain: &str, correct| Evaluation {
            method: Method::Plain,
            step,
            domain: domain.to_owned(),
            split: SplitName::Out,
            score: Some(Score::Counts { n: 10, correct }),
            loss: None,
            metrics: Default::default(),
            seconds: None,
        };
        let held_out = ["sketch".to_owned()];
        let mut is_best = |step, correct, held| {
            let evaluations = [
                evaluation(step, "art", correct),
                evaluation(step, "photo", 5),
                evaluation(step, "sketch", held),
            ];
            trajectory.is_best(Method::Plain, step, &evaluations, &held_out)
        };
        assert!(is_best(0, 3, 9) && is_best(300, 5, 0) && !is_best(600, 5, 10) && !is_best(900, 4, 10));
        assert_eq!(trajectory.best[&Method::Plain], (0.5, 300));
    }
}
