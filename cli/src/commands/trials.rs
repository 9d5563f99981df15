//! `sortie trials`: every trial of a sweep.

use anyhow::Result;
use sortie_analysis::TrialList;
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::trial::Point;

use crate::conditions::{TrialFilter, warn_of_unmet};
use crate::connection::{Client, ClientError, Connection};
use crate::{output, rows};

/// List the trials of a sweep: state, step, worker and error of each.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Only trials in this state: blocked, queued, running, succeeded, diverged, failed or cancelled.
    #[arg(long)]
    state: Option<StateName>,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and held_out=sketch', or 'code=3f2a91c' for what ran.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses, or a condition names an axis that the sweep does not have.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let filter = TrialFilter::read(&mut client, &arguments.sweep, arguments.filter.as_ref()).await?;
    let mut stream = client.trials(&arguments.sweep, arguments.state).await?;
    let mut trials = Vec::new();
    // A value on every axis that some trial has: combinations have others than the trials that they combine.
    let mut example: Option<Point> = None;
    while let Some(trial) = stream.message().await.map_err(ClientError::from)? {
        let point: Point = trial.point.clone().unwrap_or_default().try_into()?;
        match &mut example {
            None => example = Some(point.clone()),
            Some(example) => example
                .parameters
                .extend(point.parameters.iter().map(|(name, value)| (name.clone(), value.clone()))),
        }
        if filter.matches(trial.trial_id.parse()?, &point) {
            trials.push(rows::trial(trial, point)?);
        }
    }
    if let Some(example) = &example {
        filter.check(example)?;
    }
    if trials.is_empty() {
        warn_of_unmet(&mut client, &arguments.sweep, &filter).await?;
        filter.warn_of_code(&arguments.sweep);
    }
    let list = TrialList { sweep: arguments.sweep.clone(), trials };
    if arguments.json {
        return output::json(&list);
    }
    if list.trials.is_empty() {
        return output::text("no trials meet these conditions");
    }
    output::text(&list.text())
}
