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
    /// End the quarantines of this machine: one trial is tried there, and the machine is fit again if that succeeds.
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["all", "json"])]
    release: Option<String>,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    if let Some(machine) = &arguments.release {
        return output::text(&match client.release(machine).await? {
            0 => format!("machine {machine} was not quarantined"),
            1 => format!("machine {machine} is tried again"),
            count => format!("machine {machine} is tried again, for {count} kinds of work"),
        });
    }
    let workers = client.workers(arguments.all).await?;
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
