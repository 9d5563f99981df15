//! DomainBed's runs and tables: those of a real sweep, and those of Sortie's trials.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sortie_analysis::domainbed::{
    IMPORTED, MISSING, Record, Run, SelectionMethod, read, runs, tables, unshown, write,
};
use sortie_core::command::CommandSettings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::parameters::Scalar;
use sortie_core::spec::Imported;
use sortie_core::trial::{Point, Work};
use support::{point, record, succeeded, work};

fn real_sweep() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("SORTIE_TEST_DATA") else {
        eprintln!("skipped: SORTIE_TEST_DATA names no folder with domainbed_sweep");
        return None;
    };
    Some(Path::new(&root).join("domainbed_sweep"))
}

#[test]
fn a_real_sweep_gives_the_tables_of_domainbeds_collector() {
    let Some(sweep) = real_sweep() else { return };
    let folders = read(&sweep.join("records")).unwrap();
    assert_eq!((folders.runs.len(), folders.torn), (40, 0));
    assert!(folders.runs.iter().all(|run| run.done && run.repeated() == (0, 0)));
    let expected = std::fs::read_to_string(sweep.join("expected_tables.txt")).unwrap();
    assert_eq!(tables(&folders.runs, &SelectionMethod::ALL), expected);
}

#[test]
fn runs_without_records_unknown_datasets_and_nothing_at_all_are_survived() {
    let run = |dataset: &str, records: Vec<Record>| Run {
        name: "r".into(),
        algorithm: "an algorithm of the user's".into(),
        dataset: dataset.into(),
        test_envs: vec![0],
        records,
        ..Run::default()
    };
    assert_eq!(tables(&[], &SelectionMethod::ALL), "Total records: 0\n");
    let unknown = run("Mine", vec![Record { step: 0, in_acc: vec![0.5, 0.5], out_acc: vec![0.5, 0.5] }]);
    assert_eq!(tables(&[unknown, run("PACS", vec![])], &SelectionMethod::ALL), "Total records: 1\n");
    let one = run("Debug28", vec![Record { step: 0, in_acc: vec![0.25, 0.5, 0.5], out_acc: vec![0.5; 3] }]);
    let text = tables(&[one], &[SelectionMethod::Iid]);
    assert!(
        text.contains("an algorithm of the   25.0 +/- 0.0          X                     X                     X                    \n"),
        "{text}"
    );
}

#[test]
fn sorties_trials_become_runs_that_domainbed_tells_apart() {
    let work = work("PACS");
    let trial =
        |held_out: &str, dropout, lr, seed| succeeded(&work, point(held_out, dropout, lr, seed), 900, 700);
    let mut averaged = trial("sketch", 0.9, 1e-3, 4);
    let average = |row: Evaluation| Evaluation { method: Method::Average, ..row };
    averaged.validation.extend(averaged.validation.clone().into_iter().map(average));
    let records = [
        trial("sketch", 0.0, 1e-3, 4),
        trial("photo+sketch", 0.0, 5e-4, 7),
        averaged,
        record(&work, point("sketch", 0.0, 1e-3, 9), StateName::Failed),
    ];
    let found = runs(&work, &records, &Imported::default());
    let names: Vec<_> = found
        .iter()
        .map(|run| (run.algorithm.as_str(), run.test_envs.as_slice(), run.trial_seed, run.hparams_seed))
        .collect();
    let expected: [(&str, &[usize], i64, i64); 4] = [
        ("ERM", &[3], 0, 1),
        ("ERM", &[2, 3], 1, 0),
        ("ERM dropout 0.9", &[3], 0, 1),
        ("ERM dropout 0.9 average", &[3], 0, 1),
    ];
    assert_eq!(names, expected);
    assert_eq!(
        found[0].records,
        [Record { step: 20, in_acc: vec![0.9, 0.9, 0.9, 0.7], out_acc: vec![0.9, 0.9, 0.9, 0.7] }]
    );
    assert_eq!(found[3].records[0].in_acc, [0.9, 0.9, 0.9, MISSING]);
    // By DomainBed's names where it has the same; the others are Sortie's.
    let hparams = serde_json::json!({
        "lr": 1e-3, "weight_decay": 1e-4, "resnet_dropout": 0.9, "batch_size": 32, "head_lr_factor": 1,
    });
    assert_eq!(serde_json::Value::Object(found[2].hparams.clone()), hparams);
    assert_eq!(found[0].seed, Some(4));

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &found).unwrap();
    let again = read(folder.path()).unwrap();
    let by_name = |mut runs: Vec<Run>| {
        runs.sort_by(|a, b| a.name.cmp(&b.name));
        runs
    };
    assert_eq!(by_name(again.runs), by_name(found));
}

#[test]
fn no_two_runs_of_a_sweep_are_the_same_to_domainbed() {
    let command = |program: &str| {
        let (command, domains) = (vec![program.to_owned()], ["C", "L", "S", "V"].map(str::to_owned).to_vec());
        Work::Command(CommandSettings {
            command,
            dataset: Some("VLCS".into()),
            domains,
            steps: None,
            complete_at: None,
        })
    };
    let numbers = |name: &str, value: f64| (name.to_owned(), Scalar::Number(value.into()));
    let mut records = Vec::new();
    for algorithm in [1.0, 2.0] {
        for lr in [0.1, 0.2] {
            for seed in [0, 1] {
                let dropout =
                    ("dropout".to_owned(), Scalar::Text(if lr == 0.1 { "low" } else { "high" }.into()));
                let parameters = [
                    numbers("algorithm", algorithm),
                    numbers("hparams_seed", 0.0),
                    numbers("lr", lr),
                    dropout,
                ]
                .into();
                let at = Point { held_out: vec!["C".into()], parameters, seed, split_seed: 3 };
                records.push(succeeded(&command("train"), at, 900, 700));
            }
        }
    }
    let found = runs(&command("train"), &records, &Imported::default());
    let keys: BTreeSet<_> = found
        .iter()
        .map(|run| (run.algorithm.clone(), run.hparams_seed, run.trial_seed, run.test_envs.clone()))
        .collect();
    assert_eq!((found.len(), keys.len()), (8, 8));
    assert_eq!(found[0].algorithm, "1 dropout low");
    // An imported sweep keeps DomainBed's own numbers.
    let parameters =
        [("algorithm".to_owned(), Scalar::Text("ERM".into())), numbers("hparams_seed", 7.0)].into();
    let at = Point { held_out: vec!["C".into()], parameters, seed: 0, split_seed: 5 };
    let imported = command(IMPORTED);
    let found = runs(&imported, &[succeeded(&imported, at, 900, 700)], &Imported::default());
    assert_eq!((found[0].algorithm.as_str(), found[0].hparams_seed, found[0].trial_seed), ("ERM", 7, 5));
    assert!(unshown(&imported).is_none() && unshown(&work("EmojiStyles")).unwrap().contains("does not know"));
    let fewer = Work::Command(CommandSettings {
        command: vec!["x".into()],
        dataset: Some("VLCS".into()),
        domains: vec!["L".into(), "V".into()],
        steps: None,
        complete_at: None,
    });
    assert!(unshown(&fewer).unwrap().contains("has 4 domains and this sweep's has 2"));
}

#[test]
fn a_real_sweep_survives_being_written_and_read() {
    let Some(sweep) = real_sweep() else { return };
    let runs = read(&sweep.join("records")).unwrap().runs;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &runs).unwrap();
    assert_eq!(read(folder.path()).unwrap().runs, runs);
}
