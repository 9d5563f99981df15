//! DomainBed's selection methods. Each looks at the records of one (trial seed, dataset, algorithm, held-out domain), and reports the
//! held-out domain's `in` accuracy where it chose.

use std::collections::{BTreeMap, BTreeSet};

use super::{MISSING, Record, Run, numpy};

/// A way to choose hyper-parameters and the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectionMethod {
    /// The step with the best mean `out` accuracy of the training domains.
    Iid,
    /// The step that does best on each training domain in turn, measured by runs that held it out too.
    LeaveOneOut,
    /// The last step; hyper-parameters by the `out` accuracy of the held-out domain itself.
    Oracle,
}

impl SelectionMethod {
    /// All of them, in the order in which DomainBed prints them.
    pub const ALL: [Self; 3] = [Self::Iid, Self::LeaveOneOut, Self::Oracle];

    /// Its title in DomainBed.
    pub fn title(self) -> &'static str {
        match self {
            Self::Iid => "training-domain validation set",
            Self::LeaveOneOut => "leave-one-domain-out cross-validation",
            Self::Oracle => "test-domain validation set (oracle)",
        }
    }

    /// The accuracy of the best hyper-parameters among these runs, which all hold out `test_env`; none if the method cannot choose.
    pub(super) fn accuracy(self, test_env: usize, runs: &[&Run]) -> Option<f64> {
        let mut by_hparams: BTreeMap<i64, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            by_hparams.entry(run.hparams_seed).or_default().push(run);
        }
        let chosen = by_hparams.values().filter_map(|runs| self.choose(test_env, runs));
        // Of equal scores the largest seed wins.
        chosen
            .reduce(|best, next| if next.order() >= best.order() { next } else { best })
            .map(|choice| choice.accuracy)
    }

    fn choose(self, test_env: usize, runs: &[&Run]) -> Option<ScoredChoice> {
        let single = || runs.iter().filter(|run| run.test_envs.len() == 1).flat_map(|run| &run.records);
        match self {
            Self::Iid => best(single().map(|record| ScoredChoice {
                score: record.iid(test_env),
                accuracy: at(&record.in_acc, test_env),
            })),
            Self::LeaveOneOut => {
                let steps: BTreeSet<i64> =
                    runs.iter().flat_map(|run| &run.records).map(|record| record.step).collect();
                best(steps.into_iter().filter_map(|step| left_out(test_env, runs, step)))
            }
            Self::Oracle => {
                let last = single().reduce(|last, next| if next.step >= last.step { next } else { last })?;
                Some(ScoredChoice {
                    score: at(&last.out_acc, test_env),
                    accuracy: at(&last.in_acc, test_env),
                })
            }
        }
    }
}

/// An accuracy that a method would report, and the score by which it is compared.
#[derive(Clone, Copy, Debug)]
struct ScoredChoice {
    score: f64,
    accuracy: f64,
}

impl ScoredChoice {
    fn order(self) -> f64 {
        if self.score.is_nan() { f64::NEG_INFINITY } else { self.score }
    }
}

/// The first of the best.
fn best(choices: impl Iterator<Item = ScoredChoice>) -> Option<ScoredChoice> {
    choices.reduce(|best, next| if next.score > best.score { next } else { best })
}

fn at(accuracies: &[f64], env: usize) -> f64 {
    accuracies.get(env).copied().unwrap_or(MISSING)
}

impl Record {
    /// The mean `out` accuracy of all domains but one.
    fn iid(&self, test_env: usize) -> f64 {
        let others: Vec<f64> = (0..)
            .zip(&self.out_acc)
            .filter(|&(env, _)| env != test_env)
            .map(|(_, &accuracy)| accuracy)
            .collect();
        numpy::mean(&others)
    }
}

/// Cross-validation at one step: the mean over the other domains of the accuracy on that domain of a run that held out both. None unless
/// there is exactly one run that held out the test domain alone, and one for every pair.
fn left_out(test_env: usize, runs: &[&Run], step: i64) -> Option<ScoredChoice> {
    let at_step = || {
        runs.iter().flat_map(|run| {
            run.records.iter().filter(|record| record.step == step).map(move |record| (run, record))
        })
    };
    let envs = at_step().next()?.1.out_acc.len();
    let mut single = at_step().filter(|(run, _)| run.test_envs.len() == 1);
    let (Some((_, record)), None) = (single.next(), single.next()) else { return None };
    let mut scores = vec![MISSING; envs];
    for (run, pair) in at_step().filter(|(run, _)| run.test_envs.len() == 2) {
        let other = run.test_envs.iter().copied().find(|&env| env != test_env)?;
        *scores.get_mut(other)? = at(&pair.in_acc, other);
    }
    let others: Vec<f64> =
        (0..).zip(scores).filter(|&(env, _)| env != test_env).map(|(_, score)| score).collect();
    if others.contains(&MISSING) {
        return None;
    }
    Some(ScoredChoice {
        score: numpy::sum(&others) / (envs as f64 - 1.0),
        accuracy: at(&record.in_acc, test_env),
    })
}
