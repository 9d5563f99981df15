//! `v_selected` chooses what the code chooses, and measures what it measures: on made-up runs with ties, gaps and sums whose last bit
//! depends on their order.

use std::collections::BTreeMap;

use sortie_analysis::{Axis, OodSplit, Question, results};
use sortie_coordinator::store::QueryValue;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::Batch;
use sortie_core::metrics::{Evaluation, Method, Metric, Score, SplitName};
use sortie_core::record::TrialRecord;
use sortie_core::selection::{HeldOut, Selected, Selection, Validation, iid, last, oracle};

use crate::cases_queries::rows;
use crate::fixture::*;

const DOMAINS: [&str; 6] = ["art", "Cartoon", "clip-art", "photo", "quick_draw", "Zeichnung"];
const METHODS: [Method; 3] = [Method::Plain, Method::Average, Method::Ensemble];
/// Three domains in turn, and pairs of all, which make no rows.
const RUNS: &str = "name = 'first'\nselect = ['iid', 'loo']\n[run]\ncommand = ['run']\n[data]\ndataset = 'drawings'\n\
                    domains = ['art', 'Cartoon', 'clip-art', 'photo', 'quick_draw', 'Zeichnung']\n[grid]\n\
                    held_out = ['art', 'photo', 'Zeichnung']\ndropout = [0.0, 0.9]\nseeds = 14\n";
/// And some that hold nothing out.
const NONE: &str = "name = 'none'\n[run]\ncommand = ['run']\n[grid]\nseeds = 5\n";

/// Small numbers from a counter.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A score of few possible values: tenths, whose sums differ in the last bit, and counts, some of them equal.
fn score(dice: &mut Dice) -> Score {
    match dice.below(4) {
        0 => Score::Value { value: dice.below(11) as f64 / 10.0, n: [0, 7][dice.below(2) as usize] },
        1 => Score::Value { value: 1.0 - dice.below(11) as f64 / 10.0, n: 0 },
        _ => {
            let n = [3, 5, 10][dice.below(3) as usize];
            Score::Counts { n, correct: dice.below(n + 1) }
        }
    }
}

fn evaluations(dice: &mut Dice) -> Vec<Evaluation> {
    let mut reported = Vec::new();
    // As often as not something is missing everywhere.
    let gaps = [0, 0, 4, 12][dice.below(4) as usize];
    for method in METHODS.into_iter().take(1 + dice.below(3) as usize) {
        let domains = 2 + dice.below(5) as usize;
        for step in (0..=dice.below(8)).map(|step| step * 300) {
            // A step without a domain that others have has no i.i.d. accuracy.
            for domain in DOMAINS.into_iter().take(domains - usize::from(dice.below(9) == 0)) {
                for split in [SplitName::In, SplitName::Out] {
                    if dice.below(16) >= gaps {
                        // Some have named metrics and no accuracy.
                        let score = (dice.below(30) > 0).then(|| score(dice));
                        let metrics = [("f1".to_owned(), 0.5)].into();
                        let domain = domain.to_owned();
                        reported.push(Evaluation {
                            method,
                            step,
                            domain,
                            split,
                            score,
                            loss: None,
                            metrics,
                            seconds: None,
                        });
                    }
                }
            }
        }
    }
    reported
}

async fn run_all(f: &Fixture) {
    let mut dice = Dice(7);
    f.submit(RUNS).await;
    f.submit(NONE).await;
    let mut able = worker("w2");
    able.abilities.commands = true;
    f.store.register(&able).await.unwrap();
    while let Some(lease) = f.claim_as("w2", 1).await.leases.pop() {
        let reported = Batch { sequence: 1, evaluations: evaluations(&mut dice), ..Batch::default() };
        let outcome = match dice.below(12) {
            0 => Outcome::Diverged { step: 3 },
            1 => failed(ErrorClass::BadConfig),
            _ => Outcome::Succeeded,
        };
        f.complete_with(lease.token, reported, outcome).await.unwrap();
    }
    // The same trials once more, reused.
    f.submit(&RUNS.replace("'first'", "'second'")).await;
}

/// What a row says: the step, the score and the i.i.d. and o.o.d. accuracies.
type Line = (u64, f64, Option<f64>, [Option<f64>; 3]);

fn real(value: &QueryValue) -> Option<f64> {
    match value {
        QueryValue::Real(value) => Some(*value),
        QueryValue::Null => None,
        other => panic!("{other:?}"),
    }
}

