//! Runs of other programs as sweeps of Sortie's: one for each dataset.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::command::BUILT_IN;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::spec::{FurtherRecord, FurtherRecords, Imported, SkippedRun};
use sortie_core::split::seed_hash_of_text;
use sortie_core::trial::Point;

use super::exported::as_trials;
use super::registry::{domain_names, folder_of};
use super::run::SortedRecords;
use super::trials::{ALGORITHM, HPARAMS_SEED, IMPORTED, LACKING};
use super::{MISSING, Record, Run};

/// Why runs cannot become a sweep.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// One of them is no trial.
    #[error("run {run} has {problem}")]
    Run {
        /// Its name.
        run: String,
        /// What it has, and what is allowed.
        problem: String,
    },
    /// Nothing tells two of them apart.
    #[error(
        "runs {first} and {second} have the same algorithm, hyper-parameters, seeds and held-out domains"
    )]
    Same {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// Two hyper-parameters would be the same axis.
    #[error("the hyper-parameters {first:?} and {second:?} would both be the axis {axis}")]
    SameAxis {
        /// The axis.
        axis: String,
        /// One hyper-parameter.
        first: String,
        /// The other.
        second: String,
    },
    /// All of them were skipped.
    #[error("none of the {runs} runs on {dataset} holds out one or two domains")]
    Nothing {
        /// The dataset.
        dataset: String,
        /// How many there are.
        runs: usize,
    },
}

/// The runs of one dataset, as trials of a sweep.
#[derive(Clone, Debug)]
pub struct ImportedSweep {
    /// Its name.
    pub name: String,
    dataset: String,
    domains: Vec<String>,
    runs: BTreeMap<PointKey, Run>,
    skipped: Vec<Run>,
}

/// A point that can be compared.
type PointKey = (Parameters, Vec<String>, u64, u64);

impl ImportedSweep {
    /// Makes trials of the runs of one dataset. `known_axes` are those of the sweep if it is there already: hyper-parameters that are axes
    /// stay axes.
    ///
    /// # Errors
    /// [`ImportError`] names the runs.
    pub fn of(
        name: &str,
        dataset: &str,
        runs: Vec<Run>,
        known_axes: &BTreeSet<String>,
    ) -> Result<Self, ImportError> {
        let count = runs.len();
        let runs = as_trials(runs);
        let (runs, skipped): (Vec<Run>, Vec<Run>) =
            runs.into_iter().partition(|run| (1..=2).contains(&run.test_envs.len()));
        if runs.is_empty() {
            return Err(ImportError::Nothing { dataset: dataset.to_owned(), runs: count });
        }
        runs.iter().try_for_each(check)?;
        let domains = domains(dataset, &runs);
        let axes = axes(&runs, known_axes)?;
        let mut placed: BTreeMap<PointKey, Run> = BTreeMap::new();
        for run in runs {
            let second = run.name.clone();
            if let Some(first) = placed.insert(point_of(&run, &axes, &domains), run) {
                return Err(ImportError::Same { first: first.name, second });
            }
        }
        Ok(Self { name: name.to_owned(), dataset: dataset.to_owned(), domains, runs: placed, skipped })
    }

    /// The sweep file that plans these runs, to be written as TOML. Its command exists nowhere. `tag` keeps workers from its trials.
    pub fn file(&self, tag: &str) -> Value {
        let mut axes: BTreeMap<&str, BTreeSet<&Scalar>> = BTreeMap::new();
        for (name, value) in self.runs.keys().flat_map(|(parameters, ..)| parameters) {
            axes.entry(name).or_default().insert(value);
        }
        let mut grid = json!(axes);
        let held_out: BTreeSet<&String> = self.runs.keys().flat_map(|(_, held_out, ..)| held_out).collect();
        grid["held_out"] = json!(held_out);
        grid["seeds"] = json!(self.runs.keys().map(|(_, _, seed, _)| seed).collect::<BTreeSet<_>>());
        grid["splits"] = json!(self.runs.keys().map(|(.., split)| split).collect::<BTreeSet<_>>());
        let pairs = self.runs.keys().any(|(_, held_out, ..)| held_out.len() == 2);
        json!({
            "name": self.name,
            "select": if pairs { ["iid", "loo", "oracle"].as_slice() } else { ["iid", "oracle"].as_slice() },
            // The sweep's name is part of its trials' ids, because DomainBed's seeds do not identify what was run.
            "run": { "command": [IMPORTED, self.name] },
            "data": { "dataset": folder_of(&self.dataset), "domains": self.domains },
            "require": { "tags": [tag] },
            "grid": grid,
        })
    }

