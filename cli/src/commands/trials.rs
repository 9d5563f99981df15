//! `sortie trials`: every trial of a sweep.

use anyhow::Result;
use serde::Serialize;
use sortie_core::filter::{Filter, UnmetConditions};
use sortie_core::job::StateName;
use sortie_core::trial::{Point, TrialId};
use sortie_proto::v1::Trial;

use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::output;
use crate::output::PointOutput;

/// List the trials of a sweep: state, step, worker and error of each.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Only trials in this state: blocked, queued, running, succeeded, diverged, failed or cancelled.
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

/// A trial, as JSON output names it.
#[derive(Serialize)]
pub struct TrialOutput {
    trial: String,
    point: PointOutput,
    state: String,
    attempts: u32,
    step: u64,
    steps: Option<u64>,
    worker: String,
    error: String,
    /// SWEEP/PREFIX of the trial whose result this is, if it is another sweep's.
    reused_from: Option<String>,
}

impl TrialOutput {
    /// The trial at this point.
    pub fn new(trial: Trial, point: Point) -> Self {
        let Trial { trial_id, point: _, state, attempts, step, steps, worker, error, reused_from } = trial;
        let reused_from = Some(reused_from).filter(|name| !name.is_empty());
        let steps = Some(steps).filter(|&steps| steps > 0);
        Self {
            trial: trial_id,
            point: point.into(),
            state,
            attempts,
            step,
            steps,
            worker,
            error,
            reused_from,
        }
    }
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses, or a condition names an axis that the sweep does not have.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let state = arguments.state.map_or("", StateName::as_str);
    let mut stream = client.trials(&arguments.sweep, state).await?;
    let filter = arguments.filter.clone().unwrap_or_default();
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
        if filter.matches(&point) {
            trials.push((trial, point));
        }
    }
    if let Some(example) = &example {
        filter.check(example)?;
    }
    if trials.is_empty() {
        warn_of_unmet(&mut client, &arguments.sweep, &filter).await?;
    }
    if arguments.json {
        let trials = trials.into_iter().map(|(trial, point)| TrialOutput::new(trial, point)).collect();
        return output::json(&Output { sweep: arguments.sweep.clone(), trials });
    }
    if trials.is_empty() {
        return output::text("no trials meet these conditions");
    }
    output::text(&table(&trials)?)
}

/// Notes conditions that no trial of the sweep meets, in any state, and the values that trials have.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn warn_of_unmet(client: &mut Client, sweep: &str, filter: &Filter) -> Result<()> {
    if *filter == Filter::default() {
        return Ok(());
    }
    let mut unmet = UnmetConditions::of(filter);
    let mut stream = client.trials(sweep, "").await?;
    while let Some(trial) = stream.message().await.map_err(ClientError::from)? {
        unmet.see(&trial.point.unwrap_or_default().try_into()?);
    }
    for (axis, value, known) in unmet.conditions().filter(|(_, _, known)| !known.is_empty()) {
        output::note(&format!(
            "no trial of sweep {sweep} has {axis} = {value}: it has {}",
            output::shortened(known)
        ));
    }
    Ok(())
}

/// The progress of the trial's newest attempt.
pub fn progress(trial: &Trial) -> String {
    if trial.steps > 0 { format!("{}/{}", trial.step, trial.steps) } else { trial.step.to_string() }
}

fn table(trials: &[(Trial, Point)]) -> Result<String> {
    let points = || trials.iter().map(|(_, point)| point);
    let parameters = sortie_analysis::parameter_names(points());
    // Columns that are empty, or that have one value by default, are left out.
    let held_out = points().any(|point| !point.held_out.is_empty());
    let split = points().any(|point| point.split_seed != 0);
    let reused = trials.iter().any(|(trial, _)| !trial.reused_from.is_empty());
    let mut header = vec!["trial", "state"];
    header.extend(held_out.then_some("held out"));
    header.extend(parameters.iter().map(String::as_str));
    header.push("seed");
    header.extend(split.then_some("split seed"));
    header.extend(["attempts", "step", "worker"]);
    header.extend(reused.then_some("reused from"));
    header.push("error");
    let mut table = output::table(header);
    for (trial, point) in trials {
        let id: TrialId = trial.trial_id.parse()?;
        let mut row = vec![id.short(), trial.state.clone()];
        row.extend(held_out.then(|| point.held_out_label()));
        row.extend(
            parameters
                .iter()
                .map(|name| point.parameters.get(name).map(ToString::to_string).unwrap_or_default()),
        );
        row.push(point.seed.to_string());
        row.extend(split.then(|| point.split_seed.to_string()));
        row.extend([trial.attempts.to_string(), progress(trial), trial.worker.clone()]);
        row.extend(reused.then(|| trial.reused_from.clone()));
        row.push(trial.error.clone());
        table.add_row(row);
    }
    Ok(table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::{Parameters, Scalar};

    fn trial(held_out: &[&str], split_seed: u64) -> (Trial, Point) {
        let parameters = Parameters::from([
            ("optimiser".to_owned(), Scalar::Text("adam".into())),
            ("lr".to_owned(), Scalar::Number(1e-3)),
        ]);
        let held_out = held_out.iter().map(|domain| (*domain).to_owned()).collect();
        let trial = Trial {
            trial_id: "94f9de813446924ef6b1cf831eaa3ef4".into(),
            state: "failed".into(),
            attempts: 3,
            step: 7,
            worker: "gpu4:4711".into(),
            error: "transient: exit code 1".into(),
            ..Trial::default()
        };
        (trial, Point { held_out, parameters, seed: 2, split_seed })
    }

    #[test]
    fn a_trial_is_one_row_with_only_the_columns_that_say_something() {
        assert_eq!(
            table(&[trial(&[], 0)]).unwrap(),
            " trial     state   lr    optimiser  seed  attempts  step  worker     error\n \
             94f9de81  failed  1e-3  adam       2     3         7     gpu4:4711  transient: exit code 1"
        );
        let (mut known, point) = trial(&["photo", "sketch"], 1);
        known.steps = 9;
        known.reused_from = "other/94f9de81".into();
        let text = table(&[(known, point)]).unwrap();
        assert!(
            text.contains("held out")
                && text.contains("photo+sketch")
                && text.contains("split")
                && text.contains("7/9"),
            "{text}"
        );
        assert!(text.contains("reused from") && text.contains("other/94f9de81"), "{text}");
    }

    #[test]
    fn json_has_the_point_and_null_for_steps_that_nobody_knows() {
        let (trial, point) = trial(&["photo"], 0);
        let json = serde_json::to_string(&TrialOutput::new(trial, point)).unwrap();
        let expected = r#"{"trial":"94f9de813446924ef6b1cf831eaa3ef4","point":{"held_out":"photo","lr":0.001,"optimiser":"adam","seed":2,"split":0},"state":"failed","attempts":3,"step":7,"steps":null,"worker":"gpu4:4711","error":"transient: exit code 1","reused_from":null}"#;
        assert_eq!(json, expected);
    }
}
