//! Several sweeps in one table.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use sortie_analysis::{
    Axis, Format, JointCollector, JointResults, OodSplit, Question, ResultsError, RowFormat, results,
};
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::parameters::Scalar;
use sortie_core::presets;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use support::{point, record, succeeded, work};

/// The preset for a dataset, with other words for some.
fn spec(dataset: &str, changes: &[(&str, &str)]) -> SweepSpec {
    let mut text = presets::find("dropout-rates").unwrap().text(Some(dataset));
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    SweepSpec::parse(&text, None).unwrap()
}

/// Two rates and two seeds on every domain; `more` of a thousand more are right.
fn trials(work: &Work, more: u64) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for (d, domain) in (0..).zip(work.domains()) {
        for (dropout, better) in [(0.0, 0), (0.9, 20)] {
            for seed in 0..2 {
                let iid = 850 + more + 3 * d + seed;
                records.push(succeeded(
                    work,
                    point(domain, dropout, 1e-3, seed),
                    iid,
                    600 + more + better + 40 * d + 7 * seed,
                ));
            }
        }
    }
    records
}

type Sweep = (&'static str, SweepSpec, Vec<TrialRecord>);

fn sweep(name: &'static str, spec: SweepSpec, more: u64) -> Sweep {
    let records = trials(&spec.work, more);
    (name, spec, records)
}

fn collector(sweeps: &[Sweep], by: &[&str], sides: &[Filter]) -> JointCollector {
    let question = Question { by: by.iter().map(|axis| Axis::from(*axis)).collect(), ..Question::default() };
    let mut collector = JointCollector::new(&question, sides);
    sweeps.iter().for_each(|(name, spec, _)| collector.add_sweep(name, spec));
    for (index, (_, _, records)) in sweeps.iter().enumerate() {
        records.iter().for_each(|record| collector.push(index, record));
    }
    collector
}

fn joint(sweeps: &[Sweep], by: &[&str]) -> Result<JointResults, ResultsError> {
    collector(sweeps, by, &[]).results()
}

fn four() -> Vec<Sweep> {
    let datasets = [
        ("vlcs", "VLCS", 0),
        ("pacs", "PACS", 100),
        ("office", "office_home", 50),
        ("terra", "terra_incognita", 20),
    ];
    datasets.into_iter().map(|(name, dataset, more)| sweep(name, spec(dataset, &[]), more)).collect()
}

#[test]
fn datasets_are_columns_and_each_is_its_own_tables_mean() {
    let mut sweeps = four();
    let unfinished = record(&sweeps[3].1.work, sweeps[3].2[0].point.clone(), StateName::Running);
    sweeps[3].2[0] = unfinished;
    let found = joint(&sweeps, &["dropout"]).unwrap();
    insta::assert_snapshot!(found.render(Format::Table), @r"
    sweeps vlcs, pacs, office, terra, selection iid: 63 of 64 trials done, 0 failed, 0 diverged, 0 cancelled

    o.o.d. accuracy (held-out domain, in split), %
     dropout   VLCS          PACS          office_home   terra_incognita   mean         done
    ──────────────────────────────────────────────────────────────────────────────────────────
     0         66.3 ± 0.4    76.3 ± 0.4    71.4 ± 0.4    68.7 (7/8)        70.7         31/32
     0.9       68.3 ± 0.4*   78.4 ± 0.4*   73.4 ± 0.4*   70.3 ± 0.4        72.6 ± 0.2   32/32

    i.i.d. accuracy (training domains, out split), %
     dropout   VLCS         PACS         office_home   terra_incognita   mean         done
    ────────────────────────────────────────────────────────────────────────────────────────
     0         85.5 ± 0.0   95.5 ± 0.1   90.5 ± 0.1    87.6 (7/8)        89.8         31/32
     0.9       85.5 ± 0.0   95.5 ± 0.1   90.5 ± 0.1    87.5 ± 0.1        89.8 ± 0.0   32/32

    selection iid reads the out splits of the training domains; in/out: train/validation split; columns: a dataset's mean over its held-out domains; mean: that of all datasets, ± as of independent ones; ± standard error of the mean over trials; * best of a complete column, with all that are shown as equal to it; (done/planned) of an incomplete cell
    ");
    let json: Value = serde_json::from_str(&found.render(Format::Json)).unwrap();
    let mut means = Vec::new();
    for (index, (name, spec, records)) in sweeps.iter().enumerate() {
        let own = results(
            name,
            &spec.work,
            records,
            &Question { by: vec!["dropout".into()], ..Question::default() },
        );
        let own: Value = serde_json::from_str(&own.unwrap().render(Format::Json)).unwrap();
        assert_eq!(json["datasets"][index]["results"], own, "{name}");
        means.push(own["means"][1]["ood"]["mean"].as_f64().unwrap());
    }
    assert_eq!(json["sweeps"], serde_json::json!(["vlcs", "pacs", "office", "terra"]));
    assert_eq!((&json["planned"], &json["done"]), (&64.into(), &63.into()));
    assert_eq!(json["means"][1]["ood"]["mean"].as_f64().unwrap(), means.iter().sum::<f64>() / 4.0);
    // Every format says the same.
    let csv = found.render(Format::Csv);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "dropout,dataset,held_out,metric,iid_mean,iid_se,iid_n,ood_mean,ood_se,ood_n,planned,done"
    );
    assert!(lines.len() == 33 && lines[1].starts_with("0,VLCS,Caltech101,accuracy,0.85"), "{csv}");
    assert!(
        found
            .render(Format::Latex)
            .contains("dropout & VLCS & PACS & office\\_home & terra\\_incognita & mean & done")
    );
    assert!(found.render(Format::Markdown).contains("| dropout | VLCS | PACS | office\\_home |"));
    let parquet = found.write_cells(RowFormat::Parquet, Vec::new()).unwrap();
    assert!(parquet.starts_with(b"PAR1"));
}

#[test]
fn one_sweep_is_what_it_was() {
    let sweeps = [sweep("pacs", spec("PACS", &[]), 0)];
    let (name, _, records) = &sweeps[0];
    let alone = results(name, &work("PACS"), records, &Question::default()).unwrap();
    let found = joint(&sweeps, &[]).unwrap();
    for format in Format::ALL {
        assert_eq!(found.render(*format), alone.render(*format), "{format}");
    }
}

#[test]
fn a_setting_of_the_sweeps_is_an_axis_and_different_trials_are_not_averaged() {
    let v1 = || spec("PACS", &[("resnet50-v2", "resnet50-v1")]);
    let beside = |second: SweepSpec| [sweep("one", spec("PACS", &[]), 0), sweep("other", second, 10)];
    let error = joint(&beside(v1()), &["dropout"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "sweeps one and other have different trials on PACS at dropout 0, and trials of different sweeps are not averaged: tell them apart with --by dropout,backbone or --by dropout,sweep"
    );
    let cells = |by: &[&str]| {
        let json: Value =
            serde_json::from_str(&joint(&beside(v1()), by).unwrap().render(Format::Json)).unwrap();
        json["means"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mean| mean["ood"]["mean"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let apart = cells(&["dropout", "sweep"]);
    assert_eq!(apart.len(), 4);
    assert!((apart[1] - apart[0] - 0.01).abs() < 1e-9, "{apart:?}");
    // V1 comes before V2.
    assert_eq!(cells(&["dropout", "backbone"]), [apart[1], apart[0], apart[3], apart[2]]);
    let table = joint(&beside(v1()), &["backbone", "dropout"]).unwrap().render(Format::Table);
    assert!(table.contains(" resnet50-v1   0.9 ") && table.contains("art_painting"), "{table}");
    // A setting in which they do not differ tells nothing apart; other trials may differ in nothing at all.
    let batch = [("batch_per_domain = 32", "batch_per_domain = 8")];
    let error = joint(&beside(spec("PACS", &batch)), &["dropout", "backbone"]).unwrap_err().to_string();
    assert!(
        error.ends_with("--by dropout,backbone,batch_per_domain or --by dropout,backbone,sweep"),
        "{error}"
    );
    let mut same = beside(spec("PACS", &[]));
    for record in &mut same[1].2 {
        record.point.seed += 2;
        *record = succeeded(&same[1].1.work, record.point.clone(), 900, 700);
    }
    let error = joint(&same, &["dropout"]).unwrap_err().to_string();
    assert!(error.ends_with("tell them apart with --by dropout,sweep"), "{error}");
    let error = joint(&beside(v1()), &["nonsense"]).unwrap_err().to_string();
    assert!(error.contains("backbone") && error.contains("sweep") && !error.contains('\n'), "{error}");
}

#[test]
fn the_same_trial_of_several_sweeps_counts_once() {
    let whole = sweep("whole", spec("PACS", &[]), 0);
    let mut part = sweep("part", spec("PACS", &[]), 0);
    part.2.truncate(9);
    let mut first = whole.clone();
    // It has a result in the other sweep only.
    first.2[0] = record(&first.1.work, first.2[0].point.clone(), StateName::Queued);
    for sweeps in [vec![first.clone(), part.clone()], vec![part.clone(), first.clone()]] {
        let found = joint(&sweeps, &["dropout"]).unwrap().render(Format::Table);
        assert!(found.contains("16 of 16 trials done"), "{found}");
        let alone = joint(std::slice::from_ref(&whole), &["dropout"]).unwrap().render(Format::Table);
        assert_eq!(found.lines().skip(1).collect::<Vec<_>>(), alone.lines().skip(1).collect::<Vec<_>>());
    }
    // By sweep it is in both.
    let found = joint(&[whole, part], &["sweep"]).unwrap().render(Format::Table);
    assert!(found.contains("25 of 25 trials done"), "{found}");
}

/// A sweep that also makes averages from a step on, whose accuracies are its plain ones of a sweep with so many more.
fn averaged(name: &'static str, from: u64, more: u64) -> Sweep {
    let average = format!("evaluate_every = 300\naverage = {{ from = {from} }}");
    let spec = spec("PACS", &[("evaluate_every = 300", &average)]);
    let (mut records, others) = (trials(&spec.work, 0), trials(&spec.work, more));
    for (record, other) in records.iter_mut().zip(others) {
        let average = |row: Evaluation| Evaluation { method: Method::Average, ..row };
        record.validation.extend(other.validation.into_iter().map(average));
        record.held_out.extend(other.held_out.into_iter().map(average));
    }
    (name, spec, records)
}

#[test]
fn averages_that_sweeps_make_in_other_ways_are_not_one() {
    let table = |sweeps: &[Sweep], by: &[&str]| {
        let by = by.iter().map(|axis| Axis::from(*axis)).collect();
        let question = Question { by, method: Method::Average, ..Question::default() };
        let mut collector = JointCollector::new(&question, &[]);
        sweeps.iter().for_each(|(name, spec, _)| collector.add_sweep(name, spec));
        for (index, (_, _, records)) in sweeps.iter().enumerate() {
            records.iter().for_each(|record| collector.push(index, record));
        }
        collector.results().map(|results| results.parts[0].1.clone())
    };
    let early = || averaged("early", 300, 30);
    let alone = table(&[early()], &["dropout"]).unwrap();
    assert_eq!((alone.planned, alone.done), (16, 16));
    // The same trainings in a sweep that makes no averages are not in the way, wherever it stands.
    let plain = || sweep("plain", spec("PACS", &[]), 0);
    for sweeps in [[plain(), early()], [early(), plain()]] {
        let found = table(&sweeps, &["dropout"]).unwrap();
        assert_eq!((&found.cells, found.planned), (&alone.cells, 16));
    }
    let late = || averaged("late", 5000, 60);
    let error = table(&[early(), late()], &["dropout"]).unwrap_err().to_string();
    assert!(error.contains("early and late") && error.contains("--by dropout,sweep"), "{error}");
    assert_eq!(table(&[early(), late()], &["dropout", "sweep"]).unwrap().planned, 32);
}

#[test]
fn datasets_are_rows_where_they_are_asked_for() {
    let found = joint(&four(), &["dataset", "dropout"]).unwrap();
    let table = found.render(Format::Table);
    assert!(!table.contains("Caltech101") && table.contains(" office_home       0.9 "), "{table}");
    // No dataset is better than another.
    assert!(!table.contains('*'), "{table}");
    assert!(found.render(Format::Csv).starts_with("dataset,dropout,held_out,metric,"), "{table}");
}

#[test]
fn one_table_has_one_split_of_the_held_out_domain() {
    // EmojiStyles is split by object.
    let sweeps = [sweep("pacs", spec("PACS", &[]), 0), sweep("emoji", spec("EmojiStyles", &[]), 0)];
    let error = joint(&sweeps, &["dropout"]).unwrap_err().to_string();
    assert!(
        error.contains("(PACS: in, EmojiStyles: out)")
            && error.ends_with("pass --ood-split")
            && !error.contains('\n'),
        "{error}"
    );
    let question =
        Question { ood_split: Some(OodSplit::Out), by: vec!["dropout".into()], ..Question::default() };
    let mut collector = JointCollector::new(&question, &[]);
    sweeps.iter().for_each(|(name, spec, _)| collector.add_sweep(name, spec));
    for (index, (_, _, records)) in sweeps.iter().enumerate() {
        records.iter().for_each(|record| collector.push(index, record));
    }
    assert!(collector.results().unwrap().render(Format::Table).contains("held-out domain, out split"));
}

#[test]
fn equal_names_of_domains_are_not_one_domain() {
    let command = |dataset: &str| {
        let text = format!(
            "name = 'x'\n[run]\ncommand = ['true']\n[data]\ndataset = '{dataset}'\ndomains = ['A', 'B']\n[grid]\nlr = [1]\nheld_out = 'each'\nseeds = 1\n"
        );
        SweepSpec::parse(&text, None).unwrap()
    };
    let made = |name, dataset, ood| {
        let spec = command(dataset);
        let mut point = point("A", 0.0, 1.0, 0);
        point.parameters.retain(|name, _| name == "lr");
        let records = ["A", "B"].map(|domain| {
            point.held_out = vec![domain.to_owned()];
            succeeded(&spec.work, point.clone(), 900, ood)
        });
        (name, spec, records.to_vec())
    };
    let table =
        joint(&[made("a", "Ours", 500), made("b", "Theirs", 700)], &[]).unwrap().render(Format::Table);
    assert!(table.contains(" 50.0   70.0     60.0   4/4"), "{table}");
}

#[test]
fn two_sweeps_are_compared_pair_by_pair() {
    let sweeps = [
        sweep("one", spec("PACS", &[]), 0),
        sweep("other", spec("PACS", &[("resnet50-v2", "resnet50-v1")]), 10),
    ];
    let pair = |a: &str, b: &str| {
        let sides = [a, b].map(|side| Filter::parse(side).unwrap());
        collector(&sweeps, &[], &sides).paired([&sides[0], &sides[1]])
    };
    for (a, b) in [("sweep=one", "sweep=other"), ("backbone=resnet50-v2", "backbone=resnet50-v1")] {
        let found = pair(a, b).unwrap();
        assert_eq!(found.units, 8, "{a}");
        assert!((found.ood.difference.mean.unwrap() - 0.01).abs() < 1e-9);
    }
    let error = pair("dropout=0", "dropout=0.9").unwrap_err().to_string();
    assert_eq!(
        error,
        "different trials of one, other meet \"dropout=0\": add sweep=NAME to the condition, or a setting in which they differ"
    );
    let sides = ["dropout=0", "dropout=0.9"].map(|side| Filter::parse(side).unwrap());
    let error = collector(&four(), &[], &sides).paired([&sides[0], &sides[1]]).unwrap_err().to_string();
    assert!(
        error.starts_with("--paired compares trials on one dataset, and these sweeps are on VLCS, PACS"),
        "{error}"
    );
}

#[test]
fn an_axis_of_the_trials_counts_before_the_setting_of_their_sweep() {
    let (mut one, mut other) = (sweep("one", spec("PACS", &[]), 0), sweep("other", spec("PACS", &[]), 0));
    for (records, batch) in [(&mut one.2, 8.0), (&mut other.2, 32.0)] {
        for record in records.iter_mut() {
            record.point.parameters.insert("batch_per_domain".to_owned(), Scalar::Number(batch.into()));
        }
    }
    let table = joint(&[one, other], &["batch_per_domain"]).unwrap().render(Format::Table);
    assert!(table.contains(" 8  ") && table.contains(" 32 "), "{table}");
}