    /// What the runs have that their trials do not hold. Of runs that are imported already nothing changes.
    pub fn notes(&self, is_imported: impl Fn(&Run) -> bool) -> Imported {
        let mut further = Vec::new();
        for (point, run) in self.trials() {
            if is_imported(run) {
                continue;
            }
            for (method, records) in run.models() {
                let records: Vec<FurtherRecord> =
                    SortedRecords::of(records).further.into_iter().map(further_record).collect();
                if !records.is_empty() {
                    further.push(FurtherRecords { point: point.clone(), method, records });
                }
            }
        }
        let skipped = |run: &Run| SkippedRun {
            name: run.name.clone(),
            algorithm: run.algorithm.clone(),
            records: run.records.len() as u64,
        };
        Imported { skipped: self.skipped.iter().map(skipped).collect(), further }
    }

    /// The run of a trial; none if there is none.
    pub fn run_at(&self, point: &Point) -> Option<&Run> {
        let Point { held_out, parameters, seed, split_seed } = point.clone();
        self.runs.get(&(parameters, held_out, seed, split_seed))
    }

    /// The trials, with their runs.
    pub fn trials(&self) -> impl ExactSizeIterator<Item = (Point, &Run)> {
        self.runs.iter().map(|(key, run)| (point(key), run))
    }

    /// How many runs are none.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// The results of a run.
    pub fn evaluations(&self, run: &Run) -> Vec<Evaluation> {
        let mut evaluations = Vec::new();
        for (method, records) in run.models() {
            for record in SortedRecords::of(records).evaluations {
                self.add_evaluations(method, record, &mut evaluations);
            }
        }
        evaluations
    }

    fn add_evaluations(&self, method: Method, record: &Record, evaluations: &mut Vec<Evaluation>) {
        let step = u64::try_from(record.step).unwrap_or_default();
        for (split, accuracies) in [(SplitName::In, &record.in_acc), (SplitName::Out, &record.out_acc)] {
            let measured = self.domains.iter().zip(accuracies).filter(|(_, value)| **value != MISSING);
            evaluations.extend(measured.map(|(domain, &value)| Evaluation {
                method,
                step,
                domain: domain.clone(),
                split,
                score: Some(Score::Value { value, n: 0 }),
                loss: None,
                metrics: Default::default(),
                seconds: None,
            }));
        }
    }
}

/// The largest whole number up to which each is a number on an axis of its own.
const HPARAMS_SEED_MAX: i64 = 1 << 53;

fn check(run: &Run) -> Result<(), ImportError> {
    let wrong = |problem: String| Err(ImportError::Run { run: run.name.clone(), problem });
    let Run { trial_seed, hparams_seed, seed, algorithm, .. } = run;
    if *trial_seed < 0 || *hparams_seed < 0 || seed.is_some_and(|seed| seed < 0) {
        let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
        return wrong(format!(
            "trial_seed {trial_seed}, hparams_seed {hparams_seed}{seed}; allowed: seeds from 0"
        ));
    }
    if *hparams_seed > HPARAMS_SEED_MAX {
        return wrong(format!("hparams_seed {hparams_seed}; allowed: at most {HPARAMS_SEED_MAX}"));
    }
    // Conditions of users name runs by their algorithm.
    if algorithm.is_empty()
        || algorithm != algorithm.trim()
        || algorithm.contains(" and ")
        || algorithm.contains(char::is_control)
    {
        return wrong(format!(
            "the algorithm {algorithm:?}; allowed: names without \" and \", and without spaces at their ends"
        ));
    }
    Ok(())
}

