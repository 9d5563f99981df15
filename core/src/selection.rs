//! Selects the step of a run. The types keep held-out metrics away from selectors that must not read them.
//!
//! A selector is a function of what it may read. [`Validation`] holds what a run measures on its training domains, [`CrossValidation`] what a
//! run that held out two domains measures on one of them, [`HeldOut`] what is measured on the test domain itself. The first two can only be
//! made in such a way that nothing of the test domain is in them, so a selector that reads them does not compile:
//!
//! ```compile_fail
//! use sortie_core::{metrics::{Method, Metric}, record::TrialRecord, selection::{HeldOut, iid}};
//! fn peek(record: &TrialRecord) {
//!     iid(HeldOut::of(record, Method::Plain, &Metric::ACCURACY));
//! }
//! ```
//! ```compile_fail
//! use sortie_core::{metrics::{Method, Metric, SplitName}, record::TrialRecord, selection::Validation};
//! fn peek(record: &TrialRecord) -> Option<f64> {
//!     Validation::of(record, Method::Plain, &Metric::ACCURACY).value(300, SplitName::In)
//! }
//! ```
//! ```compile_fail
//! use sortie_core::{metrics::{Method, Metric}, record::TrialRecord, selection::{HeldOut, leave_one_out}};
//! fn peek(run: &TrialRecord) {
//!     leave_one_out(&HeldOut::of(run, Method::Plain, &Metric::ACCURACY).outline(), &[]);
//! }
//! ```
//! ```compile_fail
//! use sortie_core::{metrics::{Method, Metric}, record::TrialRecord, selection::{Validation, leave_one_out}};
//! fn peek(run: &TrialRecord) {
//!     leave_one_out(&Validation::of(run, Method::Plain, &Metric::ACCURACY).outline(), &run.held_out);
//! }
//! ```
//! With the right types it does:
//! ```
//! use sortie_core::{metrics::{Method, Metric}, record::TrialRecord, selection::{CrossValidation, HeldOut, Validation, iid, leave_one_out, oracle}};
//! fn select(record: &TrialRecord, pair: &CrossValidation) {
//!     iid(Validation::of(record, Method::Plain, &Metric::ACCURACY));
//!     leave_one_out(&Validation::of(record, Method::Plain, &Metric::ACCURACY).outline(), &[pair]);
//!     oracle(HeldOut::of(record, Method::Plain, &Metric::ACCURACY));
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::metrics::{Evaluation, Method, Metric, SplitName};
use crate::named;
use crate::record::TrialRecord;

/// A way to choose the step within a run (docs/protocol.md, "Evaluation"), and to compare settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// The step with the best i.i.d. accuracy, the earliest of equals.
    Iid,
    /// The step that does best on each training domain in turn, as measured by runs that held out that domain too; the earliest of equals.
    Loo,
    /// The last step; settings are compared by the test domain itself.
    Oracle,
    /// The last step.
    Last,
}
named!(Selection, "selection method", { Iid => "iid", Loo => "loo", Oracle => "oracle", Last => "last" });

impl Selection {
    /// What it reads to choose, in one line for people.
    pub fn reads(self) -> &'static str {
        match self {
            Self::Iid => "the out splits of the training domains",
            Self::Loo => "runs that hold out one more domain, on that domain's in split",
            Self::Oracle => "the out split of the held-out domain itself",
            Self::Last => "nothing",
        }
    }

    /// Whether it needs trials that hold out two domains.
    pub fn needs_pairs(self) -> bool {
        self == Self::Loo
    }
}

/// A run's values of a metric on its training domains.
#[derive(Clone, Copy, Debug)]
pub struct Validation<'a> {
    rows: &'a [Evaluation],
    method: Method,
    metric: &'a Metric,
}

impl<'a> Validation<'a> {
    /// Those of one method of a run.
    pub fn of(record: &'a TrialRecord, method: Method, metric: &'a Metric) -> Self {
        Self { rows: &record.validation, method, metric }
    }

