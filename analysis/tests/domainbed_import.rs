//! Run folders of other programs as sweeps: what becomes a trial, and that DomainBed's tables stay what they were.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sortie_analysis::domainbed::{
    IMPORTED, ImportedSweep, Record, Run, SelectionMethod, read, runs, skipped, tables, write as export,
};
use sortie_analysis::{Format, Question, results};
use sortie_core::command::CommandSettings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::spec::Imported;
use sortie_core::trial::{Point, TrialSpec, Work};
use support::{point, succeeded, work};

/// Writes the lines of a run folder's file.
fn write(folder: &Path, file: &str, lines: &[Value]) {
    fs::create_dir_all(folder).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join(file), lines).unwrap();
}

fn imported(runs: Vec<Run>) -> ImportedSweep {
    let dataset = runs[0].dataset.clone();
    ImportedSweep::of("theirs", &dataset, runs, &BTreeSet::new()).unwrap()
}

/// The sweep as a coordinator returns it, when all its runs are imported.
fn stored(sweep: &ImportedSweep) -> (Work, Vec<TrialRecord>) {
    let file = sweep.file("tag");
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let work = Work::Command(CommandSettings {
        command: words(&file["run"]["command"]),
        dataset: file["data"]["dataset"].as_str().map(str::to_owned),
        domains: words(&file["data"]["domains"]),
        steps: None,
        complete_at: None,
    });
    assert_eq!(file["run"]["command"], json!([IMPORTED, "theirs"]));
    let record = |(point, run): (Point, &Run)| {
        let (held_out, validation) =
            sweep.evaluations(run).into_iter().partition(|row| point.is_held_out(&row.domain));
        let spec = TrialSpec { work: work.clone(), point, combination: None };
        TrialRecord { id: spec.hash(), point: spec.point, state: StateName::Succeeded, validation, held_out }
    };
    let records = sweep.trials().map(record).collect();
    (work, records)
}

/// DomainBed's tables of an imported sweep.
fn tables_of(sweep: &ImportedSweep) -> String {
    let (work, records) = stored(sweep);
    let notes = sweep.notes(|_| false);
    let mut all = runs(&work, &records, &notes);
    all.extend(skipped(&work, &notes));
    tables(&all, &SelectionMethod::ALL)
}

/// A record of a fork that leaves out `_acc`, as `found/domainbed_keys_without_acc` has them.
fn short_keys(env: usize, step: u64) -> Value {
    json!({
        "args": {"algorithm": "ERM", "dataset": "PACS", "hparams_seed": 0, "output_dir": "x", "seed": 1, "test_envs": [env], "trial_seed": 0},
        "env0_in": 0.5, "env0_out": 0.5, "env1_in": 0.51, "env1_out": 0.51, "env2_in": 0.52, "env2_out": 0.52,
        "hparams": {"lr": 0.001}, "step": step,
    })
}

#[test]
fn records_of_forks_that_leave_out_the_end_of_keys_are_read() {
    let root = tempfile::tempdir().unwrap();
    for env in 0..3 {
        write(
            &root.path().join(format!("r{env}")),
            "results.jsonl",
            &[short_keys(env, 0), short_keys(env, 300)],
        );
    }
    let sweep = imported(read(root.path()).unwrap().runs);
    let (_, records) = stored(&sweep);
    assert_eq!(records.len(), 3);
    for record in records {
        // Two steps, both splits: two training domains and one held-out domain.
        assert_eq!((record.validation.len(), record.held_out.len()), (8, 4));
        assert_eq!(record.point.seed, 1);
    }
}

#[test]
fn a_run_with_three_held_out_domains_is_skipped_and_counted() {
    let root = tempfile::tempdir().unwrap();
    for (name, envs) in [("r0", vec![0]), ("r1", vec![1]), ("r2", vec![0, 1, 2])] {
        let mut line = short_keys(0, 0);
        line["args"]["test_envs"] = json!(envs);
        line["env3_in"] = 0.5.into();
        line["env3_out"] = 0.5.into();
        write(&root.path().join(name), "results.jsonl", &[line]);
    }
    let raw = read(root.path()).unwrap().runs;
    let sweep = imported(raw.clone());
    assert_eq!((sweep.trials().len(), sweep.skipped()), (2, 1));
    let text = tables_of(&sweep);
    assert!(text.starts_with("Total records: 3\n"), "{text}");
    assert_eq!(text, tables(&raw, &SelectionMethod::ALL));
}

