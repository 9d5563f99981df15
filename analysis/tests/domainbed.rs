//! DomainBed's tables: those of a real sweep, and random ones beside a slow implementation that follows DomainBed's own text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use sortie_analysis::domainbed::{
    IMPORTED, MISSING, Record, Run, SelectionMethod, read, runs, tables, unshown, write,
};
use sortie_core::command::CommandSettings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::parameters::Scalar;
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
    assert_eq!((folders.runs.len(), folders.repeated, folders.torn), (40, 0, 0));
    assert!(folders.runs.iter().all(|run| run.done));
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
        trial_seed: 0,
        hparams_seed: 0,
        hparams: Default::default(),
        records,
        done: false,
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
    let found = runs(&work, &records);
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
    assert!(found[0].hparams["lr"] == 1e-3 && found[0].hparams["seed"] == 4);

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
        Work::Command(CommandSettings { command, dataset: Some("VLCS".into()), domains, steps: None })
    };
    let numbers = |name: &str, value: f64| (name.to_owned(), Scalar::Number(value));
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
    let found = runs(&command("train"), &records);
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
    let found = runs(&imported, &[succeeded(&imported, at, 900, 700)]);
    assert_eq!((found[0].algorithm.as_str(), found[0].hparams_seed, found[0].trial_seed), ("ERM", 7, 5));
    assert!(unshown(&imported).is_none() && unshown(&work("EmojiStyles")).unwrap().contains("does not know"));
    let fewer = Work::Command(CommandSettings {
        command: vec!["x".into()],
        dataset: Some("VLCS".into()),
        domains: vec!["L".into(), "V".into()],
        steps: None,
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

/// DomainBed's query library and selection methods, line by line, on records that each carry their run's arguments.
mod slow {
    use super::{Record, Run, SelectionMethod};

    pub struct Row<'a> {
        run: &'a Run,
        record: &'a Record,
    }

    pub fn rows<'a>(runs: &'a [Run]) -> Vec<Row<'a>> {
        runs.iter().flat_map(|run| run.records.iter().map(move |record| Row { run, record })).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        // Fewer than eight, which NumPy adds up in order.
        assert!(values.len() < 8);
        values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64
    }

    type Accs = Option<(f64, f64)>;

    fn argmax(accs: Vec<(f64, f64)>) -> Accs {
        let mut best: Accs = None;
        for acc in accs {
            if best.is_none_or(|best| acc.0 > best.0) {
                best = Some(acc);
            }
        }
        best
    }

    fn run_acc(method: SelectionMethod, rows: &[&Row<'_>], env: usize) -> Accs {
        let single: Vec<&&Row<'_>> = rows.iter().filter(|row| row.run.test_envs.len() == 1).collect();
        match method {
            SelectionMethod::Iid => argmax(
                single
                    .iter()
                    .map(|row| {
                        let mut accs = row.record.out_acc.clone();
                        accs.remove(env);
                        (mean(&accs), row.record.in_acc[env])
                    })
                    .collect(),
            ),
            SelectionMethod::Oracle => {
                let mut sorted = single;
                sorted.sort_by_key(|row| row.record.step);
                sorted.last().map(|row| (row.record.out_acc[env], row.record.in_acc[env]))
            }
            SelectionMethod::LeaveOneOut => {
                let mut steps: Vec<i64> = rows.iter().map(|row| row.record.step).collect();
                steps.sort_unstable();
                steps.dedup();
                let step_acc = |step: i64| {
                    let rows: Vec<_> = rows.iter().filter(|row| row.record.step == step).collect();
                    let tests: Vec<_> = rows.iter().filter(|row| row.run.test_envs.len() == 1).collect();
                    if tests.len() != 1 {
                        return None;
                    }
                    let mut accs = vec![-1.0; rows[0].record.out_acc.len()];
                    for row in rows.iter().filter(|row| row.run.test_envs.len() == 2) {
                        let other = if row.run.test_envs[0] == env {
                            row.run.test_envs[1]
                        } else {
                            row.run.test_envs[0]
                        };
                        accs[other] = row.record.in_acc[other];
                    }
                    accs.remove(env);
                    if accs.iter().any(|acc| *acc == -1.0) {
                        return None;
                    }
                    Some((
                        accs.iter().fold(0.0, |sum, acc| sum + acc) / accs.len() as f64,
                        tests[0].record.in_acc[env],
                    ))
                };
                argmax(steps.into_iter().filter_map(step_acc).collect())
            }
        }
    }

    /// The accuracies behind one cell: (trial seed, accuracy) by first appearance.
    pub fn cell(
        method: SelectionMethod,
        rows: &[Row<'_>],
        dataset: &str,
        algorithm: &str,
        env: usize,
    ) -> Vec<(i64, f64)> {
        let mut trials: Vec<i64> = Vec::new();
        let group: Vec<&Row<'_>> = rows
            .iter()
            .filter(|row| {
                row.run.dataset == dataset
                    && row.run.algorithm == algorithm
                    && row.run.test_envs.contains(&env)
            })
            .collect();
        for row in &group {
            if !trials.contains(&row.run.trial_seed) {
                trials.push(row.run.trial_seed);
            }
        }
        let sweep_acc = |trial: i64| {
            let mut seeds: Vec<i64> = group
                .iter()
                .filter(|row| row.run.trial_seed == trial)
                .map(|row| row.run.hparams_seed)
                .collect();
            seeds.sort_unstable();
            seeds.dedup();
            let mut accs: Vec<(f64, f64)> = Vec::new();
            for seed in seeds {
                let of_seed: Vec<&Row<'_>> = group
                    .iter()
                    .copied()
                    .filter(|row| row.run.trial_seed == trial && row.run.hparams_seed == seed)
                    .collect();
                accs.extend(run_acc(method, &of_seed, env));
            }
            accs.sort_by(|a, b| a.0.total_cmp(&b.0));
            accs.last().map(|acc| acc.1)
        };
        trials.into_iter().filter_map(|trial| Some((trial, sweep_acc(trial)?))).collect()
    }

    pub fn format(values: &[f64]) -> (Option<f64>, String) {
        if values.is_empty() {
            return (None, "X".into());
        }
        let n = values.len() as f64;
        let scaled: Vec<f64> = values.iter().map(|value| value / n.sqrt()).collect();
        let centre = mean(&scaled);
        let variance = mean(&scaled.iter().map(|value| (value - centre).powi(2)).collect::<Vec<_>>());
        (
            Some(100.0 * mean(values)),
            format!("{:.1} +/- {:.1}", 100.0 * mean(values), 100.0 * variance.sqrt()),
        )
    }

    pub fn average(cells: &[(Option<f64>, String)]) -> String {
        let means: Option<Vec<f64>> = cells.iter().map(|cell| cell.0).collect();
        means.map_or("X".into(), |means| {
            format!("{:.1}", means.iter().fold(0.0, |sum, mean| sum + mean) / means.len() as f64)
        })
    }

    pub fn line(cells: Vec<String>, width: usize) -> String {
        let cells: Vec<String> =
            cells.iter().map(|cell| format!("{cell:<width$}").chars().take(width).collect()).collect();
        cells.join("  ") + " \n"
    }

    pub fn trial_averages(
        method: SelectionMethod,
        rows: &[Row<'_>],
        dataset: &str,
        algorithm: &str,
    ) -> Vec<f64> {
        // Groups in the order in which records name them.
        let mut groups: Vec<(i64, usize)> = Vec::new();
        for row in rows.iter().filter(|row| row.run.dataset == dataset && row.run.algorithm == algorithm) {
            for &env in &row.run.test_envs {
                if !groups.contains(&(row.run.trial_seed, env)) {
                    groups.push((row.run.trial_seed, env));
                }
            }
        }
        let mut trials: Vec<i64> = groups.iter().map(|group| group.0).collect();
        trials.sort_unstable();
        trials.dedup();
        let of = |trial: i64, env: usize| {
            cell(method, rows, dataset, algorithm, env)
                .into_iter()
                .find(|(found, _)| *found == trial)
                .map(|(_, accuracy)| accuracy)
        };
        let averages = trials.into_iter().map(|trial| {
            let accs: Vec<f64> = groups
                .iter()
                .filter(|group| group.0 == trial)
                .filter_map(|group| of(trial, group.1))
                .collect();
            (!accs.is_empty()).then(|| mean(&accs))
        });
        averages.flatten().collect()
    }
}

const SETS: [(&str, &[&str]); 2] = [("VLCS", &["C", "L", "S", "V"]), ("PACS", &["A", "C", "P", "S"])];
const ALGORITHMS: [&str; 3] = ["ERM", "IRM", "Mine"];

fn slow_tables(runs: &[Run]) -> String {
    let rows = slow::rows(runs);
    let mut text = format!("Total records: {}\n", rows.len());
    let present = |name: &str| runs.iter().any(|run| run.algorithm == name && !run.records.is_empty());
    let algorithms: Vec<&str> = ALGORITHMS.into_iter().filter(|name| present(name)).collect();
    let sets: Vec<_> = SETS
        .into_iter()
        .filter(|(set, _)| runs.iter().any(|run| run.dataset == *set && !run.records.is_empty()))
        .collect();
    for method in SelectionMethod::ALL {
        let mut print = |head: String, columns: Vec<String>, body: Vec<Vec<String>>, width: usize| {
            text += &format!("\n-------- {head}, model selection method: {}\n", method.title());
            text += &slow::line(columns, width);
            body.into_iter().for_each(|row| text += &slow::line(row, width));
        };
        for (set, labels) in &sets {
            let body = algorithms.iter().map(|algorithm| {
                let accs = |env| {
                    slow::cell(method, &rows, set, algorithm, env)
                        .into_iter()
                        .map(|(_, accuracy)| accuracy)
                        .collect::<Vec<_>>()
                };
                let cells: Vec<_> = (0..4).map(|env| slow::format(&accs(env))).collect();
                let average = slow::average(&cells);
                [(*algorithm).to_owned()]
                    .into_iter()
                    .chain(cells.into_iter().map(|cell| cell.1))
                    .chain([average])
                    .collect()
            });
            let columns = ["Algorithm"]
                .iter()
                .chain(*labels)
                .chain(&["Avg"])
                .map(|label| (*label).to_owned())
                .collect();
            print(format!("Dataset: {set}"), columns, body.collect(), 20);
        }
        if sets.is_empty() {
            continue;
        }
        let body = algorithms.iter().map(|algorithm| {
            let cells: Vec<_> = sets
                .iter()
                .map(|(set, _)| slow::format(&slow::trial_averages(method, &rows, set, algorithm)))
                .collect();
            let average = slow::average(&cells);
            [(*algorithm).to_owned()]
                .into_iter()
                .chain(cells.into_iter().map(|cell| cell.1))
                .chain([average])
                .collect()
        });
        let columns = ["Algorithm"]
            .into_iter()
            .chain(sets.iter().map(|(set, _)| *set))
            .chain(["Avg"])
            .map(str::to_owned)
            .collect();
        print("Averages".into(), columns, body.collect(), 25);
    }
    text
}

/// Coarse values, so that ties are common.
fn accuracy() -> impl Strategy<Value = f64> {
    (0..8_u32).prop_map(|eighths| f64::from(eighths) / 8.0)
}

fn run() -> impl Strategy<Value = Run> {
    let record = (0..4_i64, vec(accuracy(), 4), vec(accuracy(), 4))
        .prop_map(|(step, in_acc, out_acc)| Record { step, in_acc, out_acc });
    let envs = (0..4_usize, 0..4_usize, any::<bool>()).prop_map(|(a, b, pair)| {
        let mut envs = if pair { vec![a, b] } else { vec![a] };
        envs.sort_unstable();
        envs.dedup();
        envs
    });
    let names = (0..SETS.len(), 0..ALGORITHMS.len());
    (names, envs, 0..3_i64, 0..3_i64, vec(record, 0..4)).prop_map(
        |((set, algorithm), test_envs, trial_seed, hparams_seed, mut records)| {
            // A reader lets no step of a run count twice.
            records.sort_by_key(|record| record.step);
            records.dedup_by_key(|record| record.step);
            let (algorithm, dataset) = (ALGORITHMS[algorithm].to_owned(), SETS[set].0.to_owned());
            Run {
                name: String::new(),
                algorithm,
                dataset,
                test_envs,
                trial_seed,
                hparams_seed,
                hparams: Default::default(),
                records,
                done: true,
            }
        },
    )
}

/// Every held-out domain and every pair once, for the seeds of one algorithm: what leave-one-domain-out needs.
fn whole_sweep() -> impl Strategy<Value = Vec<Run>> {
    let pairs = (0..4_usize).flat_map(|a| (a..4).map(move |b| if a == b { vec![a] } else { vec![a, b] }));
    let coordinates: Vec<_> = pairs
        .flat_map(|envs| {
            (0..2_i64).flat_map(move |trial| {
                (0..2_i64).map({
                    let envs = envs.clone();
                    move |hparams| (envs.clone(), trial, hparams)
                })
            })
        })
        .collect();
    let count = coordinates.len();
    let records = vec(vec(accuracy(), 16), count);
    (records, vec(0..20_u32, count)).prop_map(move |(values, missing)| {
        let runs = coordinates.iter().zip(values).zip(missing).filter(|(_, missing)| *missing > 0);
        runs.map(|(((test_envs, trial_seed, hparams_seed), values), _)| {
            let records = values.chunks(8).zip(0..).map(|(values, step)| Record {
                step,
                in_acc: values[..4].to_vec(),
                out_acc: values[4..].to_vec(),
            });
            let (algorithm, dataset, test_envs) = ("ERM".to_owned(), "VLCS".to_owned(), test_envs.clone());
            Run {
                name: String::new(),
                algorithm,
                dataset,
                test_envs,
                trial_seed: *trial_seed,
                hparams_seed: *hparams_seed,
                hparams: Default::default(),
                records: records.collect(),
                done: true,
            }
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_records_give_what_the_slow_implementation_gives(runs in vec(run(), 0..40)) {
        prop_assert_eq!(tables(&runs, &SelectionMethod::ALL), slow_tables(&runs));
    }

    #[test]
    fn so_do_sweeps_with_all_pairs_but_a_few(runs in whole_sweep()) {
        prop_assert_eq!(tables(&runs, &SelectionMethod::ALL), slow_tables(&runs));
    }
}
