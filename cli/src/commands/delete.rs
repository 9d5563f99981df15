//! `sortie delete`: a sweep and all that is stored of it.

use std::io::IsTerminal as _;

use anyhow::{Result, bail};
use indicatif::HumanBytes;
use serde_json::json;
use sortie_proto::v1::DeleteResponse;

use crate::connection::{Client, Connection};
use crate::output;

/// Delete a sweep: its trials, their results, logs and histories. Nothing brings them back.
///
/// Refused while its trials run, and where other sweeps reuse its results. Files in the artifact store (weights, logits, checkpoints)
/// stay, since the same trial in another sweep may have left the same file; docs/artifacts.md says how to remove them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Do not ask. Needed where nobody can answer, as in scripts.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Asks, and deletes.
///
/// # Errors
/// One line: the coordinator refuses, or nobody agreed.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, yes, json } = arguments;
    let mut client = Client::connect(connection).await?;
    if !yes {
        let contents = client.delete(sweep, true).await?;
        let what = format!("sweep {sweep} has {}", described(&contents));
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            bail!("{what}: add --yes to delete them");
        }
        output::note(&format!("{what}. Write its name to delete them for good:"));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != sweep {
            bail!("nothing was deleted");
        }
    }
    let gone = client.delete(sweep, false).await?;
    if *json {
        let DeleteResponse { trials, succeeded, files, bytes, store } = &gone;
        return output::json(&json!({
            "sweep": sweep, "trials": trials, "succeeded": succeeded,
            "files_left": files, "bytes_left": bytes, "store": store,
        }));
    }
    let mut text = format!("sweep {sweep} is deleted, with {}", described(&gone));
    if gone.files > 0 {
        let place = if gone.store.is_empty() {
            "on the workers' disks".to_owned()
        } else {
            format!("in {} or on the workers' disks", gone.store)
        };
        let (files, size) = (gone.files, HumanBytes(gone.bytes));
        text.push_str(&format!("; {files} files ({size}) that they left stay, {place}"));
    }
    output::text(&text)
}

fn described(contents: &DeleteResponse) -> String {
    format!("{} trials, {} of them with a result", contents.trials, contents.succeeded)
}