async fn reported(f: &Fixture, sweep: &str) -> BTreeMap<(String, String, String), Line> {
    let columns = "trial_id, method, selection, step, score, iid, ood_in, ood_out, ood_all";
    let mut lines = BTreeMap::new();
    for row in rows(f, &format!("SELECT {columns} FROM v_selected WHERE sweep = '{sweep}'")).await {
        let [
            QueryValue::Text(trial),
            QueryValue::Text(method),
            QueryValue::Text(selection),
            QueryValue::Integer(step),
            numbers @ ..,
        ] = row.as_slice()
        else {
            panic!("{row:?}")
        };
        let numbers: Vec<Option<f64>> = numbers.iter().map(real).collect();
        let line =
            (step.unsigned_abs(), numbers[0].unwrap(), numbers[1], [numbers[2], numbers[3], numbers[4]]);
        assert!(
            lines.insert((trial.clone(), method.clone(), selection.clone()), line).is_none(),
            "two rows: {row:?}"
        );
    }
    lines
}

/// The same by the code that makes tables.
fn expected(
    work: &sortie_core::trial::Work,
    records: &[TrialRecord],
) -> BTreeMap<(String, String, String), Line> {
    let mut lines = BTreeMap::new();
    for record in records
        .iter()
        .filter(|record| record.state == StateName::Succeeded && record.point.held_out.len() == 1)
    {
        for method in METHODS {
            let validation = Validation::of(record, method, &Metric::ACCURACY);
            let held_out = HeldOut::of(record, method, &Metric::ACCURACY);
            for (selection, chosen) in [
                (Selection::Iid, iid(validation)),
                (Selection::Last, last(validation)),
                (Selection::Oracle, oracle(held_out)),
            ] {
                let Some(Selected { step, score }) = chosen else { continue };
                // A table of one trial: its numbers are the trial's, where it has both.
                let ood = [OodSplit::In, OodSplit::Out, OodSplit::All].map(|split| {
                    let question = Question {
                        selection,
                        method,
                        by: vec![Axis::from("seed")],
                        ood_split: Some(split),
                        ..Question::default()
                    };
                    let table = results("x", work, std::slice::from_ref(record), &question).unwrap();
                    let cell = &table.cells[0];
                    assert!(cell.iid.mean.is_none() || cell.iid.mean == validation.iid(step));
                    cell.ood.mean
                });
                let key = (record.id.to_string(), method.to_string(), selection.to_string());
                lines.insert(key, (step, score, validation.iid(step), ood));
            }
        }
    }
    lines
}

pub async fn the_view_selects_and_measures_as_the_code_does(f: Fixture) {
    run_all(&f).await;
    for sweep in ["first", "second"] {
        let (mut records, mut from) = (Vec::new(), Some(0));
        while let Some(position) = from {
            let page = f.store.records(sweep, position).await.unwrap();
            (records, from) = ([records, page.rows].concat(), page.next);
        }
        let (reported, expected) =
            (reported(&f, sweep).await, expected(&f.store.work(sweep).await.unwrap(), &records));
        assert!(expected.len() > 200, "{}", expected.len());
        assert_eq!(reported.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{sweep}");
        for (key, (step, score, iid, ood)) in &expected {
            let line = &reported[key];
            // Bit by bit: the sums are of the same order.
            assert_eq!(
                (line.0, line.1.to_bits(), line.2.map(f64::to_bits)),
                (*step, score.to_bits(), iid.map(f64::to_bits)),
                "{sweep} {key:?}"
            );
            for (got, wanted) in line.3.iter().zip(ood) {
                // A table has no o.o.d. accuracy without an i.i.d. one; the view keeps what there is.
                assert!(
                    iid.is_none() || got.map(f64::to_bits) == wanted.map(f64::to_bits),
                    "{sweep} {key:?}: {line:?}, not {ood:?}"
                );
            }
        }
        let kinds = |wanted: fn(&Line) -> bool| expected.values().filter(|&line| wanted(line)).count();
        assert!(
            kinds(|line| line.2.is_none()) > 0 && kinds(|line| line.3.contains(&None)) > 0,
            "the dice made no gaps"
        );
    }
    assert!(reported(&f, "none").await.is_empty());
    assert!(!rows(&f, "SELECT 1 FROM v_evaluations WHERE sweep = 'none'").await.is_empty());
    assert!(!rows(&f, "SELECT 1 FROM v_evaluations WHERE held_out LIKE '%+%'").await.is_empty());
}
