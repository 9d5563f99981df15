//! What becomes of a sweep when everything around it fails.
//!
//! One sweep runs twice: once while workers, the coordinator, the database's server and the network are killed and cut by a plan that
//! depends on a seed only, once in peace. Afterwards the databases are compared with each other, and the first one with the workers'
//! journals of what the coordinator had acknowledged. Strikes follow each other by the progress of the work, not by the clock, so that a
//! slow machine sees as many of them as a quick one, and all of them in the middle.

pub mod database;
pub mod journal;
pub mod plan;
pub mod storm;
pub mod verdict;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use tokio::time::sleep;

use crate::crowd::now;
use crate::fleet::{Fleet, Settings};
use crate::place::Kind;
use crate::programs;
use plan::Counts;
use storm::Storm;

/// Trials of one seed: three held-out domains, and ten values of which one diverges.
const TRIALS_A_SEED: u64 = 30;
/// How long one made-up training run takes under strikes: longer than a worker gathers reports, so that most attempts report before they
/// end.
const TRIAL_SECONDS: f64 = 1.5;
/// Trials that one worker runs at the same time.
const SLOTS: usize = 2;
/// How often the work is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// No trial ends for this long: something hangs. Far longer than anything takes on a busy machine.
const STALL_MAX: Duration = Duration::from_secs(240);
/// Strikes come while this share of a round's trials ends; the last ones end in peace.
const STRUCK: f64 = 0.9;
/// Faults that are shown; more of them are only counted.
const FAULTS_SHOWN: usize = 10;

/// What is run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Begin new rounds, with more trials each, for so long [default: one round]
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Kills of workers in a round; the others follow: 10 of the coordinator to 60, 5 of the database, 3 cuts, 3 stops
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    kills: u64,
    /// What the order of the strikes depends on
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// Trials of a round, a multiple of 30
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u64).range(30..=300_000))]
    trials: u64,
    /// Workers
    #[arg(long, value_name = "W", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// The coordinator's lease, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=60))]
    lease: u64,
    #[command(flatten)]
    programs: programs::Options,
    /// Leave the run's folder: database, logs, journals
    #[arg(long)]
    keep: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Kills {
    worker: u64,
    coordinator: u64,
    database: u64,
    network: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    store: String,
    seed: u64,
    trials: u64,
    kills: Kills,
    stopped: u64,
    attempts: u64,
    acknowledged_calls: u64,
    acknowledged_rows: u64,
    lost: u64,
    doubled: u64,
    identical: bool,
    wasted_steps: u64,
    processes_left: u64,
    seconds: f64,
}

/// Runs it.
///
/// # Errors
/// One line: a process did not do what it should, or the result is not what it must be.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { trials, .. } = arguments;
    ensure!(trials.is_multiple_of(TRIALS_A_SEED), "--trials {trials} must be a multiple of {TRIALS_A_SEED}");
    let begun = now();
    let mut fleet = Fleet::start(settings(arguments, TRIAL_SECONDS)?)?;
    if arguments.keep {
        fleet.place().keep();
        eprintln!("keeping {}", fleet.place().folder().display());
    }
    let mut storm = Storm::new(Duration::from_secs(arguments.lease));
    let trials = strike(arguments, &mut fleet, &mut storm).await?;
    let struck_seconds = begun.elapsed().as_secs_f64();
    let processes_left = fleet.stop()?;
    let stored = database::read(fleet.database()).await?;
    let mut calls = Vec::new();
    for path in fleet.journals() {
        calls.extend(journal::read(&path)?);
    }
    drop(fleet);

    eprintln!("{struck_seconds:7.1} s  the same {trials} trials in peace");
    let (peaceful, also_left) = in_peace(arguments, trials).await?;
    let verdict = verdict::judge(&stored, &calls)?;
    show("lost", &verdict.lost);
    show("doubled", &verdict.doubled);
    let identical = stored.canonical() == peaceful;
    let Counts { worker, coordinator, database, network, stopped } = storm.done;
    let report = Report {
        store: format!("{:?}", arguments.store).to_lowercase(),
        seed: arguments.seed,
        trials,
        kills: Kills { worker, coordinator, database, network },
        stopped,
        attempts: stored.attempts.len() as u64,
        acknowledged_calls: calls.len() as u64,
        acknowledged_rows: calls.iter().map(|call| (call.evaluations.len() + call.losses.len()) as u64).sum(),
        lost: verdict.lost.len() as u64,
        doubled: verdict.doubled.len() as u64,
        identical,
        wasted_steps: verdict.wasted_steps,
        processes_left: (processes_left + also_left) as u64,
        seconds: struck_seconds,
    };
    print(&report, arguments.json)?;
    let Report { lost, doubled, processes_left, .. } = report;
    ensure!(
        lost == 0 && doubled == 0 && identical && processes_left == 0,
        "lost {lost}, doubled {doubled}, identical {identical}, processes left {processes_left}"
    );
    Ok(())
}