    /// The i.i.d. value after a step: the unweighted mean over training domains of the metric on `out`; none if it is not known of a domain
    /// that the run read after some step.
    pub fn iid(&self, step: u64) -> Option<f64> {
        let at = self.out_rows().filter(|row| row.step == step);
        self.whole(&at.filter_map(|row| self.metric.of(row)).collect::<Vec<_>>(), self.domains())
    }

    fn rows(self) -> impl Iterator<Item = &'a Evaluation> {
        self.rows.iter().filter(move |row| row.method == self.method)
    }

    fn out_rows(self) -> impl Iterator<Item = &'a Evaluation> {
        self.rows().filter(|row| row.split == SplitName::Out)
    }

    /// How many domains were read on `out` after some step.
    fn domains(self) -> usize {
        self.out_rows().map(|row| row.domain.as_str()).collect::<BTreeSet<_>>().len()
    }

    /// The mean of the values of all domains; none of some of them only, which would depend on which.
    fn whole(self, values: &[f64], domains: usize) -> Option<f64> {
        if values.len() == domains { mean(values) } else { None }
    }

    /// The steps with an evaluation.
    pub fn steps(self) -> BTreeSet<u64> {
        self.rows().map(|row| row.step).collect()
    }

    /// The i.i.d. value after each step that has one, in one pass over the run.
    pub fn iid_by_step(self) -> BTreeMap<u64, f64> {
        let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for row in self.out_rows() {
            steps.entry(row.step).or_default().extend(self.metric.of(row));
        }
        let domains = self.domains();
        steps.into_iter().filter_map(|(step, values)| Some((step, self.whole(&values, domains)?))).collect()
    }

    /// The steps and training domains, without any value.
    pub fn outline(self) -> Outline {
        let domains: BTreeSet<&str> = self.rows().map(|row| row.domain.as_str()).collect();
        Outline {
            steps: self.steps().into_iter().collect(),
            domains: domains.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// After which steps a run was measured, and on which training domains: all that leave-one-out needs of the run itself. Many runs share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outline {
    steps: Vec<u64>,
    domains: Vec<String>,
}

impl Outline {
    /// The steps, ascending.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }
}

/// What a run that held out the test domain and one more measures on the latter: the score on that domain's `in` split, which the run
/// never saw, after each step. It outlives the run's record.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossValidation {
    domain: String,
    /// By step, ascending.
    scores: Box<[(u64, f64)]>,
}

impl CrossValidation {
    /// That of one method of a run; none unless it held out the test domain and exactly one more.
    pub fn of(pair: &TrialRecord, test_domain: &str, method: Method, metric: &Metric) -> Option<Self> {
        let [first, second] = pair.point.held_out.as_slice() else { return None };
        let domain = match (first == test_domain, second == test_domain) {
            (true, false) => second,
            (false, true) => first,
            _ => return None,
        };
        let wanted =
            |row: &&Evaluation| row.method == method && row.domain == *domain && row.split == SplitName::In;
        let score = |row: &Evaluation| Some((row.step, metric.score(metric.of(row)?)));
        let scores: BTreeMap<u64, f64> = pair.held_out.iter().filter(wanted).filter_map(score).collect();
        Some(Self { domain: domain.clone(), scores: scores.into_iter().collect() })
    }

    fn score(&self, step: u64) -> Option<f64> {
        let at = self.scores.binary_search_by_key(&step, |&(step, _)| step).ok()?;
        Some(self.scores[at].1)
    }
}

/// A run's values of a metric on the domains that it held out: for reports, and for an oracle.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    rows: &'a [Evaluation],
    method: Method,
    metric: &'a Metric,
}

impl<'a> HeldOut<'a> {
    /// Those of one method of a run.
    pub fn of(record: &'a TrialRecord, method: Method, metric: &'a Metric) -> Self {
        Self { rows: &record.held_out, method, metric }
    }

    /// The evaluations.
    pub fn rows(self) -> impl Iterator<Item = &'a Evaluation> {
        self.rows.iter().filter(move |row| row.method == self.method)
    }
}

/// A chosen step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selected {
    /// The step.
    pub step: u64,
    /// The score by which settings are compared: the higher, the better ([`Metric::score`]).
    pub score: f64,
}

