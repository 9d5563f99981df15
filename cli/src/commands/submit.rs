//! `sortie submit`: store a sweep, or resume it.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sortie_proto::v1::SubmitProgress;
use tonic::Streaming;

use super::plan::SweepArguments;
use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::output;

/// Store a sweep. Submitting again is resuming; a larger grid adds only the difference.
///
/// A trial that has succeeded in another sweep, equal to the last bit of its specification, is reused and not run again.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Run every trial, even if the same one has succeeded in another sweep.
    #[arg(long)]
    no_reuse: bool,
    /// Serve this sweep before those with lower numbers. New sweeps have 0; an old one keeps what it has.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Submits and prints what was stored.
///
/// # Errors
/// One line: the file is not right, or the coordinator refuses it.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let request = arguments.sweep.read()?.into_request(arguments.no_reuse, arguments.priority);
    let progress = Client::connect(connection).await?.submit(request).await?;
    let last = follow(progress, arguments.json).await.context(INTERRUPTED)?;
    let SubmitProgress { sweep, planned, added, reused, .. } = &last;
    if arguments.json {
        return output::json(
            &json!({ "sweep": sweep, "planned": planned, "added": added, "reused": reused }),
        );
    }
    output::text(&summary(&last))
}

/// Shows the progress of a submission until it is done. Returns what was stored.
///
/// # Errors
/// The coordinator went away in the middle, or refuses.
pub async fn follow(mut progress: Streaming<SubmitProgress>, json: bool) -> Result<SubmitProgress> {
    let mut reporter = Reporter::new(json)?;
    loop {
        match progress.message().await.map_err(ClientError::from)? {
            Some(progress) if progress.done => {
                reporter.bar.finish_and_clear();
                return Ok(progress);
            }
            Some(progress) => reporter.show(&progress),
            None => return Err(ClientError::ConnectionLost.into()),
        }
    }
}

const INTERRUPTED: &str = "the sweep may not be stored completely; submit it again to complete it";

fn summary(last: &SubmitProgress) -> String {
    let SubmitProgress { sweep, planned, added, reused, .. } = last;
    let mut text = match (planned, added) {
        (_, 0) => format!("sweep {sweep}: all {planned} trials were there already"),
        _ if planned == added => format!("sweep {sweep}: {added} trials submitted"),
        _ => format!("sweep {sweep}: {added} trials added, {planned} in all"),
    };
    if *reused > 0 {
        text.push_str(&format!("; {reused} of them have succeeded in other sweeps and will not run again"));
    }
    text
}

/// A bar on a terminal; elsewhere a line for every tenth, none for a small sweep.
struct Reporter {
    bar: ProgressBar,
    plain: bool,
    tenths: u64,
}

impl Reporter {
    fn new(json: bool) -> Result<Self> {
        let terminal = std::io::stderr().is_terminal() && !json;
        let bar = if terminal { ProgressBar::new(1) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{wide_bar} {msg}")?);
        Ok(Self { bar, plain: !terminal && !json, tenths: 0 })
    }

    fn show(&mut self, progress: &SubmitProgress) {
        let line = format!(
            "{} of {} trials looked at, {} added",
            progress.expanded, progress.planned, progress.added
        );
        self.bar.set_length(progress.planned.max(1));
        self.bar.set_position(progress.expanded);
        self.bar.set_message(line.clone());
        let tenths = 10 * progress.expanded / progress.planned.max(1);
        if self.plain && tenths > self.tenths {
            self.tenths = tenths;
            output::note(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_submission_did_is_one_line() {
        let said = |planned, added, reused| {
            summary(&SubmitProgress {
                sweep: "s".into(),
                planned,
                added,
                reused,
                expanded: planned,
                done: true,
            })
        };
        assert_eq!(said(8, 8, 0), "sweep s: 8 trials submitted");
        assert_eq!(said(8, 0, 0), "sweep s: all 8 trials were there already");
        assert_eq!(
            said(8, 3, 2),
            "sweep s: 3 trials added, 8 in all; 2 of them have succeeded in other sweeps and will not run again"
        );
    }
}
