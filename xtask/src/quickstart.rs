//! `cargo xtask quickstart`: from a clone to a first results table.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::setup;

const SWEEP: &str = "examples/quickstart.toml";
/// Where the database, the tables and the figure go, in the repository.
const FOLDER: &str = "quickstart";
/// Trials at a time: each takes some 400 MB.
const SLOTS_MAX: usize = 8;

/// Sets up, builds, and becomes `sortie run` of the example sweep; returns only if that fails.
pub fn run() -> Result<()> {
    setup::run(&setup::SetupOptions::default())?;
    let repository = setup::repository()?;
    println!("building in release mode");
    let packages = ["--package", "sortie", "--package", "sortie-trainer"];
    process::run(
        process::cargo().args(["build", "--release", "--locked"]).args(packages).current_dir(&repository),
    )?;
    let folder = repository.join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let sortie = process::target(&repository).join("release/sortie");
    let mut command = Command::new(sortie.strip_prefix(&repository).unwrap_or(&sortie));
    // The trials are small: one on each processor is faster than one on all of them.
    let slots = std::thread::available_parallelism().map_or(1, usize::from).min(SLOTS_MAX).to_string();
    command.current_dir(&repository).args(["run", SWEEP, "--slots", &slots]);
    command.args(["--db", "quickstart/sortie.db", "--output", FOLDER]);
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("{} {}", command.get_program().display(), words.join(" "));
    Err(command.exec()).with_context(|| format!("cannot start {}", sortie.display()))
}
