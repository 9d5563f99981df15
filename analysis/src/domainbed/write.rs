//! Run folders that DomainBed's collector reads.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::parse::ORIGIN;
use super::{Record, Run};

/// Writes a folder for each run below `root`, which is created. Fractions keep their last bit. Other models of a trajectory are runs of
/// their own in what [`super::runs`] makes, and are not written here.
///
/// # Errors
/// With the error of the system.
pub fn write(root: &Path, runs: &[Run]) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for run in runs {
        let folder = root.join(&run.name);
        fs::create_dir_all(&folder)?;
        // DomainBed's reader removes each line's last character, so the last line needs a line break too.
        let lines: String = run.records.iter().map(|record| format!("{}\n", line(run, record))).collect();
        fs::write(folder.join("results.jsonl"), lines)?;
        if run.done {
            fs::write(folder.join("done"), "done")?;
        }
    }
    Ok(())
}

fn line(run: &Run, record: &Record) -> Value {
    let Run { name, algorithm, dataset, test_envs, trial_seed, hparams_seed, seed, hparams, origin, .. } =
        run;
    let mut args = json!({
        "algorithm": algorithm,
        "dataset": dataset,
        "test_envs": test_envs,
        "trial_seed": trial_seed,
        "hparams_seed": hparams_seed,
        "hparams": null,
        "output_dir": name,
        "holdout_fraction": 0.2,
        "uda_holdout_fraction": 0,
        "task": "domain_generalization",
    });
    if let Some(seed) = seed {
        args["seed"] = (*seed).into();
    }
    if let Some(origin) = origin {
        args[ORIGIN] = json!(origin);
    }
    let mut fields = Map::new();
    fields.insert("args".to_owned(), args);
    fields.insert("hparams".to_owned(), Value::Object(hparams.clone()));
    fields.insert("step".to_owned(), record.step.into());
    for (split, accuracies) in [("in", &record.in_acc), ("out", &record.out_acc)] {
        for (env, accuracy) in accuracies.iter().enumerate() {
            fields.insert(format!("env{env}_{split}_acc"), json!(accuracy));
        }
    }
    Value::Object(fields)
}