fn settings(arguments: &Arguments, trial_seconds: f64) -> Result<Settings> {
    let programs = arguments.programs.folder()?;
    let Arguments { store, workers, lease, .. } = arguments;
    Ok(Settings {
        programs,
        store: *store,
        lease_seconds: *lease,
        workers: usize::from(*workers),
        slots: SLOTS,
        trial_seconds,
    })
}

/// The sweep. Every round adds seeds to it, which is growing: what was there stays.
fn sweep(trials: u64) -> String {
    let seeds = trials / TRIALS_A_SEED;
    format!(
        "name = \"chaos\"\n[run]\ncommand = [\"sortie\", \"synthetic\", \"--diverge-at\", \"{{diverge_at}}\"]\nsteps = 20\n\
         [grid]\n# Beyond the last step nothing diverges.\ndiverge_at = [12, 21, 22, 23, 24, 25, 26, 27, 28, 29]\n\
         held_out = [\"a\", \"b\", \"c\"]\nseeds = {seeds}\n"
    )
}

/// Rounds of strikes, then peace until every trial has ended. Gives how many trials there are.
async fn strike(arguments: &Arguments, fleet: &mut Fleet, storm: &mut Storm) -> Result<u64> {
    let lease = Duration::from_secs(arguments.lease);
    let counts = Counts::of(arguments.kills, arguments.store);
    let ends = arguments.minutes.map(|minutes| now() + Duration::from_secs_f64(minutes * 60.0));
    let mut watch = Watch { ended: 0, since: now() };
    let mut trials = 0;
    for number in 0.. {
        let before = trials;
        trials += arguments.trials;
        fleet.submit(&sweep(trials)).await?;
        let strikes = plan::round(arguments.seed, number, &counts, usize::from(arguments.workers), lease);
        for (index, strike) in strikes.iter().enumerate() {
            let share = (index + 1) as f64 / strikes.len() as f64;
            let due = before + (STRUCK * share * arguments.trials as f64) as u64;
            if !until(due, ends, fleet, storm, &mut watch).await? {
                break;
            }
            storm.strike(fleet, strike).await?;
        }
        if ends.is_none_or(|ends| now() >= ends) {
            break;
        }
    }
    until(trials, None, fleet, storm, &mut watch).await?;
    while !storm.is_over() {
        sleep(LOOK_INTERVAL).await;
        storm.heal(fleet)?;
    }
    Ok(trials)
}

/// What was last seen of the work.
struct Watch {
    ended: u64,
    since: Instant,
}

/// Waits until so many trials have ended, healing what is due; false if the time is up before.
async fn until(
    due: u64,
    ends: Option<Instant>,
    fleet: &Fleet,
    storm: &mut Storm,
    watch: &mut Watch,
) -> Result<bool> {
    loop {
        storm.heal(fleet)?;
        fleet.check()?;
        if let Some(status) = fleet.status().await {
            ensure!(
                status.failed + status.cancelled == 0,
                "{} trials failed",
                status.failed + status.cancelled
            );
            let ended = status.succeeded + status.diverged;
            if ended != watch.ended {
                *watch = Watch { ended, since: now() };
            }
        }
        if watch.ended >= due {
            return Ok(true);
        }
        if ends.is_some_and(|ends| now() >= ends) {
            return Ok(false);
        }
        if watch.since.elapsed() > STALL_MAX {
            bail!("no trial has ended for {} s: {} have, {due} should", STALL_MAX.as_secs(), watch.ended);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The canonical results of the same sweep when nothing happens to it, and how many processes it left. Its trials take no time, for their
/// numbers do not depend on that.
async fn in_peace(arguments: &Arguments, trials: u64) -> Result<(String, usize)> {
    let mut fleet = Fleet::start(settings(arguments, 0.0)?)?;
    let mut storm = Storm::new(Duration::from_secs(arguments.lease));
    fleet.submit(&sweep(trials)).await?;
    let mut watch = Watch { ended: 0, since: now() };
    until(trials, None, &fleet, &mut storm, &mut watch).await?;
    let left = fleet.stop()?;
    let stored = database::read(fleet.database()).await?;
    Ok((stored.canonical(), left))
}

fn show(what: &str, faults: &[String]) {
    for fault in faults.iter().take(FAULTS_SHOWN) {
        eprintln!("{what}: {fault}");
    }
}

fn print(report: &Report, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report {
        store, seed, trials, kills, stopped, lost, doubled, identical, wasted_steps, seconds, ..
    } = report;
    let Kills { worker, coordinator, database, network } = kills;
    println!("{store}, seed {seed}: {trials} trials in {seconds:.0} s");
    println!(
        "  kills             {worker} of workers, {coordinator} of the coordinator, {database} of the database"
    );
    println!(
        "  besides           {network} cuts of the network, {stopped} workers stopped past their leases"
    );
    println!(
        "  acknowledged      {} calls with {} rows",
        report.acknowledged_calls, report.acknowledged_rows
    );
    println!("  lost, doubled     {lost}, {doubled}");
    println!("  identical         {}", if *identical { "yes" } else { "no" });
    println!(
        "  wasted            {wasted_steps} steps in {} attempts",
        report.attempts.saturating_sub(*trials)
    );
    println!("  processes left    {}", report.processes_left);
    Ok(())
}
