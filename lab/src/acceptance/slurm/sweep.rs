//! The sweep that the workers run, as its coordinator sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sortie_testkit::processes;

use crate::place::{Coordinator, Launch};

/// Its name.
pub const NAME: &str = "slurm";
/// Values of its axis, and seeds: that many trials each.
const VALUES: u32 = 20;
const SEEDS: u32 = 2;
/// How many trials it has.
pub const TRIALS: u32 = VALUES * SEEDS;

/// A coordinator of its own that holds the sweep. Dropping it stops it.
pub struct Sweep {
    sortie: PathBuf,
    coordinator: Coordinator,
    journal: PathBuf,
}

/// What `sortie status --json` prints, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Status {
    sweeps: Vec<Counts>,
}

/// How far the sweep is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// All of its trials.
    pub planned: u32,
    /// Those that were completed.
    pub succeeded: u32,
}

#[derive(Debug, Deserialize)]
struct Trials {
    trials: Vec<Trial>,
}

/// A trial, as `sortie trials --json` prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Trial {
    /// Its identity.
    pub trial: String,
    /// Where it stands.
    pub state: String,
    /// How often it was begun.
    pub attempts: u32,
    /// Why it was not completed the last time that it was not.
    #[serde(default)]
    pub error: String,
}

impl Sweep {
    /// Starts a coordinator on a free port and submits the sweep. Everything lies in `folder`.
    pub fn submit(sortie: &Path, folder: &Path) -> Result<Self> {
        let coordinator = Coordinator::launch(&Launch {
            program: sortie.to_owned(),
            database: format!("sqlite://{}", folder.join("sortie.db").display()),
            port: 0,
            lease_seconds: None,
            mark: None,
            log: folder.join("coordinator.log"),
        })?;
        let journal = folder.join("journal");
        let file = folder.join("slurm.toml");
        fs::write(&file, text(sortie, &journal))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let sweep = Self { sortie: sortie.to_owned(), coordinator, journal };
        // What it prints goes to stderr: standard output belongs to the summary.
        processes::run(sweep.sortie().arg("submit").arg(&file).stdout(std::io::stderr()))?;
        Ok(sweep)
    }

    /// Where the workers find the coordinator.
    pub fn url(&self) -> &str {
        &self.coordinator.url
    }

    /// How far it is.
    pub fn counts(&self) -> Result<Counts> {
        let status: Status = self.ask("status")?;
        status.sweeps.into_iter().next().context("`sortie status` knows no such sweep")
    }

    /// All of its trials.
    pub fn trials(&self) -> Result<Vec<Trial>> {
        self.ask("trials").map(|Trials { trials }| trials)
    }

    /// The trials that were run to their end, by their own account: each leaves its identity when it is through.
    pub fn journal(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.journal)
            .with_context(|| format!("cannot read {}", self.journal.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        let output = self.sortie().args([what, NAME, "--json"]).output().context("cannot start sortie")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sortie {what} {NAME}` failed: {}", said.trim());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`sortie {what} {NAME} --json` printed something else"))
    }

    fn sortie(&self) -> Command {
        let mut command = Command::new(&self.sortie);
        command.args(["--coordinator", &self.coordinator.url]);
        command
    }
}

/// The sweep file: synthetic trials of two seconds, each of which adds its identity to the journal when it is through.
fn text(sortie: &Path, journal: &Path) -> String {
    let then_journal = r#""$@" && echo {trial} >> "$0""#;
    let [journal, sortie] =
        [journal, sortie].map(|path| path.display().to_string().replace('{', "{{").replace('}', "}}"));
    let words = ["sh", "-c", then_journal, &journal, &sortie, "synthetic", "--seconds", "2", "--steps", "20"];
    let command = words.map(quoted);
    let values: Vec<String> = (1..=VALUES).map(|value| value.to_string()).collect();
    format!(
        "name = \"{NAME}\"\n\n[run]\ncommand = [{}]\n\n[grid]\nx = [{}]\nseeds = {SEEDS}\n",
        command.join(", "),
        values.join(", ")
    )
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_survives_its_quotes() {
        let text = text(Path::new("/bin/sortie"), Path::new("/tmp/journal"));
        let line = text.lines().find(|line| line.starts_with("command")).unwrap();
        assert_eq!(
            line,
            r#"command = ["sh", "-c", "\"$@\" && echo {trial} >> \"$0\"", "/tmp/journal", "/bin/sortie", "synthetic", "--seconds", "2", "--steps", "20"]"#
        );
        assert_eq!(quoted(r"a\b"), r#""a\\b""#);
    }
}