/// The step with the best i.i.d. value, the earliest of equals; none when the run has no evaluation.
pub fn iid(validation: Validation<'_>) -> Option<Selected> {
    let scored = |(step, value)| Selected { step, score: validation.metric.score(value) };
    best(validation.iid_by_step().into_iter().map(scored))
}

/// The last step, with its i.i.d. value; none when the run has no evaluation.
pub fn last(validation: Validation<'_>) -> Option<Selected> {
    let step = validation.steps().last().copied()?;
    Some(Selected { step, score: validation.metric.score(validation.iid(step)?) })
}

/// The step with the best mean over the training domains of the score of a run that held that domain out too; the earliest of equals.
/// None unless there is just one such run for each training domain and a step that all of them evaluated. The order of those runs does
/// not matter.
pub fn leave_one_out(run: &Outline, pairs: &[&CrossValidation]) -> Option<Selected> {
    let covered: BTreeMap<&str, &CrossValidation> =
        pairs.iter().map(|pair| (pair.domain.as_str(), *pair)).collect();
    if covered.len() != pairs.len() || !covered.keys().eq(&run.domains) {
        return None;
    }
    let scored = run.steps.iter().filter_map(|&step| {
        let scores: Option<Vec<f64>> = covered.values().map(|pair| pair.score(step)).collect();
        Some(Selected { step, score: mean(&scores?)? })
    });
    best(scored)
}

/// The last step, with the value on `out` of the only held-out domain; none when the run has no evaluation there.
pub fn oracle(held_out: HeldOut<'_>) -> Option<Selected> {
    let step = held_out.rows().map(|row| row.step).max()?;
    let mut out = held_out.rows().filter(|row| row.step == step && row.split == SplitName::Out);
    match (out.next(), out.next()) {
        (Some(row), None) => Some(Selected { step, score: held_out.metric.score(held_out.metric.of(row)?) }),
        _ => None,
    }
}

/// The first of the best.
fn best(scored: impl Iterator<Item = Selected>) -> Option<Selected> {
    scored.reduce(|best, next| if next.score > best.score { next } else { best })
}

