//! `sortie-lab chaos`: one sweep runs twice, once with faults and once without.
//!
//! The faults follow a plan that depends on a seed only. They are injected when a number of trials has ended, not at points in time, so
//! that a slow machine sees as many of them as a fast one. Afterwards the two databases must hold the same results, and the first one must
//! hold everything that the workers' journals say was acknowledged.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::consistency_check::check_consistency;
use super::fault_injector::FaultInjector;
use super::fault_plan::{FaultCounts, plan_round};
use super::report::{ChaosReport, KillCounts};
use super::trial_progress::{POLL, TrialProgress};
use super::{journal, stored_rows};
use crate::clock::now;
use crate::cluster::{Cluster, ClusterSettings};
use crate::environment::Store;
use crate::programs::ProgramOptions;

/// Trials of one seed: three held-out domains, and ten values of which one diverges.
const TRIALS_PER_SEED: u64 = 30;
/// The duration of a synthetic training run with faults. A worker collects reports for a shorter time, so that most attempts report before
/// they end.
const TRIAL_SECONDS: f64 = 1.5;
/// Trials that one worker runs at the same time.
const SLOTS: usize = 2;
/// Faults are injected until this share of a round's trials has ended.
const FAULTS_UNTIL: f64 = 0.9;
/// Inconsistencies that are printed; the others are only counted.
const SHOWN_MAX: usize = 10;

/// What the trials of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Work {
    /// They print the metrics of made-up training runs
    Synthetic,
    /// They train a last layer on the demo data, in trainers of which one waits in each slot
    Linear,
}

/// Options of the chaos run.
#[derive(Debug, clap::Args)]
pub struct ChaosOptions {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Store,
    /// What trials do
    #[arg(long, value_enum, default_value = "synthetic")]
    work: Work,
    /// The folder that `cargo xtask setup` filled, for linear trials; `cargo xtask chaos` sets it
    #[arg(long, value_name = "DIR", env = "SORTIE_LAB_CACHE")]
    setup: Option<PathBuf>,
    /// Start new rounds, with more trials each, for this many minutes [default: one round]
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Kills of workers in a round; the other faults follow: for 60, 10 of the coordinator, 5 of the database, 3 cuts, 3 stops, 2 restored backups
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    kills: u64,
    /// Seed of the order of the faults
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// Trials of a round, a multiple of 30
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u64).range(30..=300_000))]
    trials: u64,
    /// Number of workers
    #[arg(long, value_name = "W", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Duration of the coordinator's leases, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=60))]
    lease: u64,
    #[command(flatten)]
    programs: ProgramOptions,
    /// Keep the run's folder: database, logs, journals
    #[arg(long)]
    keep: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the sweep with faults and without, and compares the results.
///
/// # Errors
/// When a process fails by itself, or the results are inconsistent.
pub async fn run(options: &ChaosOptions) -> Result<()> {
    let ChaosOptions { trials, .. } = options;
    ensure!(
        trials.is_multiple_of(TRIALS_PER_SEED),
        "--trials {trials} must be a multiple of {TRIALS_PER_SEED}"
    );
    let started = now();
    let mut cluster = Cluster::start(settings(options, TRIAL_SECONDS)?)?;
    if options.keep {
        cluster.environment().keep();
        eprintln!("keeping {}", cluster.environment().folder().display());
    }
    let mut injector = FaultInjector::new(Duration::from_secs(options.lease));
    let trials = run_with_faults(options, &mut cluster, &mut injector).await?;
    let seconds = started.elapsed().as_secs_f64();
    let processes_left = cluster.stop()?;
    let stored = stored_rows::read(cluster.database()).await?;
    let mut calls = Vec::new();
    for path in cluster.journals() {
        let acknowledged = journal::read(&path)?.into_iter().enumerate();
        calls.extend(
            acknowledged.filter(|(index, _)| !injector.is_undone(&path, *index)).map(|(_, call)| call),
        );
    }
    ensure!(
        !calls.is_empty(),
        "the workers kept no journal of acknowledged calls; build them with --features sortie-worker/test-hooks"
    );
    drop(cluster);

    eprintln!("{seconds:7.1} s  run the same {trials} trials without faults");
    let (expected, processes_left_without) = run_without_faults(options, trials).await?;
    let check = check_consistency(&stored, &calls)?;
    show("lost", &check.lost);
    show("doubled", &check.doubled);
    let FaultCounts { worker, coordinator, database, network, stopped, restored } = injector.injected;
    let report = ChaosReport {
        store: options.store.name().to_owned(),
        seed: options.seed,
        trials,
        kills: KillCounts { worker, coordinator, database, network },
        stopped,
        restored,
        attempts: stored.attempts.len() as u64,
        acknowledged_calls: calls.len() as u64,
        acknowledged_rows: calls.iter().map(|call| (call.evaluations.len() + call.losses.len()) as u64).sum(),
        lost: check.lost.len() as u64,
        doubled: check.doubled.len() as u64,
        identical: stored.canonical() == expected,
        wasted_steps: check.wasted_steps,
        processes_left: (processes_left + processes_left_without) as u64,
        seconds,
    };
    report.print(options.json)?;
    report.check()
}

