//! `sortie explain`: the history of one trial.

use anyhow::{Result, anyhow};

use sortie_analysis::TrialHistory;

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
    /// Print a sweep file that runs this trial, with every setting spelled out: submitted, it makes the trial of the same id.
    ///
    /// A combination is printed with its members, which it runs on.
    #[arg(long, conflicts_with = "json")]
    config: bool,
}

/// Prints the history, or the file.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let history = rows::history(client.explain(&arguments.trial).await?)?;
    if arguments.config {
        let TrialHistory { sweep, trial, members, .. } = &history;
        let spec = client.describe(sweep).await?;
        let file = spec.trial_file(trial.id, &trial.point).map_err(|reason| match members.as_slice() {
            [] => anyhow!(reason),
            members => anyhow!("{reason}; it combines {}", members.join(", ")),
        })?;
        return output::text(&file);
    }
    if arguments.json { output::json(&history) } else { output::text(&history.text()) }
}
