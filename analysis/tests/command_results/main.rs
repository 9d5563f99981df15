//! Results of sweeps of commands, whose axes and accuracies can be anything.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod metrics;
#[path = "../support/mod.rs"]
mod support;

use sortie_analysis::{
    Axis, FigureKind, FigureQuestion, Format, MetricChoice, OodSplit, Question, figure, results,
};
use sortie_core::command::CommandSettings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{Point, Work};
use support::{evaluation, point, record, succeeded, work};

const IID: Question = Question {
    selection: Selection::Iid,
    method: Method::Plain,
    by: Vec::new(),
    best: false,
    ood_split: None,
    metrics: MetricChoice::ACCURACY,
};

fn close(value: Option<f64>, expected: f64) -> bool {
    value.is_some_and(|value| (value - expected).abs() < 1e-12)
}

/// A trial of a command with an axis of texts.
fn command_trial(work: &Work, held_out: &[&str], optimiser: &str, seed: u64) -> TrialRecord {
    let parameters = Parameters::from([
        ("optimiser".to_owned(), Scalar::Text(optimiser.to_owned())),
        ("fast".to_owned(), Scalar::Flag(true)),
    ]);
    let held_out = held_out.iter().map(|domain| (*domain).to_owned()).collect();
    record(work, Point { held_out, parameters, seed, split_seed: 0 }, StateName::Succeeded)
}

fn command(domains: &[&str]) -> Work {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    Work::Command(CommandSettings {
        command: vec!["train".to_owned()],
        dataset: None,
        domains,
        steps: None,
        complete_at: None,
    })
}

#[test]
fn any_axis_of_a_command_makes_rows_and_bare_fractions_make_numbers() {
    let work = command(&["x", "a"]);
    let mut records = Vec::new();
    for (optimiser, value) in [("sgd", 0.25), ("adam, with *", 0.5)] {
        for domain in ["a", "x"] {
            let mut trial = command_trial(&work, &[domain], optimiser, 0);
            let other = if domain == "a" { "x" } else { "a" };
            trial.validation.push(valued(other, SplitName::Out, value, 0));
            trial.held_out.push(valued(domain, SplitName::In, value / 2.0, 30));
            trial.held_out.push(valued(domain, SplitName::Out, value, 10));
            records.push(trial);
        }
    }
    records[3].state = StateName::Cancelled;
    let found = results("s", &work, &records, &IID).unwrap();
    assert_eq!(
        (found.axes.as_slice(), found.domains.join(" ")),
        (&[Axis::from("optimiser")][..], "x a".to_owned())
    );
    assert_eq!((found.done, found.cancelled, found.cells[0].done, found.cells[0].planned), (3, 1, 0, 1));
    assert!(close(found.cells[3].ood.mean, 0.125) && close(found.cells[3].iid.mean, 0.25));
    let all = results("s", &work, &records, &Question { ood_split: Some(OodSplit::All), ..IID }).unwrap();
    // 30 images at an eighth, 10 at a quarter.
    assert!(close(all.cells[3].ood.mean, (30.0 * 0.125 + 10.0 * 0.25) / 40.0));
    assert!(
        found.render(Format::Csv).contains("\n\"adam, with *\",x,accuracy,,,0,,,0,1,0\n"),
        "{}",
        found.render(Format::Csv)
    );
    assert!(
        found.render(Format::Markdown).contains("| adam, with \\* | - (0/1) |"),
        "{}",
        found.render(Format::Markdown)
    );
    assert!(
        found
            .render(Format::Table)
            .starts_with("sweep s, selection iid: 3 of 4 trials done, 0 failed, 0 diverged, 1 cancelled\n")
    );
}

#[test]
fn a_fraction_of_nobody_knows_how_many_images_is_no_part_of_a_whole() {
    let work = command(&[]);
    let mut trial = command_trial(&work, &["a"], "sgd", 0);
    trial.validation.push(valued("x", SplitName::Out, 0.5, 0));
    trial.held_out.push(valued("a", SplitName::In, 0.5, 0));
    trial.held_out.push(valued("a", SplitName::Out, 0.5, 10));
    let found = |ood_split| results("s", &work, &[trial.clone()], &Question { ood_split, ..IID }).unwrap();
    assert_eq!((found(None).cells[0].ood.n, found(Some(OodSplit::All)).cells[0].ood.n), (1, 0));
    assert!(!found(None).render(Format::Table).contains("without the evaluations"));
    let text = found(Some(OodSplit::All)).render(Format::Table);
    assert!(text.contains("succeeded trials without the evaluations that this table needs: 1"), "{text}");
    // Nothing varies and there is no dropout: one row.
    assert_eq!((found(None).axes.len(), found(None).means.len()), (0, 1));
}

fn valued(domain: &str, split: SplitName, value: f64, n: u64) -> Evaluation {
    Evaluation { score: Some(Score::Value { value, n }), ..evaluation(3, domain, split, 0, 1) }
}

#[test]
fn an_axis_that_no_trial_has_and_a_sweep_without_domains_are_refused() {
    let tuned = work("PACS");
    let records = [succeeded(&tuned, point("photo", 0.5, 1e-3, 0), 900, 800)];
    let question = Question { by: vec![Axis::from("lr"), Axis::from("speed")], ..IID };
    let error = results("demo", &tuned, &records, &question).unwrap_err().to_string();
    assert_eq!(
        error,
        "sweep demo has no axis \"speed\" to make rows of; allowed: dropout, lr, weight_decay, head_lr_factor, seed, split"
    );
    let run = command(&[]);
    let (trial, kind) = (command_trial(&run, &[], "sgd", 0), FigureQuestion::of(FigureKind::Box));
    let error = figure("demo", &run, &[trial], &kind).unwrap_err().to_string();
    assert_eq!(
        error,
        "sweep demo holds out no domain, so it has no o.o.d. results; `sortie results demo` has its table"
    );
}

#[test]
fn an_axis_called_like_a_cells_contents_hides_nothing() {
    let work = command(&[]);
    let mut trial = command_trial(&work, &["a"], "sgd", 0);
    trial.point.parameters.insert("done".to_owned(), Scalar::Number(7.0.into()));
    let found = results("s", &work, &[trial], &Question { by: vec![Axis::from("done")], ..IID }).unwrap();
    let json: serde_json::Value = serde_json::from_str(&found.render(Format::Json)).unwrap();
    assert_eq!((&json["cells"][0]["parameter.done"], &json["cells"][0]["done"]), (&7.0.into(), &1.into()));
    assert!(found.render(Format::Csv).starts_with("parameter.done,held_out,"));
}

#[test]
fn numbers_that_look_equal_have_equal_stars() {
    let work = work("PACS");
    let mut records = Vec::new();
    for (rate, correct) in [(0.0, 70_030), (0.5, 69_980), (0.9, 69_900)] {
        let mut trial = succeeded(&work, point("photo", rate, 1e-3, 0), 900, 0);
        for row in &mut trial.held_out {
            row.score = Some(Score::Counts { n: 100_000, correct });
        }
        records.push(trial);
    }
    let found = results("s", &work, &records, &IID).unwrap();
    for (format, marked) in [(Format::Table, "70.0*"), (Format::Latex, "\\textbf{70.0}")] {
        // Of the domain and of the mean; 69.9 is not as good.
        assert_eq!(found.render(format).matches(marked).count(), 4, "{}", found.render(format));
        assert!(!found.render(format).contains("69.9*") && !found.render(format).contains("{69.9}"));
    }
}