/// The names of the domains: those of the sweep that was exported, if all runs agree on them, else DomainBed's labels.
fn domains(dataset: &str, runs: &[Run]) -> Vec<String> {
    let count = runs.iter().map(envs).max().unwrap_or(0);
    let mut origins = runs.iter().map(|run| run.origin.as_ref().map(|origin| &origin.domains));
    let first = origins.next().flatten().filter(|domains| domains.len() >= count);
    match first {
        // A sweep file has its domains sorted, and records count them in that order.
        Some(first) if first.is_sorted_by(|a, b| a < b) && origins.all(|domains| domains == Some(first)) => {
            first.clone()
        }
        _ => domain_names(dataset, count),
    }
}

/// How many domains a run knows of.
fn envs(run: &Run) -> usize {
    let records = run.models().flat_map(|(_, records)| records).map(|record| record.in_acc.len());
    records.chain(run.test_envs.iter().map(|env| env + 1)).max().unwrap_or(0)
}

/// The hyper-parameters that are axes, by the names of these axes: what somebody set, and that in which runs differ that DomainBed would
/// take for one. It draws the others by `hparams_seed`.
fn axes(runs: &[Run], known_axes: &BTreeSet<String>) -> Result<BTreeMap<String, String>, ImportError> {
    let all: BTreeSet<&String> = runs.iter().flat_map(|run| run.hparams.keys()).collect();
    let mut names: BTreeSet<&String> =
        all.iter().copied().filter(|name| known_axes.contains(&axis_name(name))).collect();
    names.extend(runs.iter().flat_map(|run| &run.set_hparams).filter(|name| all.contains(name)));
    let mut first_of = BTreeMap::new();
    for run in runs {
        let same = (&run.algorithm, run.hparams_seed, run.trial_seed, &run.test_envs);
        let first: &Run = first_of.entry(same).or_insert(run);
        let differs = |name: &&String| run.hparams.get(name.as_str()) != first.hparams.get(name.as_str());
        names.extend(all.iter().copied().filter(differs));
    }
    let mut axes = BTreeMap::new();
    for name in names {
        let axis = axis_name(name);
        if let Some(first) = axes.insert(axis.clone(), name.clone()) {
            return Err(ImportError::SameAxis { axis, first, second: name.clone() });
        }
    }
    // An axis of an earlier import that no run here has.
    let own = [ALGORITHM, HPARAMS_SEED];
    for axis in known_axes.iter().filter(|axis| !own.contains(&axis.as_str())) {
        axes.entry(axis.clone()).or_insert_with(|| axis.clone());
    }
    Ok(axes)
}

/// A hyper-parameter's name as that of an axis.
fn axis_name(hparam: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = hparam.chars().map(plain).collect();
    let others = [ALGORITHM, HPARAMS_SEED, COMBINE, MEMBERS, "seeds", "splits"];
    if BUILT_IN.iter().chain(&others).any(|taken| *taken == name) { format!("{name}_hparam") } else { name }
}

fn point_of(run: &Run, axes: &BTreeMap<String, String>, domains: &[String]) -> PointKey {
    let mut parameters: Parameters =
        axes.iter().map(|(axis, name)| (axis.clone(), scalar(run.hparams.get(name)))).collect();
    parameters.insert(ALGORITHM.to_owned(), Scalar::Text(run.algorithm.clone()));
    parameters.insert(HPARAMS_SEED.to_owned(), Scalar::Number((run.hparams_seed as f64).into()));
    let held_out = run.test_envs.iter().filter_map(|&env| domains.get(env).cloned()).collect();
    (parameters, held_out, seed(run), run.trial_seed.unsigned_abs())
}

fn point((parameters, held_out, seed, split_seed): &PointKey) -> Point {
    Point { held_out: held_out.clone(), parameters: parameters.clone(), seed: *seed, split_seed: *split_seed }
}

/// The seed of a run. DomainBed's launcher makes it of what else the run has, so that it tells nothing apart: 0.
fn seed(run: &Run) -> u64 {
    let Run { dataset, algorithm, test_envs, hparams_seed, trial_seed, .. } = run;
    let launched = seed_hash_of_text(&format!(
        "('{dataset}', '{algorithm}', {test_envs:?}, {hparams_seed}, {trial_seed})"
    ));
    run.seed.filter(|seed| *seed != i64::from(launched)).map_or(0, i64::unsigned_abs)
}