/// The folders that the paper's authors' commands leave: `--hparams` sets what is tried, `--seed` the replicate. All have hparams_seed 0 and
/// trial_seed 0. Training domains are not evaluated on their `in` splits.
fn authors_folders(root: &Path) {
    for (lr, bonus) in [(0.001, 0.0), (0.0005, 0.04)] {
        for seed in [0, 1] {
            for env in 0..4 {
                let set = format!(
                    "{{\"pretrain_version\":\"v2\",\"resnet_dropout\":0.9,\"weight_decay\":5e-05,\"lr\":{lr},\"lastlrfac\":1}}"
                );
                let args = json!({
                    "data_dir": "/my/data/dir", "dataset": "VLCS", "algorithm": "ERM", "hparams": set, "hparams_seed": 0,
                    "trial_seed": 0, "seed": seed, "steps": 10001, "checkpoint_freq": null, "test_envs": [env],
                    "output_dir": format!("out/{lr}_{seed}_{env}"), "holdout_fraction": 0.2, "uda_holdout_fraction": 0,
                    "skip_model_save": false, "save_model_every_checkpoint": false, "init_step": false,
                    "path_for_init": null, "save_logits": 0, "outsplit_noaug": 0,
                });
                let hparams = json!({
                    "data_augmentation": true, "resnet18": false, "resnet_dropout": 0.9, "nonlinear_classifier": false,
                    "optimizer": "sgd", "momentum": 0.9, "ma_start_iter": 300, "milestones": [5000, 10000], "gamma": 0.1,
                    "scheduler": "step", "stodepth": 1.0, "stodepth_uniform": 1, "freeze_bn": true, "lastlrfac": 1,
                    "pretrain_version": "v2", "skip_load_classifier": 0, "lr": lr, "weight_decay": 5e-05, "batch_size": 32,
                    "steps": 10001,
                });
                let line = |step: u64, iid: f64, ood: f64| {
                    let mut line = json!({
                        "args": args, "hparams": hparams, "step": step, "epoch": 0.1, "loss": 0.5, "step_time": 0.1, "mem_gb": 9.5,
                    });
                    for domain in 0..4 {
                        let held_out = domain == env;
                        line[format!("env{domain}_in_acc")] = if held_out { ood.into() } else { (-1).into() };
                        line[format!("env{domain}_out_acc")] = if held_out { ood.into() } else { iid.into() };
                    }
                    line
                };
                // The best step is 300; the seed changes o.o.d. accuracies by 0.02.
                let ood = 0.7 + bonus + 0.02 * f64::from(seed);
                let lines = |plus: f64| {
                    [line(0, 0.5, 0.4), line(300, 0.875 + bonus, ood + plus), line(10000, 0.75, 0.1)]
                };
                let folder = root.join(format!("{lr}_{seed}_{env}"));
                write(&folder, "results.jsonl", &lines(0.0));
                write(&folder, "swa300_results.jsonl", &lines(0.01));
                write(&folder, "ensemble300_results.jsonl", &lines(0.02));
                write(&folder, "done", &[]);
            }
        }
    }
}

#[test]
fn the_papers_own_runs_have_their_seeds_and_settings_as_axes_and_three_models() {
    let root = tempfile::tempdir().unwrap();
    authors_folders(root.path());
    let raw = read(root.path()).unwrap().runs;
    assert_eq!(raw.len(), 16);
    let sweep = imported(raw);
    let expected = json!({
        "algorithm": ["ERM"], "hparams_seed": [0.0], "lastlrfac": [1.0], "lr": [0.0005, 0.001], "pretrain_version": ["v2"],
        "resnet_dropout": [0.9], "weight_decay": [5e-5],
        "held_out": ["C", "L", "S", "V"], "seeds": [0, 1], "splits": [0],
    });
    assert_eq!(sweep.file("tag")["grid"], expected);
    let (_, records) = stored(&sweep);
    assert_eq!(records.len(), 16);
    for record in &records {
        // Per model three steps: `out` of three training domains, both splits of the held-out one.
        assert_eq!((record.validation.len(), record.held_out.len()), (3 * 3 * 3, 3 * 3 * 2));
        let bonus = if record.point.parameters["lr"] == Scalar::Number(0.0005.into()) { 0.04 } else { 0.0 };
        for (method, plus) in [(Method::Plain, 0.0), (Method::Average, 0.01), (Method::Ensemble, 0.02)] {
            let best = record.held_out.iter().find(|row| row.method == method && row.step == 300).unwrap();
            let ood = 0.7 + bonus + 0.02 * record.point.seed as f64;
            assert_eq!(best.accuracy().unwrap().to_bits(), (ood + plus).to_bits());
        }
    }
    // As in Sortie's own sweeps: the better setting of each seed, 74.0 and 76.0, and the other models in rows of their own.
    let text = tables_of(&sweep);
    let iid: Vec<&str> = text.lines().skip(2).take(5).collect();
    let [head, names, plain, average, ensemble] = iid.as_slice() else { panic!("{text}") };
    assert_eq!(*head, "-------- Dataset: VLCS, model selection method: training-domain validation set");
    assert!(names.starts_with("Algorithm             C                     L "), "{text}");
    assert!(plain.starts_with("ERM dropout 0.9       75.0 +/- 0.7          75.0 +/- 0.7 "), "{text}");
    assert!(average.starts_with("ERM dropout 0.9 aver  76.0 +/- 0.7 "), "{text}");
    assert!(ensemble.starts_with("ERM dropout 0.9 ense  77.0 +/- 0.7 "), "{text}");
    assert!(text.starts_with(&format!("Total records: {}\n", 3 * 3 * 16)), "{text}");
}

