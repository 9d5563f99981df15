//! Tables, comparisons and figures of named metrics, and of sweeps that hold out nothing.

use sortie_analysis::{
    Axis, FigureKind, FigureQuestion, Format, MetricChoice, OodSplit, Question, figure, paired, results,
};
use sortie_core::command::CommandSettings;
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Goal, Metric, MetricSettings, Score, SplitName};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{Point, Work};

use crate::support::{evaluation, record};

fn command() -> Work {
    Work::Command(CommandSettings {
        command: vec!["train".to_owned()],
        dataset: None,
        domains: vec!["a".to_owned(), "b".to_owned()],
        steps: None,
        complete_at: None,
    })
}

fn named(name: &str, goal: Goal, unit: &str) -> Metric {
    Metric::named(name, &MetricSettings { goal, unit: unit.to_owned() })
}

fn asks(shown: &Metric, selected_by: &Metric) -> Question {
    let metrics = MetricChoice { shown: shown.clone(), selected_by: selected_by.clone() };
    Question { metrics, ..Question::default() }
}

/// A trial of a setting, with (step, nll, f1) of both domains; those of the held-out one are worse by a tenth.
fn trial(work: &Work, held_out: &[&str], lr: f64, seed: u64, rows: &[(u64, f64, f64)]) -> TrialRecord {
    let parameters = Parameters::from([("lr".to_owned(), Scalar::Number(lr.into()))]);
    let held: Vec<String> = held_out.iter().map(|domain| (*domain).to_owned()).collect();
    let point = Point { held_out: held, parameters, seed, split_seed: 0 };
    let mut trial = record(work, point, StateName::Succeeded);
    for &(step, nll, f1) in rows {
        for domain in ["a", "b"] {
            let is_held_out = held_out.contains(&domain);
            let metrics = [
                ("nll", nll + if is_held_out { 0.1 } else { 0.0 }),
                ("f1", f1 - if is_held_out { 0.1 } else { 0.0 }),
            ];
            for split in [SplitName::In, SplitName::Out] {
                let row = Evaluation {
                    score: None,
                    metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
                    ..evaluation(step, domain, split, 0, 1)
                };
                if is_held_out { trial.held_out.push(row) } else { trial.validation.push(row) }
            }
        }
    }
    trial
}

/// Two rates and two seeds, each domain held out: 0.1 has the lower nll, 0.2 the higher f1, both at the later step.
fn sweep(work: &Work) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for domain in ["a", "b"] {
        for seed in 0..2 {
            let noise = 0.01 * seed as f64;
            records.push(trial(work, &[domain], 0.1, seed, &[(0, 0.9, 0.6), (5, 0.5 + noise, 0.5)]));
            records.push(trial(work, &[domain], 0.2, seed, &[(0, 0.9, 0.6), (5, 0.7 + noise, 0.8)]));
        }
    }
    records
}