/// A hyper-parameter as a value on an axis: `-` for a run that has none; what is no number, text or flag as its JSON.
fn scalar(value: Option<&Value>) -> Scalar {
    match value {
        None => Scalar::Text(LACKING.to_owned()),
        Some(Value::Bool(flag)) => Scalar::Flag(*flag),
        Some(Value::String(text)) => Scalar::Text(text.clone()),
        // Refuses whole numbers that are no exact float.
        Some(other) => {
            serde_json::from_value(other.clone()).unwrap_or_else(|_| Scalar::Text(other.to_string()))
        }
    }
}

fn further_record((place, record): (usize, &Record)) -> FurtherRecord {
    let Record { step, in_acc, out_acc } = record.clone();
    FurtherRecord { place, step, in_acc, out_acc }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, test_envs: &[usize], seed: i64, hparams: Value) -> Run {
        let record = |step| Record { step, in_acc: vec![MISSING, 0.5, 0.5], out_acc: vec![0.25; 3] };
        Run {
            name: name.to_owned(),
            algorithm: "ERM".to_owned(),
            dataset: "Mine".to_owned(),
            test_envs: test_envs.to_vec(),
            seed: Some(seed),
            hparams: hparams.as_object().unwrap().clone(),
            records: vec![record(0), record(300)],
            ..Run::default()
        }
    }

    fn sweep(runs: Vec<Run>) -> Result<ImportedSweep, ImportError> {
        ImportedSweep::of("theirs", "Mine", runs, &BTreeSet::new())
    }

    #[test]
    fn what_differs_between_runs_that_domainbed_would_mix_is_an_axis() {
        let runs = || {
            let mut runs = Vec::new();
            for (number, (seed, lr)) in [(0, 0.001), (0, 5e-5), (1, 0.001), (1, 5e-5)].into_iter().enumerate()
            {
                for env in 0..3 {
                    let hparams =
                        json!({"lr": lr, "steps": 300, "milestones": [1, 2], "Batch size": 32, "bn": true});
                    runs.push(run(&format!("{number}-{env}"), &[env], seed, hparams));
                }
            }
            runs
        };
        let made = sweep(runs()).unwrap();
        let grid = &made.file("tag")["grid"];
        assert_eq!(
            *grid,
            json!({
                "algorithm": ["ERM"], "hparams_seed": [0.0], "lr": [5e-5, 0.001], "held_out": ["env0", "env1", "env2"],
                "seeds": [0, 1], "splits": [0],
            })
        );
        let (point, run) = made.trials().next().unwrap();
        assert_eq!((made.run_at(&point), run.name.as_str()), (Some(run), "1-0"));
        assert_eq!((made.trials().len(), made.skipped()), (12, 0));
        // What the command line set is an axis even if it is the same everywhere.
        let mut set = runs();
        set[0].set_hparams = ["Batch size", "steps", "milestones", "bn", "unknown"].map(str::to_owned).into();
        let grid = sweep(set).unwrap().file("tag")["grid"].clone();
        assert_eq!(
            (&grid["batch_size"], &grid["steps_hparam"], &grid["milestones"], &grid["bn"], &grid["unknown"]),
            (&json!([32.0]), &json!([300.0]), &json!(["[1,2]"]), &json!([true]), &Value::Null)
        );
        // So is what was an axis before, also if no run has it any more.
        let known = ["lr", "batch_size", "hparams_seed", "gone"].map(str::to_owned).into();
        let alone = ImportedSweep::of("theirs", "Mine", runs()[..3].to_vec(), &known).unwrap();
        let grid = alone.file("tag")["grid"].clone();
        assert_eq!(
            (&grid["lr"], &grid["batch_size"], &grid["gone"]),
            (&json!([0.001]), &json!([32.0]), &json!(["-"]))
        );
        // A run that lacks a hyper-parameter has a value of its own.
        let mut one = runs();
        one[3].hparams.remove("bn");
        assert_eq!(sweep(one).unwrap().file("tag")["grid"]["bn"], json!([true, "-"]));
    }

    #[test]
    fn a_seed_that_domainbeds_launcher_made_is_no_axis() {
        // seed_hash('VLCS', 'ERM', [0], 0, 0); the hyper-parameters of the other seed differ, which makes no axis.
        let launched = Run { dataset: "VLCS".into(), ..run("a", &[0], 1_721_972_278, json!({"lr": 1})) };
        let other = Run { hparams_seed: 1, seed: Some(7), ..launched.clone() };
        let other = Run { name: "b".into(), hparams: json!({"lr": 2}).as_object().unwrap().clone(), ..other };
        let made = ImportedSweep::of("theirs", "VLCS", vec![launched, other], &BTreeSet::new()).unwrap();
        let grid = &made.file("tag")["grid"];
        assert_eq!(
            (&grid["seeds"], &grid["hparams_seed"], &grid["lr"]),
            (&json!([0, 7]), &json!([0.0, 1.0]), &Value::Null)
        );
    }

    #[test]
    fn runs_that_are_no_trials_are_skipped_or_refused_by_name() {
        let all = || vec![run("none", &[], 0, json!({})), run("three", &[0, 1, 2], 0, json!({}))];
        let error = sweep(all()).unwrap_err().to_string();
        assert_eq!(error, "none of the 2 runs on Mine holds out one or two domains");
        let mut runs = all();
        runs.push(run("pair", &[0, 2], 0, json!({})));
        let made = sweep(runs.clone()).unwrap();
        assert_eq!((made.trials().len(), made.skipped()), (1, 2));
        assert_eq!(made.file("tag")["select"], json!(["iid", "loo", "oracle"]));
        let notes = made.notes(|_| false);
        let skipped: Vec<_> = notes.skipped.iter().map(|run| (run.name.as_str(), run.records)).collect();
        assert_eq!((skipped, notes.further.len()), (vec![("none", 2), ("three", 2)], 0));
        runs.push(Run { name: "again".into(), ..runs[2].clone() });
        let error = sweep(runs.clone()).unwrap_err().to_string();
        assert!(error.starts_with("runs pair and again have the same "), "{error}");
        runs.pop();
        runs.extend([
            run("x", &[0], 0, json!({"lr": 1, "LR": 2})),
            run("y", &[0], 0, json!({"lr": 2, "LR": 1})),
        ]);
        let error = sweep(runs.clone()).unwrap_err().to_string();
        assert_eq!(error, "the hyper-parameters \"LR\" and \"lr\" would both be the axis lr");
        for (broken, part) in [
            (
                Run { trial_seed: -1, ..runs[2].clone() },
                "run pair has trial_seed -1, hparams_seed 0, seed 0; allowed: ",
            ),
            (Run { seed: Some(-2), ..runs[2].clone() }, "seed -2; allowed: seeds from 0"),
            (
                Run { algorithm: "A and B".into(), ..runs[2].clone() },
                "run pair has the algorithm \"A and B\"; allowed: ",
            ),
        ] {
            let error = sweep(vec![broken]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn records_that_repeat_a_step_or_measure_nothing_are_noted_with_their_places() {
        let mut repeats = run("repeats", &[0], 0, json!({}));
        let nothing = Record { step: 600, in_acc: vec![MISSING; 3], out_acc: vec![MISSING; 3] };
        let again = Record { in_acc: vec![0.75; 3], ..repeats.records[0].clone() };
        repeats.records.extend([nothing.clone(), again.clone()]);
        repeats.others.insert(Method::Average, vec![again.clone(), again.clone()]);
        let made = sweep(vec![repeats, run("clean", &[1], 0, json!({}))]).unwrap();
        let notes = made.notes(|_| false);
        let found: Vec<_> = notes
            .further
            .iter()
            .map(|records| {
                (records.method, records.records.iter().map(|record| record.place).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(found, [(Method::Plain, vec![2, 3]), (Method::Average, vec![1])]);
        assert_eq!(notes.further[0].records[1].in_acc, again.in_acc);
        let run = made.run_at(&notes.further[0].point).unwrap();
        let evaluations = made.evaluations(run);
        // Two steps of the plain model with five accuracies each, one of the average with six.
        assert_eq!(evaluations.len(), 2 * 5 + 6);
        assert_eq!(
            (evaluations[0].step, evaluations[0].domain.as_str(), evaluations[0].accuracy()),
            (0, "env1", Some(0.5))
        );
        // What is imported already stays as it is.
        assert!(made.notes(|run| run.name == "repeats").is_empty());
    }
}