#[test]
fn more_of_the_papers_runs_have_the_same_axes() {
    let root = tempfile::tempdir().unwrap();
    authors_folders(root.path());
    let all = read(root.path()).unwrap().runs;
    let names = |grid: &Map<String, Value>| grid.keys().cloned().collect::<Vec<_>>();
    let whole = imported(all.clone()).file("tag")["grid"].as_object().unwrap().clone();
    // One command, one run: what it set is an axis already.
    let one = imported(vec![all[0].clone()]).file("tag")["grid"].as_object().unwrap().clone();
    assert_eq!((names(&one), &one["lr"]), (names(&whole), &json!([0.0005])));
}

#[test]
fn a_rate_that_a_domainbed_sweep_sets_is_no_part_of_its_algorithms_name() {
    let run = |hparams_seed: i64, dropout: f64| Run {
        name: hparams_seed.to_string(),
        algorithm: "ERM".to_owned(),
        dataset: "VLCS".to_owned(),
        test_envs: vec![0],
        hparams_seed,
        hparams: json!({ "resnet_dropout": dropout }).as_object().unwrap().clone(),
        set_hparams: ["resnet_dropout".to_owned()].into(),
        records: vec![Record { step: 0, in_acc: vec![dropout; 4], out_acc: vec![dropout; 4] }],
        ..Run::default()
    };
    // DomainBed chooses among its settings; where it cannot tell runs apart, rates are compared as everywhere else.
    let launched = vec![run(0, 0.5), run(1, 0.75)];
    assert_eq!(tables_of(&imported(launched.clone())), tables(&launched, &SelectionMethod::ALL));
    let by_hand = tables_of(&imported(vec![run(0, 0.5), run(0, 0.75)]));
    assert!(
        by_hand.contains("\nERM dropout 0.5   ") && by_hand.contains("\nERM dropout 0.75  "),
        "{by_hand}"
    );
}

/// A sweep of Sortie's own: two rates, two learning rates, two seeds, every domain and every pair, and the average along the trajectory.
fn own_sweep() -> (Work, Vec<TrialRecord>) {
    let work = work("PACS");
    let domains = work.domains().to_vec();
    let pairs = (0..4).flat_map(|a| (a..4).map(move |b| (a, b)));
    let held_out: Vec<String> = pairs
        .map(|(a, b)| if a == b { domains[a].clone() } else { format!("{}+{}", domains[a], domains[b]) })
        .collect();
    let mut records = Vec::new();
    for (number, held_out) in (0..).zip(&held_out) {
        for (dropout, lr, seed) in [0.0, 0.9]
            .into_iter()
            .flat_map(|dropout| [1e-3, 5e-4].map(|lr| (dropout, lr)))
            .flat_map(|(dropout, lr)| [3, 8].map(|seed| (dropout, lr, seed)))
        {
            let better = 50 * u64::from(dropout > 0.0) + 20 * u64::from(lr > 6e-4);
            let plus = 7 * number + 3 * seed + better;
            let mut record = succeeded(&work, point(held_out, dropout, lr, seed), 700 + plus, 500 + 2 * plus);
            let better = succeeded(&work, record.point.clone(), 710 + plus, 520 + 2 * plus);
            let average = |row: Evaluation| Evaluation { method: Method::Average, ..row };
            record.validation.extend(better.validation.into_iter().map(average));
            record.held_out.extend(better.held_out.into_iter().map(average));
            records.push(record);
        }
    }
    (work, records)
}

