//! `sortie status`: the progress of sweeps.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use sortie_proto::v1::SweepStatus;
use tokio::time::Instant;

use crate::client::{Client, ClientError, RetryingClient};
use crate::connection::Connection;
use crate::output;

/// Show the progress of sweeps and the time left.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name; all sweeps if none is given.
    sweep: Option<String>,
    /// Update until every trial has ended, also if the coordinator restarts. Exits with code 1 if a trial failed.
    #[arg(long)]
    watch: bool,
    /// Print one JSON object; with --watch, one line for each change.
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
    state: String,
    priority: i64,
    planned: u64,
    blocked: u64,
    queued: u64,
    delayed: bool,
    running: u64,
    succeeded: u64,
    reused: u64,
    diverged: u64,
    failed: u64,
    cancelled: u64,
    steps_done: u64,
    steps_planned: u64,
    eta_seconds: Option<u64>,
}

/// The interval of requests of `--watch`.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the status, once or until the end.
///
/// # Errors
/// One line: the coordinator refuses or is gone, or a watched trial failed.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    if arguments.watch {
        return watch(RetryingClient::connect(connection).await?, arguments).await;
    }
    let sweeps = Client::connect(connection).await?.status(arguments.sweep.as_deref()).await?;
    if arguments.json {
        return output::json(&output_of(&sweeps, eta));
    }
    if sweeps.is_empty() {
        return output::text("no sweep was submitted yet: `sortie submit SWEEP.toml`");
    }
    output::text(&table(&sweeps))
}

fn table(sweeps: &[SweepStatus]) -> String {
    let header = [
        "sweep",
        "state",
        "priority",
        "done",
        "running",
        "queued",
        "failed",
        "diverged",
        "cancelled",
        "time left",
    ];
    let mut table = output::table(header);
    for status in sweeps {
        let part = |count: u64, what| if count > 0 { format!(" ({count} {what})") } else { String::new() };
        let (reused, blocked) = (part(status.reused, "reused"), part(status.blocked, "more blocked"));
        table.add_row([
            status.sweep.clone(),
            status.state.clone(),
            status.priority.to_string(),
            format!("{}/{}{reused}", status.succeeded, status.planned),
            status.running.to_string(),
            format!("{}{blocked}", status.queued),
            status.failed.to_string(),
            status.diverged.to_string(),
            status.cancelled.to_string(),
            time_left(status, eta(status)),
        ]);
    }
    table.trim_fmt()
}

fn ended(status: &SweepStatus) -> u64 {
    status.succeeded + status.diverged + status.failed + status.cancelled
}

/// Whether no trial will change any more. A sweep that is still being stored gets more trials; one that was cancelled before it was stored
/// never gets all that its grid plans.
pub fn is_over(status: &SweepStatus) -> bool {
    match status.state.as_str() {
        "expanding" => false,
        "cancelled" => status.blocked + status.queued + status.running == 0,
        // This build runs none of what is left.
        "outdated" => status.running == 0,
        _ => status.planned > 0 && ended(status) >= status.planned,
    }
}

/// From the time that finished attempts took, shared between the trials that run now.
pub fn eta(status: &SweepStatus) -> Option<Duration> {
    let steps_left = status.steps_planned.saturating_sub(status.steps_done) as f64;
    let steps_each = status.steps_planned as f64 / status.planned.max(1) as f64;
    let finished_steps = status.finished_attempts as f64 * steps_each;
    if finished_steps <= 0.0 || status.running == 0 {
        return None;
    }
    let milliseconds_a_step = status.running_ms as f64 / finished_steps;
    Duration::try_from_secs_f64(steps_left * milliseconds_a_step / 1_000.0 / status.running as f64).ok()
}

fn time_left(status: &SweepStatus, eta: Option<Duration>) -> String {
    match eta {
        _ if status.state == "outdated" => "another build planned it".to_owned(),
        _ if is_over(status) => outcome(status),
        Some(eta) => HumanDuration(eta).to_string(),
        None if status.running == 0 && ["paused", "expanding"].contains(&status.state.as_str()) => {
            status.state.clone()
        }
        None if status.running == 0 && status.delayed => "waits after a failure".to_owned(),
        None if status.running == 0 => "waits for a free worker".to_owned(),
        None => "not known yet".to_owned(),
    }
}

