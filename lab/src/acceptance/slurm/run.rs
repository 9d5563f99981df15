//! The run of the sweep with its disturbances.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::super::descendants::DescendantKiller;
use super::array::JobArray;
use super::cluster::SlurmCluster;
use super::disturbance::{DISTURBANCES, Disturbance};
use super::summary::SlurmSummary;
use super::sweep::{self, SlurmSweep};
use crate::programs::{ProgramOptions, Programs, repository};

/// Workers in the array. Each runs one trial at a time.
const WORKERS: u32 = 4;
/// The limit of the sweep and its jobs, in steps of [`POLL`]: ten times what they need.
const POLLS_MAX: u32 = 900;
const POLL: Duration = Duration::from_millis(500);

/// Runs the sweep and prints a summary as one JSON object. Fails if a trial did not complete exactly once.
pub fn run(options: &ProgramOptions) -> Result<()> {
    let programs = Programs::find(options)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot listen to signals")?;
    }
    // The path is short, because the path of a Unix socket may have at most 107 bytes.
    let folder = tempfile::Builder::new()
        .prefix("sortie-slurm-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let outcome = run_in(folder.path(), &programs, &interrupted);
    if outcome.is_err() && !interrupted.load(Ordering::Relaxed) {
        eprintln!("the logs are kept in {}", folder.keep().display());
    }
    outcome
}

fn run_in(folder: &Path, programs: &Programs, interrupted: &AtomicBool) -> Result<()> {
    // Values are dropped in reverse order, so that this one kills what the others leave.
    let _killer = DescendantKiller::start()?;
    let sweep = SlurmSweep::submit(&programs.sortie, folder)?;
    let cluster = SlurmCluster::start(folder, WORKERS)?;
    let (data, cache) = (folder.join("data"), folder.join("cache"));
    for folder in [&data, &cache] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (data, cache) = (data.display().to_string(), cache.display().to_string());
    let mut worker = vec!["--coordinator", sweep.url(), "--sweep", sweep::NAME, "--allow-commands"];
    worker.extend(["--devices", "cpu", "--slots", "1", "--data", &data, "--cache", &cache]);
    let script = repository().join("deploy/slurm/submit.sh");
    let array = JobArray::submit(&cluster, &script, &programs.sortie, WORKERS, &worker, folder)?;
    let outcome = watch(&sweep, &cluster, &array, interrupted);
    if outcome.is_err() {
        // The first failure is reported; a failure to cancel adds nothing to it.
        let _ = array.cancel(&cluster).and_then(|()| wait_for_end(&cluster, &array));
    }
    outcome?;
    let summary =
        SlurmSummary::of(sweep.counts()?, &sweep.trials()?, &sweep.journal()?, array.tasks(&cluster)?);
    println!("{}", serde_json::to_string(&summary).context("cannot print the summary")?);
    summary.check(&DISTURBANCES)
}

/// Disturbs tasks when enough trials have succeeded, and waits until the jobs have ended.
fn watch(
    sweep: &SlurmSweep,
    cluster: &SlurmCluster,
    array: &JobArray,
    interrupted: &AtomicBool,
) -> Result<()> {
    let mut disturbances = DISTURBANCES.into_iter().peekable();
    for _ in 0..POLLS_MAX {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        cluster.check()?;
        let counts = sweep.counts()?;
        if let Some((_, disturbance, task)) = disturbances.next_if(|(after, ..)| counts.succeeded >= *after) {
            let before = array.task(cluster, task)?;
            ensure!(
                before.state == "RUNNING",
                "task {task} was to be disturbed while it runs, but its state is {}",
                before.state
            );
            eprintln!("{} of {} trials done; task {task}: {disturbance:?}", counts.succeeded, counts.planned);
            match disturbance {
                Disturbance::Requeue => array.requeue(cluster, task)?,
                Disturbance::Warn => array.warn(cluster, task)?,
            }
        }
        if array.has_ended(cluster)? {
            let ends = array
                .tasks(cluster)?
                .into_iter()
                .map(|task| format!("{} {} {}", task.task, task.state, task.exit_code));
            let ends = ends.collect::<Vec<_>>().join(", ");
            ensure!(
                disturbances.peek().is_none(),
                "the jobs ended before they could be disturbed, with {} trials done: {ends}",
                counts.succeeded
            );
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("the sweep and its jobs did not end within {} minutes", (POLL * POLLS_MAX).as_secs() / 60)
}

fn wait_for_end(cluster: &SlurmCluster, array: &JobArray) -> Result<()> {
    // Workers have a few seconds to return their trials, then Slurm kills them.
    for _ in 0..POLLS_MAX / 10 {
        if array.has_ended(cluster)? {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("the jobs did not end")
}
