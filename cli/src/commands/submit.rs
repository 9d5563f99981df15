//! `sortie submit`: store a sweep, or resume it.

use anyhow::{Context, Result};
use serde_json::json;
use sortie_proto::v1::SubmitProgress;

use crate::connection::{Client, Connection};
use crate::output;
use crate::sweep_source::SweepArguments;
use crate::watching::follow_submission;

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
    let read = arguments.sweep.read()?;
    output::warn(&read.warnings);
    let request = read.request(arguments.no_reuse, arguments.priority);
    let progress = Client::connect(connection).await?.submit(request).await?;
    let last = follow_submission(progress, arguments.json).await.context(INTERRUPTED)?;
    let SubmitProgress { sweep, planned, added, reused, .. } = &last;
    if added > reused {
        output::warn(&read.outlook(connection).await);
    }
    if arguments.json {
        return output::json(
            &json!({ "sweep": sweep, "planned": planned, "added": added, "reused": reused }),
        );
    }
    output::text(&summary(&last))
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
