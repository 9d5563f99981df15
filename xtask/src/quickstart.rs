//! `cargo xtask quickstart`: from a clone to a first results table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::process::{self, Companion};
use crate::setup;

const SWEEP: &str = "quickstart";
/// A coordinator that an interrupted quickstart left behind needs a moment to stop and to give its database free.
const START_TRIES_MAX: u32 = 20;
const POLL: Duration = Duration::from_millis(200);

/// Where everything is.
struct Places {
    folder: PathBuf,
    sortie: PathBuf,
    worker: PathBuf,
}

/// Sets up, builds, runs the example sweep, and leaves its table and figure in `./quickstart/`.
pub fn run() -> Result<()> {
    let ready = setup::run(&setup::SetupOptions::default())?;
    let repository = setup::repository()?;
    println!("building in release mode");
    process::run(
        process::cargo()
            .args(["build", "--release", "--package", "sortie", "--package", "sortie-trainer"])
            .current_dir(&repository),
    )?;
    let target = process::target(&repository);
    let places = Places {
        folder: repository.join("quickstart"),
        sortie: target.join("release/sortie"),
        worker: target.join("release/sortie"),
    };
    fs::create_dir_all(&places.folder).with_context(|| format!("cannot make {}", places.folder.display()))?;

    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot listen to signals")?;
    }
    // Dropped in reverse order: the worker first, so that it can still hand its trial back.
    let (_coordinator, url) = start_coordinator(&places)?;
    let sortie = || {
        let mut command = Command::new(&places.sortie);
        command.current_dir(&repository).args(["--coordinator", &url]);
        command
    };
    process::run(sortie().args(["submit", "examples/quickstart.toml"]))?;
    let mut worker = Command::new(&places.worker);
    worker
        .args(["worker", "--coordinator", &url, "--sweep", SWEEP, "--stop-on-stdin-close", "--data"])
        .arg(&ready.data_root);
    let mut worker = Companion::start("worker", &mut worker, &places.folder.join("worker.log"))?;
    watch(&mut sortie(), &mut worker, &interrupted, &places.folder)?;

    for arguments in outputs(&places.folder) {
        process::run(sortie().args(&arguments))?;
    }
    process::run(sortie().args(["results", SWEEP]))?;
    println!("{}", next_steps(&places, &repository));
    Ok(())
}

/// Starts a coordinator on a free port and returns its URL.
fn start_coordinator(places: &Places) -> Result<(Companion, String)> {
    let log = places.folder.join("coordinator.log");
    let database = format!("sqlite://{}", places.folder.join("sortie.db").display());
    for _ in 0..START_TRIES_MAX {
        let mut command = Command::new(&places.sortie);
        command.args(["serve", "--listen", "127.0.0.1:0", "--stop-on-stdin-close", "--db", &database]);
        let mut coordinator = Companion::start("coordinator", &mut command, &log)?;
        if let Some(line) = coordinator.first_line() {
            let url = line
                .trim()
                .strip_prefix("listening on ")
                .with_context(|| format!("the coordinator said {line:?}"))?;
            return Ok((coordinator, url.to_owned()));
        }
        std::thread::sleep(POLL * 5);
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    bail!("the coordinator does not start: {}", text.lines().last().unwrap_or("it said nothing"))
}

/// Shows progress until every trial has ended.
fn watch(
    sortie: &mut Command,
    worker: &mut Companion,
    interrupted: &AtomicBool,
    folder: &Path,
) -> Result<()> {
    let mut watch = sortie.args(["status", SWEEP, "--watch"]).spawn().context("cannot start the watch")?;
    let ended = loop {
        if let Some(status) = watch.try_wait().context("cannot wait for the watch")? {
            break status.success();
        }
        if interrupted.load(Ordering::Relaxed) || worker.has_ended() {
            // It may have heard the same Ctrl-C and be gone already.
            let _ = watch.kill();
            let _ = watch.wait();
            break false;
        }
        std::thread::sleep(POLL);
    };
    ensure!(
        !interrupted.load(Ordering::Relaxed),
        "interrupted; the same command goes on where this one stopped"
    );
    ensure!(ended, "the sweep did not complete; {} says why", folder.join("worker.log").display());
    Ok(())
}

/// What `sortie` is asked to write.
fn outputs(folder: &Path) -> Vec<Vec<String>> {
    let file = |name: &str| folder.join(name).display().to_string();
    let command = |words: &[&str], name: &str| {
        let words = words.iter().map(|word| (*word).to_owned());
        words.chain(["--output".to_owned(), file(name)]).collect()
    };
    vec![
        command(&["results", SWEEP, "--format", "json"], "results.json"),
        command(&["results", SWEEP, "--format", "csv"], "results.csv"),
        command(&["figure", SWEEP, "--kind", "rates"], "figure.svg"),
        command(&["figure", SWEEP, "--kind", "rates"], "figure.png"),
    ]
}

fn next_steps(places: &Places, repository: &Path) -> String {
    let short = |path: &Path| path.strip_prefix(repository).unwrap_or(path).display().to_string();
    let (sortie, worker, folder) = (short(&places.sortie), short(&places.worker), short(&places.folder));
    format!(
        "
The table is in {folder}/results.json and {folder}/results.csv, the figure in {folder}/figure.svg and {folder}/figure.png.

Next, with everything as it is now. Start the coordinator again (Ctrl-C ends it; nothing is lost):
    {sortie} serve --db sqlite://{folder}/sortie.db
and in a second terminal:
    {sortie} trials {SWEEP}
    {sortie} results {SWEEP} --select last --format markdown
    {sortie} figure {SWEEP} --kind scatter -o {folder}/scatter.svg
To grow the sweep, set `seeds = 2` in examples/quickstart.toml, then submit it again and start a worker, or several:
    {sortie} submit examples/quickstart.toml
    {worker} worker --exit-when-idle"
    )
}