#[test]
fn a_metric_is_selected_and_marked_by_its_goal() {
    let (work, nll, f1) = (command(), named("nll", Goal::Min, "nats"), named("f1", Goal::Max, "fraction"));
    let records = sweep(&work);
    let found = results("s", &work, &records, &asks(&nll, &nll)).unwrap();
    let text = found.render(Format::Table);
    assert!(text.contains("o.o.d. nll (held-out domain, in split), nats\n"), "{text}");
    assert!(text.contains("0.6050 ± 0.0050*") && text.contains("0.8050 ± 0.0050 "), "{text}");
    assert!(
        text.contains("selection iid reads the out splits of the training domains, nll (min is best)"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&found.render(Format::Json)).unwrap();
    assert_eq!(json["metric"], serde_json::json!({"name": "nll", "goal": "min", "unit": "nats"}));
    assert!(json.get("selected_by").is_none());

    // Of 0.1 the first step is the best by f1, and the second by nll.
    let mean = |question: &Question| {
        let found = results("s", &work, &records, question).unwrap();
        found.cells.iter().map(|cell| (1000.0 * cell.ood.mean.unwrap()).round()).collect::<Vec<_>>()
    };
    assert_eq!(mean(&asks(&f1, &f1)), [500.0, 500.0, 700.0, 700.0]);
    assert_eq!(mean(&asks(&f1, &nll)), [400.0, 400.0, 700.0, 700.0]);
    let text = results("s", &work, &records, &asks(&f1, &nll)).unwrap().render(Format::Table);
    assert!(
        text.contains("o.o.d. f1 (held-out domain, in split), %\n") && text.contains("70.0 ± 0.0*"),
        "{text}"
    );

    let best = Question { best: true, by: vec![Axis::Seed], ..asks(&f1, &nll) };
    let found = results("s", &work, &records, &best).unwrap();
    let chosen: Vec<_> = found.cells.iter().map(|cell| cell.chosen[0].setting[0].1.to_string()).collect();
    assert_eq!(chosen, ["0.1"; 4]);
    // Two splits of such a metric make none of all images.
    let all = Question { ood_split: Some(OodSplit::All), ..asks(&f1, &f1) };
    assert!(results("s", &work, &records, &all).unwrap().is_unmeasured());
    assert!(results("s", &work, &records, &Question::default()).unwrap().is_unmeasured());
}

#[test]
fn a_lower_value_is_better_where_the_goal_says_so() {
    let (work, nll) = (command(), named("nll", Goal::Min, "nats"));
    let (a, b) = (Filter::parse("lr=0.2").unwrap(), Filter::parse("lr=0.1").unwrap());
    let found = paired("s", &work, &sweep(&work), &asks(&nll, &nll), [&a, &b]).unwrap();
    assert_eq!((found.ood.better, found.ood.worse, found.units), (4, 0, 4));
    let text = found.text();
    assert!(text.contains("lr=0.1 is better than lr=0.2 by more than noise"), "{text}");
    assert!(text.contains("nll, nats") && text.contains("-0.2000"), "{text}");
    let figures = [FigureKind::Rates, FigureKind::Curves, FigureKind::Box, FigureKind::Scatter];
    for kind in figures {
        let asked = FigureQuestion { metrics: asks(&nll, &nll).metrics, ..FigureQuestion::of(kind) };
        let svg = figure("s", &work, &sweep(&work), &asked).unwrap();
        assert!(svg.contains("nll, nats") && !svg.contains("accuracy"), "{kind}: {svg}");
    }
}

#[test]
fn an_accuracy_that_is_no_fraction_is_not_shown_in_per_cent() {
    let work = command();
    let mut records = sweep(&work);
    for row in records.iter_mut().flat_map(|record| record.validation.iter_mut().chain(&mut record.held_out))
    {
        row.score = Some(Score::Value { value: 50.0 + row.step as f64, n: 0 });
    }
    let text = results("s", &work, &records, &Question::default()).unwrap().render(Format::Table);
    assert!(
        text.contains("o.o.d. accuracy (held-out domain, in split)\n") && text.contains("55.00"),
        "{text}"
    );
    assert!(!text.contains('%') && !text.contains("5500"), "{text}");
}

#[test]
fn a_sweep_that_holds_out_nothing_has_an_ordinary_table() {
    let (work, nll) = (command(), named("nll", Goal::Min, ""));
    let mut records = Vec::new();
    for seed in 0..2 {
        records.push(trial(&work, &[], 0.1, seed, &[(5, 0.5 + 0.01 * seed as f64, 0.5)]));
        records.push(trial(&work, &[], 0.2, seed, &[(5, 0.7, 0.8)]));
    }
    records[3].state = StateName::Failed;
    let found = results("s", &work, &records, &asks(&nll, &nll)).unwrap();
    let text = found.render(Format::Table);
    assert!(text.contains("nll (out split, mean over domains)\n"), "{text}");
    assert!(text.contains("0.5050 ± 0.0050") && text.contains("2/2") && text.contains("1/2"), "{text}");
    assert!(!text.contains("o.o.d.") && !text.contains("without the evaluations"), "{text}");
    let csv = found.render(Format::Csv);
    assert!(csv.starts_with("lr,metric,iid_mean,iid_se,iid_n,planned,done\n0.1,nll,0.505,"), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&found.render(Format::Json)).unwrap();
    assert_eq!((&json["cells"][0]["iid"]["n"], json["cells"][0].get("ood")), (&2.into(), None));
    let best = Question { best: true, by: vec![Axis::Seed], ..asks(&nll, &nll) };
    let best = results("s", &work, &records, &best).unwrap();
    assert_eq!(best.cells[0].chosen[0].setting[0].1.to_string(), "0.1");
    let last = Question { selection: Selection::Last, ..asks(&nll, &nll) };
    assert_eq!(results("s", &work, &records, &last).unwrap().cells.len(), 2);
    let filters = [&Filter::parse("lr=0.1").unwrap(), &Filter::parse("lr=0.2").unwrap()];
    let error = paired("s", &work, &records, &asks(&nll, &nll), filters).unwrap_err();
    assert!(error.to_string().starts_with("sweep s holds out no domain"), "{error}");
}
