//! `sortie-lab acceptance slurm`: a sweep on a Slurm cluster survives requeues.

mod array;
mod cluster;
mod sweep;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use array::Array;
use cluster::Cluster;
use sweep::Sweep;

use super::offspring::Offspring;
use crate::programs::{Options, Programs, repository};

/// Workers in the array, each with one trial at a time.
const WORKERS: u32 = 4;
/// How long the sweep and its jobs may take, in steps of [`POLL`]: ten times what they need.
const POLLS_MAX: u32 = 900;
const POLL: Duration = Duration::from_millis(500);

/// What is done to a task of the array while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// `scontrol requeue`.
    Requeue,
    /// The signal by which Slurm warns of the time limit; the script is to requeue the job.
    Warn,
}

/// In the middle of the sweep: after so many trials, this to that task. The last task is left in peace.
const DEEDS: [(u32, Deed, u32); 3] = [(6, Deed::Requeue, 1), (12, Deed::Warn, 2), (18, Deed::Requeue, 3)];

/// Runs the sweep and prints a summary as one JSON object; fails if the sweep is not complete, or anything was done twice.
pub fn run(options: &Options) -> Result<()> {
    let programs = Programs::find(options)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot listen to signals")?;
    }
    // A short path: a Unix socket's may have 107 bytes.
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
    // Dropped in reverse order, and what is left by then is killed.
    let _offspring = Offspring::adopt()?;
    let sweep = Sweep::submit(&programs.sortie, folder)?;
    let cluster = Cluster::start(folder, WORKERS)?;
    let (data, cache) = (folder.join("data"), folder.join("cache"));
    for folder in [&data, &cache] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (data, cache) = (data.display().to_string(), cache.display().to_string());
    let mut worker = vec!["--coordinator", sweep.url(), "--sweep", sweep::NAME, "--allow-commands"];
    worker.extend(["--devices", "cpu", "--slots", "1", "--data", &data, "--cache", &cache]);
    let script = repository().join("deploy/slurm/submit.sh");
    let array = Array::submit(&cluster, &script, &programs.sortie, WORKERS, &worker, folder)?;
    let outcome = watch(&sweep, &cluster, &array, interrupted);
    if outcome.is_err() {
        // A failure to cancel is no news beside the failure that made us cancel.
        let _ = array.cancel(&cluster).and_then(|()| wait_for_end(&cluster, &array));
    }
    outcome?;
    let summary =
        verdict::Summary::of(sweep.counts()?, &sweep.trials()?, &sweep.journal()?, array.tasks(&cluster)?);
    println!("{}", serde_json::to_string(&summary).context("cannot print the summary")?);
    summary.check(&DEEDS)
}

/// Does the deeds, each in its time, and waits until both the sweep and its jobs have ended.
fn watch(sweep: &Sweep, cluster: &Cluster, array: &Array, interrupted: &AtomicBool) -> Result<()> {
    let mut deeds = DEEDS.into_iter().peekable();
    for _ in 0..POLLS_MAX {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        cluster.check()?;
        let counts = sweep.counts()?;
        if let Some((_, deed, task)) = deeds.next_if(|(after, ..)| counts.succeeded >= *after) {
            let before = array.task(cluster, task)?;
            ensure!(
                before.state == "RUNNING",
                "task {task} was to be disturbed while it runs, but is {}",
                before.state
            );
            eprintln!("{} of {} trials done; task {task}: {deed:?}", counts.succeeded, counts.planned);
            match deed {
                Deed::Requeue => array.requeue(cluster, task)?,
                Deed::Warn => array.warn(cluster, task)?,
            }
        }
        if array.has_ended(cluster)? {
            let ends = array
                .tasks(cluster)?
                .into_iter()
                .map(|task| format!("{} {} {}", task.task, task.state, task.exit_code));
            let ends = ends.collect::<Vec<_>>().join(", ");
            ensure!(
                deeds.peek().is_none(),
                "the jobs ended before they could be disturbed, with {} trials done: {ends}",
                counts.succeeded
            );
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("the sweep and its jobs did not end within {} minutes", (POLL * POLLS_MAX).as_secs() / 60)
}

fn wait_for_end(cluster: &Cluster, array: &Array) -> Result<()> {
    // Workers have a few seconds to hand their trials back, then Slurm kills them.
    for _ in 0..POLLS_MAX / 10 {
        if array.has_ended(cluster)? {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("the jobs do not end")
}
