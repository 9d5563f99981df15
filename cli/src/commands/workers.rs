//! `sortie workers`: the workers of a coordinator.

use anyhow::Result;
use sortie_analysis::WorkerList;

use crate::connection::{Client, Connection};
use crate::{output, rows};

/// List the workers: what they have, what they run, and when they were last heard from.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Also those that left, or were last heard from more than an hour ago.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let workers = Client::connect(connection).await?.workers(arguments.all).await?;
    let list = WorkerList { workers: workers.into_iter().map(rows::worker).collect::<Result<_>>()? };
    if arguments.json {
        return output::json(&list);
    }
    if list.workers.is_empty() {
        return output::text(
            "no worker is there: start one with `sortie worker`, or see those that were with --all",
        );
    }
    output::text(&list.text())
}
