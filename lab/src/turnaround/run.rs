//! Turns of `sortie run`, each with a new database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::measured::Figures;
use super::timed_trainer::TrialTimes;
use crate::coordinator::without_settings;
use crate::programs::{ProgramOptions, Programs};
use crate::statistics::{MedianInterval, median_interval};

/// One of a turn's figures.
type Figure = fn(&Figures) -> f64;

/// Options of the benchmark.
#[derive(Debug, Args)]
pub struct TurnaroundOptions {
    /// The folder that holds the folder PACS
    #[arg(long, env = "SORTIE_TEST_DATA", value_name = "ROOT")]
    data: PathBuf,
    /// Another sweep than linear fine-tuning on PACS with 1,001 updates and 11 evaluations; its trials run one after the other
    #[arg(long, value_name = "FILE")]
    sweep: Option<PathBuf>,
    /// Trials of a turn, the first of which is not counted
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    trials: u32,
    /// CPU threads of each trial [default: all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Turns of each version, after one that is not counted
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    turns: u32,
    /// The folder of weights and caches, which both versions use [default: the user's]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    programs: ProgramOptions,
    /// The folder with `sortie` and `sortie-trainer` of the version to compare with
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct TurnaroundReport {
    trials: u32,
    turns: u32,
    seconds: Figures,
    against_seconds: Option<Figures>,
    /// Of both versions' trials and idle times, turn by turn.
    trial_ratio: Option<MedianInterval>,
    idle_ratio: Option<MedianInterval>,
}

/// Runs the benchmark.
///
/// # Errors
/// When a program is missing, or a sweep fails.
pub fn run(options: &TurnaroundOptions) -> Result<()> {
    let ours = Programs::find(&options.programs)?;
    let theirs = options.against.as_deref().map(Programs::in_folder).transpose()?;
    let (mut own, mut against, mut trial_ratios, mut idle_ratios) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=options.turns {
        let other = |programs: &Option<Programs>| {
            programs.as_ref().map(|programs| measure(options, programs)).transpose()
        };
        // Whoever goes first changes from turn to turn, so that a slow drift of the machine favours none.
        let (ours, theirs) = if turn % 2 == 1 {
            let theirs = other(&theirs)?;
            (measure(options, &ours)?, theirs)
        } else {
            (measure(options, &ours)?, other(&theirs)?)
        };
        if turn == 0 {
            continue;
        }
        own.push(ours);
        if let Some(theirs) = theirs {
            against.push(theirs);
            trial_ratios.push(ours.trial / theirs.trial);
            idle_ratios.push(ours.idle / theirs.idle);
        }
    }
    let report = TurnaroundReport {
        trials: options.trials,
        turns: options.turns,
        seconds: Figures::middle(&own).context("no turns")?,
        against_seconds: Figures::middle(&against),
        trial_ratio: median_interval(trial_ratios),
        idle_ratio: median_interval(idle_ratios),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &TurnaroundReport) {
    let TurnaroundReport { trials, turns, seconds, against_seconds, trial_ratio, idle_ratio } = report;
    println!("{turns} turns of {trials} trials; medians in seconds");
    let lines: [(&str, Figure); 7] = [
        ("a trial, from end to end", |figures| figures.trial),
        ("idle until the first update", |figures| figures.idle),
        ("  until the process has its trial", |figures| figures.until_begun),
        ("  loading data and weights", |figures| figures.loading),
        ("updates", |figures| figures.updates),
        ("evaluations", |figures| figures.evaluations),
        ("end of the process", |figures| figures.ending),
    ];
    for (name, figure) in lines {
        let against =
            against_seconds.as_ref().map_or(String::new(), |other| format!("{:>10.3}", figure(other)));
        println!("{name:<36}{:>10.3}{against}", figure(seconds));
    }
    for (name, ratio) in [("trial", trial_ratio), ("idle", idle_ratio)] {
        if let Some(MedianInterval { median, interval: [low, high], coverage }) = ratio {
            let percent = 100.0 * coverage;
            println!(
                "{name}: median of the ratios {median:.3}, {percent:.0}% interval {low:.3} to {high:.3}"
            );
        }
    }
}

/// One turn of one version.
fn measure(options: &TurnaroundOptions, programs: &Programs) -> Result<Figures> {
    let folder = tempfile::Builder::new().prefix("sortie-lab-").tempdir().context("cannot make a folder")?;
    let notes = folder.path().join("notes");
    let sweep = match &options.sweep {
        Some(sweep) => sweep.clone(),
        None => written(folder.path().join("sweep.toml"), &linear(options.trials))?,
    };
    let trainer = timed_trainer(folder.path(), &notes, &programs.trainer)?;
    let threads = options
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .to_string();
    let mut command = without_settings(&programs.sortie);
    command.arg("run").arg(sweep).args(["--devices", "cpu", "--slots", "1", "--threads", &threads]);
    command.arg("--db").arg(folder.path().join("sortie.db")).arg("--data").arg(&options.data);
    if let Some(cache) = &options.cache {
        command.arg("--cache").arg(cache);
    }
    let output = command.env("SORTIE_TRAINER", trainer).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", programs.sortie.display()))?;
    ensure!(output.status.success(), "sortie run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = std::fs::read_to_string(&notes).context("no trial ran")?;
    let trials = text.lines().map(serde_json::from_str::<TrialTimes>).collect::<Result<_, _>>()?;
    Figures::of(trials)
}

/// A program that starts this one before a trainer.
fn timed_trainer(folder: &Path, notes: &Path, trainer: &Path) -> Result<PathBuf> {
    let lab = std::env::current_exe().context("cannot find sortie-lab")?;
    let words = [&lab, notes, trainer].map(|path| format!("'{}'", path.display()));
    let [lab, notes, trainer] = &words;
    let text = format!("#!/bin/sh\nexec {lab} timed-trainer {notes} {trainer} \"$@\"\n");
    let path = written(folder.join("trainer"), &text)?;
    let done = Command::new("chmod").arg("700").arg(&path).status().context("cannot start chmod")?;
    ensure!(done.success(), "chmod {} failed", path.display());
    Ok(path)
}

fn written(path: PathBuf, text: &str) -> Result<PathBuf> {
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A shortened examples/linear-pacs.toml.
fn linear(trials: u32) -> String {
    format!(
        "name = \"turnaround\"\n[data]\ndataset = \"PACS\"\naugment = false\n[model]\nbackbone = \"efficientnet-lite0\"\nfinetune = \"linear\"\n\
         block_norm = \"batch\"\n[train]\nsteps = 1000\nbatch_per_domain = 32\nevaluate_every = 100\n\
         [grid]\ndropout = 0.5\nlr = 1e-3\nweight_decay = 1e-4\nheld_out = [\"sketch\"]\nseeds = {trials}\n"
    )
}
