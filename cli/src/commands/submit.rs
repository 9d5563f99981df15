//! `sortie submit`: store a sweep, or resume it.

use anyhow::{Context, Result};
use serde_json::json;
use sortie_proto::v1::{KeptValues, LackingTrials, PreviewResponse, SettingChange, SubmitProgress};

use crate::connection::{Client, Connection};
use crate::output;
use crate::sweep_source::{Reuse, SweepArguments};
use crate::watching::{follow_submission, lacking_line};

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
    /// Let results count whatever files they left.
    ///
    /// Otherwise a trial whose result lacks weights or logits that `[keep]` asks for runs again. Its earlier result counts until it has
    /// another.
    #[arg(long, conflicts_with = "no_reuse")]
    reuse_anyway: bool,
    /// Serve this sweep before those with lower numbers. New sweeps have 0; an old one keeps what it has.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Store nothing: show which trials, combinations and settings would change.
    #[arg(long)]
    dry_run: bool,
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
    let reuse = Reuse { no_reuse: arguments.no_reuse, reuse_anyway: arguments.reuse_anyway };
    let request = read.request(reuse, arguments.priority);
    let mut client = Client::connect(connection).await?;
    let preview = client.preview(request.clone()).await?;
    if arguments.dry_run {
        return show(&preview, arguments.json);
    }
    if !arguments.json {
        differences(&preview).iter().for_each(|line| output::note(line));
    }
    let progress = client.submit(request).await?;
    let last = follow_submission(progress, arguments.json).await.context(INTERRUPTED)?;
    let SubmitProgress { sweep, planned, added, reused, lacking, .. } = &last;
    if added > reused || lacking.is_some_and(|lacking| lacking.trials > 0) {
        output::warn(&read.outlook(connection).await);
    }
    if arguments.json {
        return output::json(
            &json!({ "sweep": sweep, "planned": planned, "added": added, "reused": reused, "lacking": lacking_json(*lacking) }),
        );
    }
    lacking_line(*lacking, "run again").iter().for_each(|line| output::note(line));
    output::text(&summary(&last))
}

/// Shows what would change.
fn show(preview: &PreviewResponse, json: bool) -> Result<()> {
    let PreviewResponse { sweep, is_new, trials, combinations, changes, kept, lacking } = preview;
    if !json {
        let mut text = plan(preview);
        let lacking = lacking_line(*lacking, "would run again");
        differences(preview).iter().chain(&lacking).for_each(|line| text.push_str(&format!("\n{line}")));
        return output::text(&text);
    }
    let change =
        |SettingChange { key, old, new }: &SettingChange| json!({ "key": key, "old": old, "new": new });
    let kept: Vec<_> =
        kept.iter().map(|KeptValues { key, values }| json!({ "key": key, "values": values })).collect();
    output::json(&json!({
        "sweep": sweep, "is_new": is_new, "trials": trials, "combinations": combinations,
        "changes": changes.iter().map(change).collect::<Vec<_>>(), "kept": kept,
        "lacking": lacking_json(*lacking),
    }))
}

fn plan(preview: &PreviewResponse) -> String {
    let PreviewResponse { sweep, is_new, trials, combinations, .. } = preview;
    let verb = if *is_new { "would be new, with" } else { "is stored, and would get" };
    match (trials, combinations) {
        (0, 0) => format!("sweep {sweep} is stored, and would get no trials"),
        (_, 0) => format!("sweep {sweep} {verb} {trials} trials"),
        _ => format!("sweep {sweep} {verb} {trials} trials and {combinations} combinations"),
    }
}

/// What differs between the file and the stored sweep, one line each; nothing for a new sweep.
fn differences(preview: &PreviewResponse) -> Vec<String> {
    let change = |SettingChange { key, old, new }: &SettingChange| format!("{key}: {old} -> {new}");
    let kept = |KeptValues { key, values }: &KeptValues| format!("{key}: {values}");
    let list = |title: &str, items: Vec<String>| {
        (!items.is_empty()).then(|| format!("{title}: {}", items.join("; ")))
    };
    let changes = list("what changes", preview.changes.iter().map(change).collect());
    let kept = list(
        "what the sweep keeps, though the file does not have it",
        preview.kept.iter().map(kept).collect(),
    );
    changes.into_iter().chain(kept).collect()
}

fn lacking_json(lacking: Option<LackingTrials>) -> serde_json::Value {
    let LackingTrials { trials, final_weights, selected_weights, logits, average, ensemble } =
        lacking.unwrap_or_default();
    json!({
        "trials": trials, "average": average, "ensemble": ensemble,
        "final_weights": final_weights, "selected_weights": selected_weights, "logits": logits,
    })
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
                lacking: None,
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
