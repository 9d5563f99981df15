//! `sortie-lab cycle-cost`: the coordinator's processor time for a cycle, beside that of another version in turns with it.
//!
//! A client speaks the protocol of its own version only, so each version is measured by its own `sortie-lab`. This one starts both as
//! series and lets them run one turn after the other.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::coordinator::Coordinator;
use crate::environment::{Environment, Store};
use crate::load_clients::{SEEDS, register_all, run_cycles, submit, submit_text};
use crate::statistics::{MedianInterval, median, median_interval};

/// Held-out domains of the sweep with blocked trials.
const HELD_OUT: u64 = 4;
/// Members of each of its combinations.
const MEMBERS: u64 = 2;

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub struct CycleCostOptions {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Store,
    /// Stored trials, a multiple of 1000. A new database replaces one whose trials are used up
    #[arg(long, default_value = "100000")]
    trials: u64,
    /// Combinations that wait for their members, stored beside them, a multiple of 4
    #[arg(long, default_value = "0")]
    blocked: u64,
    /// Workers that lease trials at the same time, each over its own connection
    #[arg(long, default_value = "64")]
    workers: usize,
    /// Cycles of a turn
    #[arg(long, default_value = "5000")]
    cycles: u64,
    /// Turns of each version, after one that is not counted
    #[arg(long, default_value = "16")]
    turns: usize,
    /// The program `sortie`
    #[arg(long, env = "SORTIE_PROGRAM")]
    program: PathBuf,
    /// The folder with `sortie` and `sortie-lab` of the version to compare with
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Compare with the same version on connections that are neither encrypted nor authenticated
    #[arg(long, conflicts_with = "against")]
    against_insecure: bool,
    /// Connections that are neither encrypted nor authenticated
    #[arg(long)]
    insecure: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Run one turn for each line of the input, and print its microseconds a cycle
    #[arg(long, hide = true)]
    series: bool,
}

#[derive(Debug, Serialize)]
struct CycleCostReport {
    store: String,
    trials: u64,
    blocked: u64,
    cycles: u64,
    turns: usize,
    microseconds: f64,
    against_microseconds: Option<f64>,
    ratio: Option<MedianInterval>,
}

