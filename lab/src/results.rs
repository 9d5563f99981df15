//! `sortie-lab results`: the time and memory that `sortie results` and `sortie export` take for a million evaluations. Their numbers are
//! compared with reference SQL.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use sortie_testkit::processes::Process;

use crate::clock::now;
use crate::coordinator::{Coordinator, peak_memory_mib, without_settings};
use crate::environment::{Environment, Store};
use crate::load_clients::submit_text;
use crate::reference_sql::{ExportCounts, ReferenceCell, ReferenceDatabase};

/// The sweep's name.
const SWEEP: &str = "results";
/// Trials of the grid for each seed: five rates, four learning rates, four held-out domains and six pairs of them.
const TRIALS_PER_SEED: u64 = 5 * 4 * (4 + 6);
/// The limit of one command: far longer than any should take.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// The time between two readings of a client's memory.
const POLL: Duration = Duration::from_millis(2);
/// Sums of the same numbers in different orders differ by less.
const TOLERANCE: f64 = 1e-12;

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub struct ResultsOptions {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Store,
    /// The least number of evaluations
    #[arg(long, default_value = "1000000")]
    rows: u64,
    /// The program `sortie`, both coordinator and client
    #[arg(long, env = "SORTIE_PROGRAM")]
    program: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct ResultsReport {
    store: String,
    rows: u64,
    trials: u64,
    fill_seconds: f64,
    /// In the order in which they ran.
    commands: Vec<CommandCost>,
    /// The peak of the coordinator's memory.
    coordinator_mib: f64,
    coordinator_cpu_seconds: f64,
    /// Cells of tables that are equal to reference SQL.
    cells_checked: usize,
}

/// The cost of one command.
#[derive(Debug, Serialize)]
struct CommandCost {
    command: String,
    seconds: f64,
    client_mib: f64,
    coordinator_mib: f64,
    /// The size of its output.
    bytes: u64,
}

/// Runs the benchmark.
///
/// # Errors
/// When a process or a database fails, or the numbers differ from reference SQL.
pub async fn run(options: &ResultsOptions) -> Result<()> {
    let ResultsOptions { store, rows, program, json } = options;
    ensure!(*rows >= 1, "--rows 0: there must be an evaluation");
    let environment = Environment::make(*store)?;
    let url = environment.database("results")?;
    // A few trials in a hundred have no evaluations.
    let seeds = (rows + rows / 40).div_ceil(TRIALS_PER_SEED * crate::reference_sql::ROWS_PER_TRIAL);
    let trials = seeds * TRIALS_PER_SEED;
    // The coordinator creates the tables and the trials, and ends.
    let coordinator = Coordinator::start(program, &url, &environment)?;
    submit_text(&coordinator.url, sweep(seeds), trials).await?;
    drop(coordinator);
    let (database, started) = (ReferenceDatabase::open(&url).await?, now());
    database.fill().await?;
    let fill_seconds = started.elapsed().as_secs_f64();
    let coordinator = Coordinator::start(program, &url, &environment)?;
    let folder = environment.folder();
    let commands = measure_commands(program, &coordinator, folder)?;
    let counts = database.counts().await?;
    ensure!(counts.rows >= *rows, "{} evaluations were written instead of {rows}", counts.rows);
    let cells_checked = check_cells(&folder.join("0.out"), &database.cells(false).await?)?
        + check_cells(&folder.join("1.out"), &database.cells(true).await?)?;
    check_export(&folder.join("6.out"), &counts)?;
    let report = ResultsReport {
        store: store.name().to_owned(),
        rows: counts.rows,
        trials,
        fill_seconds,
        commands,
        coordinator_mib: coordinator.peak_memory_mib()?,
        coordinator_cpu_seconds: coordinator.cpu_seconds()?,
        cells_checked,
    };
    print(&report, *json)
}

/// Runs each command once. Its output is in a file whose name is its position.
fn measure_commands(program: &Path, coordinator: &Coordinator, folder: &Path) -> Result<Vec<CommandCost>> {
    let mut commands = Vec::new();
    for (name, words) in [
        ("results", vec!["--by", "dropout,lr", "--json"]),
        ("results", vec!["--by", "dropout,lr", "--select", "loo", "--json"]),
        ("results", vec!["--by", "dropout,lr"]),
        ("results", vec!["--by", "dropout,lr", "--select", "iid,loo,oracle,last", "--best"]),
        ("results", vec!["--paired", "dropout=0", "dropout=0.9"]),
        ("results", vec!["--format", "csv"]),
        ("export", vec!["--format", "csv"]),
        ("export", vec!["--format", "jsonl"]),
        ("export", vec!["--format", "parquet"]),
    ] {
        let output = folder.join(format!("{}.out", commands.len()));
        let words: Vec<&str> = [name, SWEEP].into_iter().chain(words).collect();
        let (seconds, client_mib) = run_client(program, &coordinator.url, &words, &output, folder)?;
        let (coordinator_mib, bytes) =
            (coordinator.peak_memory_mib()?, output.metadata().context("nothing was written")?.len());
        commands.push(CommandCost {
            command: format!("sortie {}", words.join(" ")),
            seconds,
            client_mib,
            coordinator_mib,
            bytes,
        });
    }
    Ok(commands)
}

/// A sweep with the axes of fine-tuning. Nobody runs its commands; its results are written by SQL.
fn sweep(seeds: u64) -> String {
    format!(
        "name = \"{SWEEP}\"\nselect = [\"iid\", \"loo\"]\n[run]\ncommand = [\"true\"]\n[data]\ndataset = \"PACS\"\n[grid]\ndropout = [0.0, 0.1, 0.5, 0.9, 0.95]\n\
         lr = [1e-4, 5e-4, 1e-3, 5e-3]\nweight_decay = 1e-4\nheld_out = \"each\"\nseeds = {seeds}\n"
    )
}

/// Runs a command to its end. Returns its seconds and the peak of its memory in MiB.
fn run_client(program: &Path, url: &str, words: &[&str], output: &Path, folder: &Path) -> Result<(f64, f64)> {
    let mut command = without_settings(program);
    command.args(["--coordinator", url]).args(words).arg("--output").arg(output);
    let started = now();
    let process = Process::start("client", &mut command, &folder.join("client.log"))?;
    let mut client_mib: f64 = 0.0;
    while !process.has_ended() && started.elapsed() < COMMAND_MAX {
        // It may end between the two calls: the peak so far stands.
        client_mib = client_mib.max(peak_memory_mib(process.pid()).unwrap_or_default());
        std::thread::sleep(POLL);
    }
    let seconds = started.elapsed().as_secs_f64();
    let status = process.wait_for_end(POLL)?;
    ensure!(status.success(), "sortie {} failed: {}", words.join(" "), process.written());
    Ok((seconds, client_mib))
}

/// Compares a table as JSON with reference SQL.
fn check_cells(path: &Path, reference: &[ReferenceCell]) -> Result<usize> {
    let results: Value = serde_json::from_slice(&std::fs::read(path)?).context("the results are not JSON")?;
    let cells = results["cells"].as_array().context("the results have no cells")?;
    ensure!(
        cells.len() == reference.len(),
        "the results have {} cells, SQL has {}",
        cells.len(),
        reference.len()
    );
    for expected in reference {
        let ReferenceCell { dropout, lr, held_out, iid, ood, planned, done, measured } = expected;
        let is_same = |cell: &&Value| {
            cell["dropout"] == *dropout && cell["lr"] == *lr && cell["held_out"] == held_out.as_str()
        };
        let found =
            cells.iter().find(is_same).with_context(|| format!("the results lack the cell {expected:?}"))?;
        let close = |value: &Value, expected: Option<f64>| match (value["mean"].as_f64(), expected) {
            (Some(mean), Some(expected)) => (mean - expected).abs() < TOLERANCE,
            (mean, expected) => mean == expected,
        };
        let counted = |value: &Value, count: i64| value.as_i64() == Some(count);
        ensure!(
            close(&found["iid"], *iid)
                && close(&found["ood"], *ood)
                && counted(&found["iid"]["n"], *measured)
                && counted(&found["done"], *done)
                && counted(&found["planned"], *planned),
            "the results say {found}, SQL says {expected:?}"
        );
    }
    Ok(reference.len())
}

/// An export has a header line, a line for each evaluation, and a line for each trial without evaluations.
fn check_export(path: &Path, counts: &ExportCounts) -> Result<()> {
    let mut lines = BufReader::new(std::fs::File::open(path)?).lines();
    let header = lines.next().context("the export is empty")??;
    ensure!(header.starts_with("sweep,trial_id,state,held_out,"), "the export begins with {header:?}");
    let column = |name: &str| {
        header.split(',').position(|column| column == name).with_context(|| format!("no column {name}"))
    };
    let (correct, mut sum, mut rows, mut empty) = (column("correct")?, 0, 0, 0);
    for line in lines {
        match line?.split(',').nth(correct).context("a line of the export is too short")? {
            "" => empty += 1,
            number => (rows, sum) = (rows + 1, sum + number.parse::<i64>()?),
        }
    }
    let expected = (counts.rows, counts.correct, counts.empty);
    ensure!(
        (rows, sum, empty) == expected,
        "the export has (rows, correct images, trials without) {:?}, SQL {expected:?}",
        (rows, sum, empty)
    );
    Ok(())
}

fn print(report: &ResultsReport, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let ResultsReport {
        store,
        rows,
        trials,
        fill_seconds,
        commands,
        coordinator_mib,
        coordinator_cpu_seconds,
        cells_checked,
    } = report;
    println!(
        "{store}: {rows} evaluations of {trials} trials, written in {fill_seconds:.1} s; {cells_checked} cells are equal to reference SQL"
    );
    for CommandCost { command, seconds, client_mib, bytes, .. } in commands {
        println!("  {seconds:6.2} s  {client_mib:5.0} MiB  {:8.1} MB  {command}", *bytes as f64 / 1e6);
    }
    println!(
        "  coordinator: {coordinator_mib:.0} MiB at most, {coordinator_cpu_seconds:.1} s of processor time"
    );
    Ok(())
}
