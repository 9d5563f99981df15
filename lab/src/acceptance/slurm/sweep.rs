//! The sweep that the workers run, and its coordinator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sortie_testkit::{processes, programs};

use crate::coordinator::{Coordinator, LaunchOptions};

/// The name of the sweep.
pub const NAME: &str = "slurm";
/// The number of values of its axis, and of seeds.
const VALUES: u32 = 20;
const SEEDS: u32 = 2;
/// The number of its trials.
pub const TRIALS: u32 = VALUES * SEEDS;

/// A coordinator with the submitted sweep. Dropping it ends the coordinator.
pub struct SlurmSweep {
    sortie: PathBuf,
    coordinator: Coordinator,
    journal: PathBuf,
}

/// The output of `sortie status --json`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct StatusOutput {
    sweeps: Vec<SweepCounts>,
}

/// The progress of the sweep.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SweepCounts {
    /// The number of its trials.
    pub planned: u32,
    /// The number of succeeded trials.
    pub succeeded: u32,
}

#[derive(Debug, Deserialize)]
struct TrialsOutput {
    trials: Vec<ListedTrial>,
}

/// A trial, as `sortie trials --json` prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedTrial {
    /// Its id.
    pub trial: String,
    /// Its state.
    pub state: String,
    /// The number of its attempts.
    pub attempts: u32,
    /// The reason of its last failure.
    #[serde(default)]
    pub error: String,
}

impl SlurmSweep {
    /// Starts a coordinator on a free port and submits the sweep. All files are in `folder`.
    pub fn submit(sortie: &Path, folder: &Path) -> Result<Self> {
        let coordinator = Coordinator::launch(&LaunchOptions {
            program: sortie.to_owned(),
            database: format!("sqlite://{}", folder.join("sortie.db").display()),
            insecure: false,
            port: 0,
            lease_seconds: None,
            variable: None,
            log: folder.join("coordinator.log"),
        })?;
        let journal = folder.join("journal");
        let file = folder.join("slurm.toml");
        fs::write(&file, text(sortie, &journal))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let sweep = Self { sortie: sortie.to_owned(), coordinator, journal };
        // Its output goes to stderr, because standard output belongs to the summary.
        processes::run(sweep.sortie().arg("submit").arg(&file).stdout(std::io::stderr()))?;
        Ok(sweep)
    }

    /// The address of the coordinator.
    pub fn url(&self) -> &str {
        &self.coordinator.url
    }

    /// Its progress.
    pub fn counts(&self) -> Result<SweepCounts> {
        let status: StatusOutput = self.read("status")?;
        status.sweeps.into_iter().next().context("`sortie status` knows no such sweep")
    }

    /// All of its trials.
    pub fn trials(&self) -> Result<Vec<ListedTrial>> {
        self.read("trials").map(|TrialsOutput { trials }| trials)
    }

    /// The ids of trials that ran to their end, as their commands recorded them.
    pub fn journal(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.journal)
            .with_context(|| format!("cannot read {}", self.journal.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        let output = self.sortie().args([what, NAME, "--json"]).output().context("cannot start sortie")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sortie {what} {NAME}` failed: {}", stderr.trim());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`sortie {what} {NAME} --json` printed something unexpected"))
    }

    fn sortie(&self) -> Command {
        let mut command = programs::isolated(&self.sortie);
        command.args(["--coordinator", &self.coordinator.url]);
        command
    }
}

/// The sweep file: synthetic trials of two seconds. Each adds its id to the journal at its end.
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

/// A TOML basic string.
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