/// Runs the benchmark.
///
/// # Errors
/// When a process or a database fails.
pub async fn run(options: &CycleCostOptions) -> Result<()> {
    let CycleCostOptions { store, trials, blocked, cycles, turns, .. } = options;
    ensure!(
        *trials >= SEEDS && trials.is_multiple_of(SEEDS),
        "--trials {trials} must be a multiple of {SEEDS}"
    );
    ensure!(blocked.is_multiple_of(HELD_OUT), "--blocked {blocked} must be a multiple of {HELD_OUT}");
    ensure!(*turns > 0, "--turns 0 measures nothing; at least 1");
    if options.series {
        return serve_turns(options).await;
    }
    let lab = std::env::current_exe().context("cannot find sortie-lab")?;
    let mut ours = Series::start(lab.clone(), options.program.clone(), options.insecure, options)?;
    let mut theirs = match &options.against {
        Some(folder) => {
            let (lab, program) = (folder.join("sortie-lab"), folder.join("sortie"));
            Some(Series::start(lab, program, options.insecure, options)?)
        }
        None if options.against_insecure => Some(Series::start(lab, options.program.clone(), true, options)?),
        None => None,
    };
    let (mut microseconds, mut against, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=*turns {
        let (ours, theirs) = match &mut theirs {
            // Whoever goes first changes from turn to turn, so that a slow drift of the machine favours none.
            Some(theirs) if turn % 2 == 1 => {
                let theirs = theirs.turn().await?;
                (ours.turn().await?, Some(theirs))
            }
            Some(theirs) => (ours.turn().await?, Some(theirs.turn().await?)),
            None => (ours.turn().await?, None),
        };
        if turn > 0 {
            microseconds.push(ours);
            against.extend(theirs);
            ratios.extend(theirs.map(|theirs| ours / theirs));
        }
    }
    let report = CycleCostReport {
        store: store.name().to_owned(),
        trials: *trials,
        blocked: *blocked,
        cycles: *cycles,
        turns: *turns,
        microseconds: median(microseconds).context("no turns")?,
        against_microseconds: median(against),
        ratio: median_interval(ratios),
    };
    print(&report, options.json)
}

fn print(report: &CycleCostReport, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let CycleCostReport { store, trials, blocked, cycles, turns, microseconds, .. } = report;
    println!(
        "{store}: {trials} trials and {blocked} blocked ones, {turns} turns of {cycles} cycles: {microseconds:.1} µs of processor time a cycle"
    );
    if let (Some(against), Some(ratio)) = (report.against_microseconds, &report.ratio) {
        let MedianInterval { median, interval: [low, high], coverage } = ratio;
        println!(
            "  against           {against:.1} µs; median of the ratios {median:.3}, {:.0}% interval {low:.3} to {high:.3}",
            100.0 * coverage
        );
    }
    Ok(())
}

/// A `sortie-lab` that runs turns of one version.
struct Series {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Series {
    fn start(lab: PathBuf, program: PathBuf, insecure: bool, options: &CycleCostOptions) -> Result<Self> {
        let CycleCostOptions { store, trials, blocked, workers, cycles, .. } = options;
        let mut command = Command::new(&lab);
        command.args(["cycle-cost", "--series", "--store", store.name(), "--program"]).arg(program);
        if insecure {
            command.arg("--insecure");
        }
        for (name, number) in [
            ("--trials", *trials),
            ("--blocked", *blocked),
            ("--workers", *workers as u64),
            ("--cycles", *cycles),
        ] {
            command.args([OsString::from(name), number.to_string().into()]);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", lab.display()))?;
        let input = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { input, output, _process: process })
    }

    /// The microseconds a cycle of the next turn.
    async fn turn(&mut self) -> Result<f64> {
        self.input.write_all(b"\n").await.context("a series ended early")?;
        let line = self.output.next_line().await?.context("a series ended early")?;
        line.parse().with_context(|| format!("a series printed '{line}' instead of a number"))
    }
}

/// Runs one turn for each line of the input, until the input ends.
async fn serve_turns(options: &CycleCostOptions) -> Result<()> {
    let environment = Environment::make(options.store)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut current = None;
    let mut databases = 0;
    while lines.next_line().await?.is_some() {
        let (mut seconds, mut left) = (0.0, options.cycles);
        while left > 0 {
            if current.is_none() {
                databases += 1;
                current = Some((fill(options, &environment, databases).await?, options.trials));
            }
            let Some((coordinator, unused)) = &mut current else { continue };
            let cycles = left.min(*unused);
            seconds += measure(options, coordinator, cycles).await?;
            (left, *unused) = (left - cycles, *unused - cycles);
            if *unused == 0 {
                current = None;
            }
        }
        println!("{}", seconds * 1e6 / options.cycles as f64);
    }
    Ok(())
}

/// A coordinator on a new database with the asked trials.
async fn fill(options: &CycleCostOptions, environment: &Environment, databases: u64) -> Result<Coordinator> {
    let database = environment.database(&format!("turns{databases}"))?;
    let coordinator = Coordinator::start_as(&options.program, &database, environment, options.insecure)?;
    if options.blocked > 0 {
        let added = options.blocked * (MEMBERS + 1);
        submit_text(&coordinator.url, blocked_sweep(options.blocked), added).await?;
    }
    submit(&coordinator.url, "cycles", options.trials).await?;
    Ok(coordinator)
}

/// The processor time of the coordinator for a number of cycles, in seconds; the workers' registrations are not counted.
async fn measure(options: &CycleCostOptions, coordinator: &Coordinator, cycles: u64) -> Result<f64> {
    let clients = register_all(&coordinator.url, options.workers).await?;
    let before = coordinator.cpu_seconds()?;
    run_cycles(clients, cycles, "cycles", &Arc::default()).await.with_context(|| coordinator.log())?;
    Ok(coordinator.cpu_seconds()? - before)
}

/// A sweep that no worker here runs, with this number of combinations of two trials each.
fn blocked_sweep(blocked: u64) -> String {
    let choices = blocked / HELD_OUT;
    // An axis has at most 10,000 values.
    let decays = if choices.is_multiple_of(100) { 100 } else { 1 };
    let values = |count: u64| (1..=count).map(|value| format!("{value}e-9")).collect::<Vec<_>>().join(", ");
    let (rates, decays) = (values(choices / decays), values(decays));
    format!(
        "name = \"blocked\"\n[data]\ndataset = \"PACS\"\n[model]\nbackbone = \"efficientnet-lite0\"\n[train]\nsteps = 20\n\
         [grid]\ndropout = 0.0\nweight_decay = [{decays}]\nlr = [{rates}]\nheld_out = \"each\"\nseeds = {MEMBERS}\n\
         [[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"seed\"\n"
    )
}