#[test]
fn what_was_exported_comes_back_as_the_same_tables() {
    let (work, records) = own_sweep();
    let folder = tempfile::tempdir().unwrap();
    let exported = runs(&work, &records, &Imported::default());
    assert_eq!(exported.len(), 2 * records.len());
    export(folder.path(), &exported).unwrap();
    let sweep = imported(read(folder.path()).unwrap().runs);
    let expected = json!({
        "algorithm": ["ERM"], "batch_size": [32.0], "head_lr_factor": [1.0], "hparams_seed": [0.0], "lr": [0.0005, 0.001],
        "resnet_dropout": [0.0, 0.9], "weight_decay": [0.0001],
        "held_out": ["art_painting", "cartoon", "photo", "sketch"], "seeds": [3, 8], "splits": [0],
    });
    let mut grid = sweep.file("tag")["grid"].clone();
    // The domains that are held out alone, and the pairs.
    assert_eq!(grid["held_out"].as_array().unwrap().len(), 4);
    grid["held_out"] = expected["held_out"].clone();
    assert_eq!(grid, expected);
    let (imported_work, imported_records) = stored(&sweep);
    assert_eq!((imported_records.len(), imported_work.domains()), (records.len(), work.domains()));
    for method in [Method::Plain, Method::Average] {
        for selection in [Selection::Iid, Selection::Loo, Selection::Oracle] {
            let table = |work: &Work, records: &[TrialRecord], by: &[&str]| {
                let by = by.iter().map(|axis| (*axis).into()).collect();
                let question = Question { selection, method, by, ..Question::default() };
                results("s", work, records, &question).unwrap().render(Format::Csv)
            };
            let ours = table(&work, &records, &["dropout", "lr"]);
            let theirs = table(&imported_work, &imported_records, &["resnet_dropout", "lr"]);
            assert_eq!(theirs.replace("resnet_dropout", "dropout"), ours, "{method} {selection}");
        }
    }
    assert_eq!(tables_of(&sweep), tables(&exported, &SelectionMethod::ALL));
    // Out again, it is the same files.
    let again = tempfile::tempdir().unwrap();
    export(again.path(), &runs(&imported_work, &imported_records, &Imported::default())).unwrap();
    let unnamed = |folder: &Path| {
        let mut runs = read(folder).unwrap().runs;
        // A folder is named after its trial, which is another one in the imported sweep.
        runs.iter_mut().for_each(|run| run.name.clear());
        let mut lines: Vec<String> = runs.iter().map(|run| format!("{run:?}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(unnamed(again.path()), unnamed(folder.path()));
}

#[test]
fn a_model_whose_plain_run_is_not_there_stays_a_run_of_its_own() {
    let (work, records) = own_sweep();
    let exported = runs(&work, &records[..1], &Imported::default());
    let alone = imported(vec![exported[1].clone()]);
    assert_eq!(alone.file("tag")["grid"]["algorithm"], json!(["ERM average"]));
    let mut line = short_keys(0, 0);
    line["args"]["sortie"] = json!({"algorithm": 7});
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("r"), "results.jsonl", &[line]);
    let error = read(root.path()).unwrap_err().to_string();
    assert!(error.contains("line 1: \"sortie\" in args is not what `sortie export` writes: "), "{error}");
}

fn record() -> impl Strategy<Value = Record> {
    let accuracies = || prop::collection::vec((0_u8..8).prop_map(|eighths| f64::from(eighths) / 8.0), 4);
    (0_i64..4, accuracies(), accuracies()).prop_map(|(hundreds, in_acc, out_acc)| Record {
        step: 100 * hundreds,
        in_acc,
        out_acc,
    })
}

/// Runs of which some restarted: a part of their steps comes again, with other accuracies, before they go on.
fn restarted_runs() -> impl Strategy<Value = Vec<Run>> {
    let envs = prop::sample::subsequence(vec![0_usize, 1, 2, 3], 0..=4);
    let key = (prop::sample::select(vec!["ERM", "IRM", "Mine"]), envs, 0_i64..2, 0_i64..2);
    let records = (prop::collection::vec(record(), 1..6), prop::collection::vec(record(), 0..4), 0_usize..4);
    prop::collection::btree_map(key, records, 1..40).prop_map(|runs| {
        let mut all = Vec::new();
        for ((algorithm, test_envs, trial_seed, hparams_seed), (mut records, mut again, restart)) in runs {
            records.sort_by_key(|record| record.step);
            records.dedup_by_key(|record| record.step);
            let rest = records.split_off(restart.min(records.len()));
            again.retain(|record| records.iter().any(|known| known.step == record.step));
            all.push(Run {
                name: format!("{algorithm} {test_envs:?} {trial_seed} {hparams_seed}"),
                algorithm: algorithm.to_owned(),
                dataset: "VLCS".to_owned(),
                test_envs,
                trial_seed,
                hparams_seed,
                records: [records, again, rest].concat(),
                ..Run::default()
            });
        }
        all
    })
}

proptest! {
    #[test]
    fn an_imported_sweep_has_the_tables_of_its_folders(runs in restarted_runs()) {
        let skips = |run: &&Run| !(1..=2).contains(&run.test_envs.len());
        let count = runs.iter().filter(skips).count();
        prop_assume!(count < runs.len());
        let sweep = imported(runs.clone());
        prop_assert_eq!(sweep.skipped(), count);
        prop_assert_eq!(tables_of(&sweep), tables(&runs, &SelectionMethod::ALL));
    }
}