/// The arithmetic mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::StateName;
    use crate::metrics::{Goal, MetricSettings, Score};
    use crate::parameters::Parameters;
    use crate::trial::{Point, tests::example};

    fn run(held_out: &[&str], rows: &[(u64, &str, SplitName, u64)]) -> TrialRecord {
        let held_out: Vec<String> = held_out.iter().map(|domain| (*domain).to_owned()).collect();
        let point = Point { held_out, parameters: Parameters::new(), seed: 0, split_seed: 0 };
        let evaluation = |&(step, domain, split, correct): &(u64, &str, SplitName, u64)| {
            let score = Score::Counts { n: 10, correct };
            let (method, domain, score) = (Method::Plain, domain.to_owned(), Some(score));
            Evaluation {
                method,
                step,
                domain,
                split,
                score,
                loss: None,
                metrics: BTreeMap::new(),
                seconds: None,
            }
        };
        let (held_out, validation) =
            rows.iter().map(evaluation).partition(|row: &Evaluation| point.is_held_out(&row.domain));
        TrialRecord { id: example().hash(), point, state: StateName::Succeeded, validation, held_out }
    }

    use SplitName::{In, Out};

    #[test]
    fn leave_one_out_reads_the_other_domain_of_each_pair() {
        let main = run(
            &["c"],
            &[
                (0, "a", Out, 9),
                (0, "b", Out, 9),
                (5, "a", Out, 1),
                (5, "b", Out, 1),
                (9, "a", Out, 0),
                (9, "b", Out, 0),
            ],
        );
        // At step 0 the other domains score 2 and 3, at step 5 both 4, at step 9 the pair with b was not evaluated.
        let with_a = run(
            &["a", "c"],
            &[
                (0, "a", In, 2),
                (5, "a", In, 4),
                (9, "a", In, 9),
                (0, "c", In, 10),
                (0, "b", Out, 10),
                (0, "a", Out, 10),
            ],
        );
        let with_b = run(&["b", "c"], &[(0, "b", In, 3), (5, "b", In, 4), (0, "c", In, 10)]);
        let pairs: Vec<_> = [&with_a, &with_b]
            .iter()
            .filter_map(|pair| CrossValidation::of(pair, "c", Method::Plain, &Metric::ACCURACY))
            .collect();
        let outline = Validation::of(&main, Method::Plain, &Metric::ACCURACY).outline();
        let (a, b) = (&pairs[0], &pairs[1]);
        assert_eq!(leave_one_out(&outline, &[a, b]), Some(Selected { step: 5, score: 0.4 }));
        assert_eq!(leave_one_out(&outline, &[b, a]), leave_one_out(&outline, &[a, b]));
        assert_eq!(leave_one_out(&outline, &[a]), None);
        assert_eq!((leave_one_out(&outline, &[a, a]), leave_one_out(&outline, &[a, b, a])), (None, None));
        assert!(
            CrossValidation::of(&main, "c", Method::Plain, &Metric::ACCURACY).is_none()
                && CrossValidation::of(&with_a, "b", Method::Plain, &Metric::ACCURACY).is_none()
        );
        assert_eq!(
            leave_one_out(&Validation::of(&main, Method::Average, &Metric::ACCURACY).outline(), &[]),
            None
        );
    }

    #[test]
    fn an_oracle_takes_the_last_step_and_compares_by_out() {
        let main = run(
            &["c"],
            &[(0, "c", Out, 9), (0, "c", In, 8), (7, "c", Out, 3), (7, "c", In, 2), (9, "a", Out, 1)],
        );
        assert_eq!(
            oracle(HeldOut::of(&main, Method::Plain, &Metric::ACCURACY)),
            Some(Selected { step: 7, score: 0.3 })
        );
        assert_eq!(oracle(HeldOut::of(&main, Method::Ensemble, &Metric::ACCURACY)), None);
        let pair = run(&["b", "c"], &[(0, "c", Out, 9), (0, "b", Out, 8)]);
        assert_eq!(oracle(HeldOut::of(&pair, Method::Plain, &Metric::ACCURACY)), None);
    }

    #[test]
    fn the_earliest_of_equal_steps_is_chosen_and_the_last_is_the_last() {
        let main = run(
            &["c"],
            &[(0, "a", Out, 1), (3, "a", Out, 5), (6, "a", Out, 5), (9, "a", Out, 4), (9, "a", In, 10)],
        );
        let validation = Validation::of(&main, Method::Plain, &Metric::ACCURACY);
        assert_eq!(iid(validation), Some(Selected { step: 3, score: 0.5 }));
        assert_eq!(last(validation), Some(Selected { step: 9, score: 0.4 }));
    }

    #[test]
    fn of_a_metric_whose_goal_is_low_the_lowest_is_the_best() {
        let mut main = run(&["c"], &[(0, "a", Out, 1), (3, "a", Out, 5), (6, "a", Out, 5), (6, "c", Out, 2)]);
        for (row, loss) in main.validation.iter_mut().zip([0.9, 0.2, 0.5]) {
            row.loss = Some(loss);
        }
        main.held_out[0].loss = Some(0.7);
        let validation = Validation::of(&main, Method::Plain, &Metric::LOSS);
        assert_eq!(iid(validation), Some(Selected { step: 3, score: -0.2 }));
        assert_eq!(last(validation), Some(Selected { step: 6, score: -0.5 }));
        let held_out = HeldOut::of(&main, Method::Plain, &Metric::LOSS);
        assert_eq!(oracle(held_out), Some(Selected { step: 6, score: -0.7 }));
        let f1 = Metric::named("f1", &MetricSettings { goal: Goal::Max, unit: String::new() });
        assert_eq!(iid(Validation::of(&main, Method::Plain, &f1)), None);
        main.validation[0].metrics.insert("f1".to_owned(), 0.4);
        let selected = iid(Validation::of(&main, Method::Plain, &f1));
        assert_eq!(selected, Some(Selected { step: 0, score: 0.4 }));
        // A domain without the metric, or that was not read, makes no mean of the others.
        for step in [0, 3] {
            main.validation[1].step = step;
            main.validation[1].domain = "b".to_owned();
            let half = Validation::of(&main, Method::Plain, &f1);
            assert_eq!((iid(half), half.iid(0)), (None, None));
        }
    }
}
