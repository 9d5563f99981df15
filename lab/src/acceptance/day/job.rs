//! Runs the jobs of the day, one after the other, in one folder: each goes on with what those before left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use sortie_testkit::processes::Process;

use super::script::{Step, parse};
use crate::programs::{ProgramOptions, Programs, repository};

/// The jobs in their order.
pub const JOBS: [(&str, &str); 8] = [
    ("1-own-sweep", include_str!("../../../day/1-own-sweep.txt")),
    ("2-growing", include_str!("../../../day/2-growing.txt")),
    ("3-own-script", include_str!("../../../day/3-own-script.txt")),
    ("4-kill-everything", include_str!("../../../day/4-kill-everything.txt")),
    ("5-reviewer", include_str!("../../../day/5-reviewer.txt")),
    ("6-compare", include_str!("../../../day/6-compare.txt")),
    ("7-mistakes", include_str!("../../../day/7-mistakes.txt")),
    ("8-hand-over", include_str!("../../../day/8-hand-over.txt")),
];

/// What runs after job 4 where `python3` has torch.
pub const PYTORCH: (&str, &str) = ("pytorch", include_str!("../../../day/pytorch.txt"));

/// The most of an output that a failure shows, in bytes.
const SHOWN_MAX: usize = 8_000;

/// Where the check finds its programs and data.
#[derive(Debug, Args)]
pub struct DayOptions {
    #[command(flatten)]
    programs: ProgramOptions,
    /// The folder that holds PACS
    #[arg(long, value_name = "DIR", env = "SORTIE_TEST_DATA")]
    data: PathBuf,
    /// Keep the folder in which the jobs ran
    #[arg(long)]
    keep: bool,
    /// After job 4, run its scripts with PyTorch, too: `python3` must have torch
    #[arg(long)]
    pytorch: bool,
}

/// Runs the jobs, and prints a line for each.
///
/// # Errors
/// When a command prints something else than its script says, with the script's line and the output.
pub fn run(options: &DayOptions) -> Result<()> {
    let programs = Programs::find(&options.programs)?;
    let data =
        options.data.canonicalize().with_context(|| format!("cannot read {}", options.data.display()))?;
    ensure!(data.join("PACS").is_dir(), "{} holds no PACS", data.display());
    let folder = tempfile::Builder::new().prefix("sortie-day-").tempdir().context("cannot make a folder")?;
    let mut day = Day {
        programs,
        data,
        folder: folder.path().to_owned(),
        port: free_port()?,
        background: BTreeMap::new(),
    };
    let (before, after) = JOBS.split_at(4);
    let pytorch = options.pytorch.then_some(&PYTORCH);
    let outcome = before.iter().chain(pytorch).chain(after).try_for_each(|(name, text)| {
        day.job(text).with_context(|| format!("lab/day/{name}.txt"))?;
        println!("{name}: done");
        Ok(())
    });
    drop(day);
    if options.keep || outcome.is_err() {
        println!("the jobs ran in {}", folder.keep().display());
    }
    outcome
}

/// A port that nobody listens on at the moment.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The folder of the day, and what runs in the background.
struct Day {
    programs: Programs,
    data: PathBuf,
    folder: PathBuf,
    port: u16,
    background: BTreeMap<String, Process>,
}

impl Day {
    fn job(&mut self, text: &str) -> Result<()> {
        for step in parse(text)? {
            match step {
                Step::File { name, text } => {
                    std::fs::write(self.folder.join(&name), text)
                        .with_context(|| format!("cannot write {name}"))?;
                }
                Step::Start { name, command } => {
                    let log = self.folder.join(format!("{name}.log"));
                    let process = Process::start(&name, &mut self.shell(&format!("exec {command}")), &log)?;
                    self.background.insert(name, process);
                }
                Step::Kill { name } => {
                    let process =
                        self.background.remove(&name).with_context(|| format!("{name} was not started"))?;
                    process.kill()?;
                    process.wait_for_end(std::time::Duration::from_secs(20))?;
                }
                Step::Command { line, command, code, checks } => {
                    let output = self.shell(&format!("exec 2>&1; {command}")).stdin(Stdio::null()).output();
                    let output = output.with_context(|| format!("line {line}: cannot run {command}"))?;
                    let text = String::from_utf8_lossy(&output.stdout).into_owned();
                    let wrong = |what: &str| format!("line {line}: $ {command}\n{what} in\n{}", shown(&text));
                    if output.status.code() != Some(code) {
                        bail!(wrong(&format!("exit code {:?}, not {code},", output.status.code())));
                    }
                    let mut from = 0;
                    for check in checks {
                        from = check.apply(&text, from).map_err(|what| anyhow::anyhow!(wrong(&what)))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A shell in the day's folder that finds `sortie`, the data ($DATA), the examples ($EXAMPLES) and the coordinator.
    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.folder);
        let programs = self.programs.sortie.parent().unwrap_or(Path::new("/"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(paths) {
            shell.env("PATH", path);
        }
        shell
            .env("DATA", &self.data)
            .env("EXAMPLES", repository().join("examples"))
            .env("PORT", self.port.to_string());
        shell.env("SORTIE_COORDINATOR", format!("https://127.0.0.1:{}", self.port));
        shell.env("SORTIE_DATA", &self.data).env("XDG_STATE_HOME", self.folder.join("state"));
        shell
    }
}

/// The end of an output.
fn shown(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SHOWN_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
