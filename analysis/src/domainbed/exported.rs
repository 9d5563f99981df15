//! Runs that Sortie exported, on their way back.

use std::collections::BTreeMap;

use serde_json::Value;
use sortie_core::metrics::Method;

use super::run::{Origin, Run};

/// Runs that `sortie export` wrote as the trials that they were: the other models of a trajectory go back to its run.
pub(super) fn as_trials(runs: Vec<Run>) -> Vec<Run> {
    let (mut trials, mut others, mut places) = (Vec::new(), Vec::new(), BTreeMap::new());
    for run in runs {
        let Some((method, trial)) = original(&run) else {
            trials.push(run);
            continue;
        };
        if method == Method::Plain {
            places.entry(trial_key(&trial)).or_insert(trials.len());
            trials.push(trial);
        } else {
            others.push((method, trial, run));
        }
    }
    for (method, trial, run) in others {
        match places.get(&trial_key(&trial)).map(|&place| &mut trials[place]) {
            Some(plain) if !plain.others.contains_key(&method) => {
                plain.done &= trial.done;
                plain.others.insert(method, trial.records);
            }
            // Without its plain model, it is what it is to DomainBed.
            _ => trials.push(run),
        }
    }
    trials
}

/// The trial that a run was, and which model of it the run is; none for a run of other programs.
fn original(run: &Run) -> Option<(Method, Run)> {
    let Origin { algorithm, hparams_seed, split, method, .. } = run.origin.clone()?;
    let set_hparams = run.hparams.keys().cloned().collect();
    Some((method, Run { algorithm, hparams_seed, trial_seed: split, set_hparams, ..run.clone() }))
}

/// What all models of a trial's trajectory have in common.
fn trial_key(run: &Run) -> (String, Vec<usize>, i64, i64, Option<i64>, String) {
    let Run { algorithm, test_envs, trial_seed, hparams_seed, seed, hparams, .. } = run;
    let hparams = Value::Object(hparams.clone()).to_string();
    (algorithm.clone(), test_envs.clone(), *trial_seed, *hparams_seed, *seed, hparams)
}
