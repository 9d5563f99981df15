//! `sortie explain`: the history of one trial.

use anyhow::Result;

use crate::connection::{Client, Connection};
use crate::{output, rows};

/// Show the history of a trial: its attempts, the workers that ran them, how each ended, and what it waits for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the history.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let history = rows::history(Client::connect(connection).await?.explain(&arguments.trial).await?)?;
    if arguments.json { output::json(&history) } else { output::text(&history.text()) }
}