/// How a sweep ended: which trials have no result, if any.
fn outcome(status: &SweepStatus) -> String {
    let counts = [(status.failed, "failed"), (status.diverged, "diverged"), (status.cancelled, "cancelled")];
    let without: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if without.is_empty() { "done".to_owned() } else { format!("ended: {}", without.join(", ")) }
}

fn output_of(sweeps: &[SweepStatus], eta: impl Fn(&SweepStatus) -> Option<Duration>) -> Output {
    let sweep = |status: &SweepStatus| SweepOutput {
        sweep: status.sweep.clone(),
        state: status.state.clone(),
        priority: status.priority,
        planned: status.planned,
        blocked: status.blocked,
        queued: status.queued,
        delayed: status.delayed,
        running: status.running,
        succeeded: status.succeeded,
        reused: status.reused,
        diverged: status.diverged,
        failed: status.failed,
        cancelled: status.cancelled,
        steps_done: status.steps_done,
        steps_planned: status.steps_planned,
        eta_seconds: eta(status).map(|eta| eta.as_secs()),
    };
    Output { sweeps: sweeps.iter().map(sweep).collect() }
}

async fn watch(mut client: RetryingClient<'_>, arguments: &Arguments) -> Result<()> {
    let terminal = std::io::stderr().is_terminal() && !arguments.json;
    let bar = if terminal { ProgressBar::new(1) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{wide_bar} {msg}")?);
    let started = Instant::now();
    let (mut first_steps, mut said) = (None, None);
    loop {
        let mut noted = false;
        let outage = |error: &ClientError| {
            let note = format!("{error}; asking again");
            // Without a terminal, one line for each outage.
            if !terminal && !std::mem::replace(&mut noted, true) {
                output::note(&note);
            }
            bar.set_message(note);
        };
        let sweeps = client.status(arguments.sweep.as_deref(), outage).await?;
        let total = total(&sweeps);
        let first = *first_steps.get_or_insert(total.steps_done);
        let eta = observed(&total, first, started.elapsed()).or_else(|| eta(&total));
        let line = line(&total, eta);
        bar.set_length(total.steps_planned.max(1));
        bar.set_position(total.steps_done);
        bar.set_message(line.clone());
        // Without a terminal, a line whenever a trial starts or ends; a new estimate of the time left prints none.
        let news = (total.running, ended(&total), total.planned);
        if !terminal && said != Some(news) {
            said = Some(news);
            if arguments.json { output::json(&output_of(&sweeps, |_| eta))? } else { output::text(&line)? }
        }
        if is_over(&total) {
            bar.finish_and_clear();
            if terminal {
                output::text(&line)?;
            }
            anyhow::ensure!(
                total.failed == 0,
                "{} trials failed; `sortie trials NAME --state failed` lists the errors",
                total.failed
            );
            return Ok(());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// The time left, from the steps that were made while this command watched; none before there are enough of them.
pub fn observed(total: &SweepStatus, first_steps: u64, watched: Duration) -> Option<Duration> {
    let made = total.steps_done.checked_sub(first_steps).filter(|&made| made > 10)?;
    let left = total.steps_planned.saturating_sub(total.steps_done);
    Some(watched.mul_f64(left as f64 / made as f64))
}

fn total(sweeps: &[SweepStatus]) -> SweepStatus {
    let mut total = SweepStatus::default();
    for status in sweeps {
        total.planned += status.planned;
        total.blocked += status.blocked;
        total.queued += status.queued;
        total.running += status.running;
        total.succeeded += status.succeeded;
        total.diverged += status.diverged;
        total.failed += status.failed;
        total.cancelled += status.cancelled;
        total.steps_done += status.steps_done;
        total.steps_planned += status.steps_planned;
        total.running_ms += status.running_ms;
        total.finished_attempts += status.finished_attempts;
    }
    let mut waiting = sweeps.iter().filter(|status| status.queued > 0);
    total.delayed = total.queued > 0 && waiting.all(|status| status.delayed);
    // The first state of this list that a sweep has is shown. Without sweeps, nothing is over.
    let least = ["expanding", "open", "paused", "cancelled"];
    let is_left = |state: &&&str| sweeps.iter().any(|status| status.state == **state && !is_over(status));
    let all_over = if sweeps.is_empty() { "open" } else { "cancelled" };
    total.state = least.iter().find(is_left).unwrap_or(&all_over).to_string();
    total
}

/// The progress in one line.
pub fn line(total: &SweepStatus, eta: Option<Duration>) -> String {
    let mut line = format!("{}/{} trials done, {} running", total.succeeded, total.planned, total.running);
    for (count, what) in
        [(total.failed, "failed"), (total.diverged, "diverged"), (total.cancelled, "cancelled")]
    {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if !is_over(total) {
        line.push_str(&format!(", time left: {}", time_left(total, eta)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_done() -> SweepStatus {
        SweepStatus {
            sweep: "pacs".into(),
            state: "open".into(),
            planned: 4,
            running: 2,
            queued: 1,
            succeeded: 1,
            steps_done: 150,
            steps_planned: 400,
            running_ms: 10_000,
            finished_attempts: 1,
            ..SweepStatus::default()
        }
    }

    #[test]
    fn time_left_comes_from_finished_attempts_or_from_what_was_watched() {
        let status = half_done();
        assert_eq!(eta(&status), Some(Duration::from_millis(12_500)));
        assert_eq!(observed(&status, 100, Duration::from_secs(5)), Some(Duration::from_secs(25)));
        assert_eq!(observed(&status, 145, Duration::from_secs(5)), None);
        assert_eq!(eta(&SweepStatus { running: 0, ..status.clone() }), None);
        let idle = SweepStatus { running: 0, ..status };
        assert_eq!(time_left(&idle, None), "waits for a free worker");
        let delayed = SweepStatus { delayed: true, ..idle.clone() };
        assert_eq!(time_left(&delayed, None), "waits after a failure");
        assert!(
            total(&[delayed.clone(), SweepStatus::default()]).delayed
                && !total(&[delayed, idle.clone()]).delayed
        );
        assert_eq!(time_left(&SweepStatus { state: "paused".into(), ..idle }, None), "paused");
        let over = SweepStatus { queued: 0, running: 0, succeeded: 4, ..half_done() };
        assert_eq!(time_left(&over, None), "done");
        let over = SweepStatus { succeeded: 1, failed: 2, cancelled: 1, ..over };
        assert_eq!(time_left(&over, None), "ended: 2 failed, 1 cancelled");
    }

    #[test]
    fn a_sweep_is_over_when_no_trial_is_left_and_none_can_come() {
        let ended =
            SweepStatus { queued: 0, running: 0, diverged: 1, failed: 1, cancelled: 1, ..half_done() };
        let over = SweepStatus { succeeded: 1, ..ended };
        assert!(is_over(&over) && !is_over(&SweepStatus { cancelled: 0, ..over.clone() }));
        assert!(!is_over(&SweepStatus { state: "expanding".into(), ..over.clone() }));
        let cut_short =
            SweepStatus { state: "cancelled".into(), planned: 9, queued: 0, running: 0, ..over.clone() };
        assert!(is_over(&cut_short) && !is_over(&SweepStatus { running: 1, ..cut_short.clone() }));
        // One sweep that goes on keeps all of them from being over.
        let expanding = SweepStatus { state: "expanding".into(), ..over.clone() };
        assert!(is_over(&total(&[over.clone(), cut_short.clone()])));
        assert!(
            !is_over(&total(&[over.clone(), expanding]))
                && !is_over(&total(&[cut_short, half_done()]))
                && !is_over(&total(&[]))
        );
    }

    #[test]
    fn a_sweep_is_one_row_and_one_object() {
        let status = SweepStatus {
            reused: 1,
            cancelled: 2,
            planned: 6,
            priority: -3,
            running_ms: 8_000,
            ..half_done()
        };
        assert_eq!(
            table(std::slice::from_ref(&status)),
            " sweep  state  priority  done            running  queued  failed  diverged  cancelled  time left\n \
             pacs   open   -3        1/6 (1 reused)  2        1       0       0         2          15 seconds"
        );
        let json = serde_json::to_value(output_of(&[status], eta)).unwrap();
        let expected = serde_json::json!({"sweeps": [{
            "sweep": "pacs", "state": "open", "priority": -3, "planned": 6, "blocked": 0, "queued": 1, "delayed": false, "running": 2, "succeeded": 1, "reused": 1,
            "diverged": 0, "failed": 0, "cancelled": 2, "steps_done": 150, "steps_planned": 400, "eta_seconds": 15,
        }]});
        assert_eq!(json, expected);
    }
}