fn settings(options: &ChaosOptions, trial_seconds: f64) -> Result<ClusterSettings> {
    Ok(ClusterSettings {
        programs: options.programs.folder()?,
        store: options.store,
        lease_seconds: options.lease,
        workers: usize::from(options.workers),
        slots: SLOTS,
        trial_seconds,
        setup: match options.work {
            Work::Synthetic => None,
            Work::Linear => Some(options.setup.clone().context("linear trials need --setup")?),
        },
    })
}

/// Submits the sweep, or more trials of it.
async fn submit(options: &ChaosOptions, cluster: &Cluster, trials: u64) -> Result<()> {
    match options.work {
        Work::Synthetic => cluster.submit(&sweep(trials)).await,
        Work::Linear => cluster.submit_with_data(&linear(trials)),
    }
}

/// A small sweep of linear fine-tuning.
fn linear(trials: u64) -> String {
    let seeds = trials / TRIALS_PER_SEED;
    format!(
        "name = \"chaos\"\n[data]\ndataset = \"EmojiStyles\"\npixels = 32\naugment = false\n\
         [model]\nbackbone = \"efficientnet-lite0\"\nfinetune = \"linear\"\n\
         [train]\nsteps = 300\nbatch_per_domain = 8\nevaluate_every = 50\n\
         [grid]\ndropout = [0.0, 0.3, 0.5, 0.7, 0.9]\nlr = [1e-3, 1e-2]\nweight_decay = 1e-4\n\
         held_out = [\"flat\", \"mono\", \"noto\"]\nseeds = {seeds}\n"
    )
}

/// The sweep file. Every round submits it again with more seeds; its earlier trials stay.
fn sweep(trials: u64) -> String {
    let seeds = trials / TRIALS_PER_SEED;
    format!(
        "name = \"chaos\"\n[run]\ncommand = [\"sortie\", \"synthetic\", \"--diverge-at\", \"{{diverge_at}}\"]\nsteps = 20\n\
         [grid]\n# Beyond the last step nothing diverges.\ndiverge_at = [12, 21, 22, 23, 24, 25, 26, 27, 28, 29]\n\
         held_out = [\"a\", \"b\", \"c\"]\nseeds = {seeds}\n"
    )
}

/// Runs rounds of faults, then waits until every trial has ended. Returns the number of trials.
async fn run_with_faults(
    options: &ChaosOptions,
    cluster: &mut Cluster,
    injector: &mut FaultInjector,
) -> Result<u64> {
    let lease = Duration::from_secs(options.lease);
    let counts = FaultCounts::of(options.kills, options.store);
    let deadline = options.minutes.map(|minutes| now() + Duration::from_secs_f64(minutes * 60.0));
    let mut progress = TrialProgress::new();
    let mut trials = 0;
    for number in 0.. {
        let before = trials;
        trials += options.trials;
        submit(options, cluster, trials).await?;
        let faults = plan_round(options.seed, number, &counts, usize::from(options.workers), lease);
        for (index, fault) in faults.iter().enumerate() {
            let share = (index + 1) as f64 / faults.len() as f64;
            let due = before + (FAULTS_UNTIL * share * options.trials as f64) as u64;
            if !progress.wait_for(due, deadline, cluster, injector).await? {
                break;
            }
            injector.inject(cluster, fault).await?;
        }
        if deadline.is_none_or(|deadline| now() >= deadline) {
            break;
        }
    }
    progress.wait_for(trials, None, cluster, injector).await?;
    while !injector.is_repaired() {
        sleep(POLL).await;
        injector.repair(cluster)?;
    }
    Ok(trials)
}

/// Runs the same sweep without faults. Returns its canonical results, and the number of processes that it left. Its trials take no time:
/// their results do not depend on the time that they take.
async fn run_without_faults(options: &ChaosOptions, trials: u64) -> Result<(String, usize)> {
    let mut cluster = Cluster::start(settings(options, 0.0)?)?;
    let mut injector = FaultInjector::new(Duration::from_secs(options.lease));
    submit(options, &cluster, trials).await?;
    TrialProgress::new().wait_for(trials, None, &cluster, &mut injector).await?;
    let left = cluster.stop()?;
    let stored = stored_rows::read(cluster.database()).await?;
    Ok((stored.canonical(), left))
}

fn show(what: &str, inconsistencies: &[String]) {
    for inconsistency in inconsistencies.iter().take(SHOWN_MAX) {
        eprintln!("{what}: {inconsistency}");
    }
}
