//! `sortie artifacts`: the files of a trial.

use anyhow::Result;
use sortie_analysis::ArtifactList;

use crate::connection::{Client, Connection};
use crate::{output, rows};

/// List the files of a trial: its checkpoints while it runs, weights and logits when it has ended, and the digests of what was not kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let list = rows::artifacts(Client::connect(connection).await?.artifacts(&arguments.trial).await?)?;
    if arguments.json {
        return output::json(&list);
    }
    if list.artifacts.is_empty() {
        let ArtifactList { trial, state, .. } = &list;
        return output::text(&format!("trial {trial} is {state} and has left nothing"));
    }
    output::text(&list.text())
}
