//! `sortie status`: how far sweeps are.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use sortie_proto::v1::SweepStatus;
use tokio::time::Instant;

use crate::client::Client;
use crate::{Connection, output};

/// Say how far sweeps are, and how long they will take.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name; all sweeps if none is given.
    sweep: Option<String>,
    /// Go on until every trial has ended. Ends with exit code 1 if a trial failed.
    #[arg(long)]
    watch: bool,
    /// Print one JSON object; with --watch one a line, whenever something changed.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Output {
    sweeps: Vec<SweepOutput>,
}

#[derive(Debug, PartialEq, Serialize)]
struct SweepOutput {
    sweep: String,
    planned: u64,
    queued: u64,
    leased: u64,
    succeeded: u64,
    diverged: u64,
    failed: u64,
    steps_done: u64,
    steps_planned: u64,
    eta_seconds: Option<u64>,
}

/// How often a watched sweep is asked for.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the status, once or until the end.
///
/// # Errors
/// One line: the coordinator refuses or is gone, or a watched trial failed.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let sweep = arguments.sweep.as_deref();
    if arguments.watch {
        return watch(&mut client, arguments).await;
    }
    let sweeps = client.status(sweep).await?;
    if arguments.json {
        return output::json(&output_of(&sweeps, eta));
    }
    if sweeps.is_empty() {
        return output::text("no sweep was submitted yet: `sortie submit SWEEP.toml`");
    }
    let mut table = output::table(&["sweep", "done", "running", "queued", "failed", "diverged", "time left"]);
    for status in &sweeps {
        table.add_row([
            status.sweep.clone(),
            format!("{}/{}", status.succeeded, status.planned),
            status.leased.to_string(),
            status.queued.to_string(),
            status.failed.to_string(),
            status.diverged.to_string(),
            time_left(status, eta(status)),
        ]);
    }
    output::text(&table.trim_fmt())
}

fn ended(status: &SweepStatus) -> u64 {
    status.succeeded + status.diverged + status.failed
}

/// From the time that finished attempts took, shared between the trials that run now.
fn eta(status: &SweepStatus) -> Option<Duration> {
    let steps_left = status.steps_planned.saturating_sub(status.steps_done) as f64;
    let steps_each = status.steps_planned as f64 / status.planned.max(1) as f64;
    let finished_steps = status.finished_attempts as f64 * steps_each;
    if finished_steps <= 0.0 || status.leased == 0 {
        return None;
    }
    let milliseconds_a_step = status.running_ms as f64 / finished_steps;
    Some(Duration::from_secs_f64(steps_left * milliseconds_a_step / 1_000.0 / status.leased as f64))
}

fn time_left(status: &SweepStatus, eta: Option<Duration>) -> String {
    match eta {
        _ if ended(status) == status.planned => "done".to_owned(),
        Some(eta) => HumanDuration(eta).to_string(),
        None if status.leased == 0 => "waits for workers".to_owned(),
        None => "not known yet".to_owned(),
    }
}

fn output_of(sweeps: &[SweepStatus], eta: impl Fn(&SweepStatus) -> Option<Duration>) -> Output {
    let sweep = |status: &SweepStatus| SweepOutput {
        sweep: status.sweep.clone(),
        planned: status.planned,
        queued: status.queued,
        leased: status.leased,
        succeeded: status.succeeded,
        diverged: status.diverged,
        failed: status.failed,
        steps_done: status.steps_done,
        steps_planned: status.steps_planned,
        eta_seconds: eta(status).map(|eta| eta.as_secs()),
    };
    Output { sweeps: sweeps.iter().map(sweep).collect() }
}

async fn watch(client: &mut Client, arguments: &Arguments) -> Result<()> {
    let terminal = std::io::stderr().is_terminal() && !arguments.json;
    let bar = if terminal { ProgressBar::new(1) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{wide_bar} {msg}")?);
    let started = Instant::now();
    let (mut first_steps, mut said) = (None, None);
    loop {
        let sweeps = client.status(arguments.sweep.as_deref()).await?;
        let total = total(&sweeps);
        let first = *first_steps.get_or_insert(total.steps_done);
        let eta = observed(&total, first, started.elapsed()).or_else(|| eta(&total));
        let line = line(&total, eta);
        bar.set_length(total.steps_planned.max(1));
        bar.set_position(total.steps_done);
        bar.set_message(line.clone());
        // Without a terminal, a line whenever a trial starts or ends; the time left alone is no news.
        let news = (total.leased, ended(&total), total.planned);
        if !terminal && said != Some(news) {
            said = Some(news);
            if arguments.json { output::json(&output_of(&sweeps, |_| eta))? } else { output::text(&line)? }
        }
        if total.planned > 0 && ended(&total) == total.planned {
            bar.finish_and_clear();
            if terminal {
                output::text(&line)?;
            }
            anyhow::ensure!(total.failed == 0, "{} trials failed; `sortie trials NAME --state failed` says why", total.failed);
            return Ok(());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// From the steps that were made while we watched; none before there are enough of them to tell.
fn observed(total: &SweepStatus, first_steps: u64, watched: Duration) -> Option<Duration> {
    let made = total.steps_done.checked_sub(first_steps).filter(|&made| made > 10)?;
    let left = total.steps_planned.saturating_sub(total.steps_done);
    Some(watched.mul_f64(left as f64 / made as f64))
}

fn total(sweeps: &[SweepStatus]) -> SweepStatus {
    let mut total = SweepStatus::default();
    for status in sweeps {
        total.planned += status.planned;
        total.queued += status.queued;
        total.leased += status.leased;
        total.succeeded += status.succeeded;
        total.diverged += status.diverged;
        total.failed += status.failed;
        total.steps_done += status.steps_done;
        total.steps_planned += status.steps_planned;
        total.running_ms += status.running_ms;
        total.finished_attempts += status.finished_attempts;
    }
    total
}

fn line(total: &SweepStatus, eta: Option<Duration>) -> String {
    let mut line = format!("{}/{} trials done, {} running", total.succeeded, total.planned, total.leased);
    for (count, what) in [(total.failed, "failed"), (total.diverged, "diverged")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if ended(total) < total.planned {
        line.push_str(&format!(", time left: {}", time_left(total, eta)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_comes_from_finished_attempts_or_from_what_was_watched() {
        let status = SweepStatus {
            planned: 4,
            leased: 2,
            queued: 1,
            succeeded: 1,
            steps_done: 150,
            steps_planned: 400,
            running_ms: 10_000,
            finished_attempts: 1,
            ..SweepStatus::default()
        };
        assert_eq!(eta(&status), Some(Duration::from_millis(12_500)));
        assert_eq!(observed(&status, 100, Duration::from_secs(5)), Some(Duration::from_secs(25)));
        assert_eq!(observed(&status, 145, Duration::from_secs(5)), None);
        assert_eq!(eta(&SweepStatus { leased: 0, ..status.clone() }), None);
        assert_eq!(time_left(&SweepStatus { leased: 0, ..status }, None), "waits for workers");
    }
}
