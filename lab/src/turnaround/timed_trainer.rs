//! A program that stands before a trainer: it passes everything on, and notes when the trainer said what. So versions are measured that know
//! nothing of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::clock::wall_clock;

/// What the worker starts instead of a trainer.
#[derive(Debug, Args)]
pub struct TimedTrainerOptions {
    /// The file that gets a line for each trial
    notes: PathBuf,
    /// The trainer
    program: PathBuf,
    /// What the trainer is started with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// When a trial's process said what, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TrialTimes {
    /// That it has its trial.
    pub(super) handshake: f64,
    /// That everything is loaded.
    pub(super) fingerprint: f64,
    /// The first update.
    pub(super) first_update: f64,
    /// The last one.
    pub(super) last_update: f64,
    /// How the trial ended.
    pub(super) outcome: f64,
    /// When the process had ended.
    pub(super) ended: f64,
    /// The time from evaluation steps' updates to their evaluations, in all.
    pub(super) evaluating: f64,
}

impl TrialTimes {
    /// Takes note of a line of output.
    fn see(&mut self, line: &[u8], now: f64) {
        if line.starts_with(b"{\"progress\"") {
            if self.first_update == 0.0 {
                self.first_update = now;
            }
            self.last_update = now;
        } else if line.starts_with(b"{\"evaluations\"") {
            self.evaluating += now - self.last_update;
        } else if line.starts_with(b"{\"handshake\"") {
            self.handshake = now;
        } else if line.starts_with(b"{\"fingerprint\"") && self.fingerprint == 0.0 {
            self.fingerprint = now;
        } else if line.starts_with(b"{\"outcome\"") {
            self.outcome = now;
        }
    }
}

/// Runs the trainer to its end. One that runs no trial takes this process over.
///
/// # Errors
/// When it cannot be started, or its output cannot be passed on.
pub fn run(options: &TimedTrainerOptions) -> Result<()> {
    let TimedTrainerOptions { notes, program, arguments } = options;
    let mut command = Command::new(program);
    command.args(arguments);
    let cannot = || format!("cannot start {}", program.display());
    if arguments.first().is_none_or(|word| word != "trial") {
        return Err(command.exec()).with_context(cannot);
    }
    let mut trainer = command.stdout(Stdio::piped()).spawn().with_context(cannot)?;
    let mut output = BufReader::new(trainer.stdout.take().context("the trainer has no output")?);
    let (mut times, mut line, mut passed_on) = (TrialTimes::default(), Vec::new(), std::io::stdout());
    while output.read_until(b'\n', &mut line)? > 0 {
        passed_on.write_all(&line)?;
        passed_on.flush()?;
        times.see(&line, wall_clock());
        line.clear();
    }
    trainer.wait()?;
    times.ended = wall_clock();
    // One that waited until its worker ended had no trial.
    if times.outcome > 0.0 {
        let mut text = serde_json::to_vec(&times)?;
        text.push(b'\n');
        File::options().create(true).append(true).open(notes)?.write_all(&text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_update_and_the_evaluations_are_told_apart() {
        let mut times = TrialTimes::default();
        for (line, now) in [
            ("loading", 0.5),
            (r#"{"handshake":{}}"#, 1.0),
            (r#"{"fingerprint":{}}"#, 2.0),
            (r#"{"progress":{"step":0}}"#, 3.0),
            (r#"{"evaluations":[]}"#, 4.0),
            (r#"{"fingerprint":{}}"#, 5.0),
            (r#"{"progress":{"step":1}}"#, 6.0),
            (r#"{"losses":[]}"#, 6.5),
            (r#"{"evaluations":[]}"#, 8.0),
            (r#"{"outcome":"succeeded"}"#, 9.0),
        ] {
            times.see(line.as_bytes(), now);
        }
        let expected = TrialTimes {
            handshake: 1.0,
            fingerprint: 2.0,
            first_update: 3.0,
            last_update: 6.0,
            outcome: 9.0,
            ended: 0.0,
            evaluating: 3.0,
        };
        assert_eq!(times, expected);
    }
}
