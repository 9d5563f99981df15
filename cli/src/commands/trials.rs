//! `sortie trials`: every trial of a sweep.

use anyhow::Result;
use serde::Serialize;
use sortie_answers::number;
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::trial::{Point, TrialId};
use sortie_proto::v1;

use crate::client::{Client, refusal};
use crate::output::PointOutput;
use crate::{Connection, output};

/// List the trials of a sweep.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Only trials in this state: queued, leased, succeeded, diverged or failed.
    #[arg(long)]
    state: Option<StateName>,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and held_out=sketch'.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    sweep: String,
    trials: Vec<TrialOutput>,
}

#[derive(Serialize)]
struct TrialOutput {
    trial: String,
    point: PointOutput,
    state: String,
    attempts: u32,
    step: u64,
    steps: u64,
    worker: String,
    error: String,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let state = arguments.state.map_or("", StateName::as_str);
    let mut stream = client.trials(&arguments.sweep, state).await?;
    let mut trials = Vec::new();
    while let Some(trial) = stream.message().await.map_err(refusal)? {
        let point: Point = trial.point.clone().unwrap_or_default().into();
        if arguments.filter.as_ref().is_none_or(|filter| filter.matches(&point)) {
            trials.push((trial, point));
        }
    }
    if arguments.json {
        let trials = trials.into_iter().map(|(trial, point)| trial_output(trial, &point)).collect();
        return output::json(&Output { sweep: arguments.sweep.clone(), trials });
    }
    if trials.is_empty() {
        return output::text("no trials meet these conditions");
    }
    let mut table = output::table(&[
        "trial",
        "state",
        "held out",
        "dropout",
        "lr",
        "weight decay",
        "seed",
        "split",
        "step",
        "attempts",
        "worker",
        "error",
    ]);
    for (trial, point) in &trials {
        let id: TrialId = trial.trial_id.parse()?;
        table.add_row([
            id.short(),
            trial.state.clone(),
            point.held_out_label(),
            number(point.dropout),
            number(point.lr),
            number(point.weight_decay),
            point.seed.to_string(),
            point.split_seed.to_string(),
            format!("{}/{}", trial.step, trial.steps),
            trial.attempts.to_string(),
            trial.worker.clone(),
            trial.error.clone(),
        ]);
    }
    output::text(&table.trim_fmt())
}

fn trial_output(trial: v1::Trial, point: &Point) -> TrialOutput {
    let v1::Trial { trial_id, point: _, state, attempts, step, steps, worker, error } = trial;
    TrialOutput { trial: trial_id, point: point.into(), state, attempts, step, steps, worker, error }
}
