//! DomainBed's tables of random records, compared with a slow implementation that follows DomainBed's own text.

use proptest::collection::vec;
use proptest::prelude::*;
use sortie_analysis::domainbed::{Record, Run, SelectionMethod, tables};

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
        |((set, algorithm), test_envs, trial_seed, hparams_seed, records)| {
            // A run that restarted has some steps twice.
            let (algorithm, dataset) = (ALGORITHMS[algorithm].to_owned(), SETS[set].0.to_owned());
            Run { algorithm, dataset, test_envs, trial_seed, hparams_seed, records, ..Run::default() }
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
                algorithm,
                dataset,
                test_envs,
                trial_seed: *trial_seed,
                hparams_seed: *hparams_seed,
                records: records.collect(),
                ..Run::default()
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
