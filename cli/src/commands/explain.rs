//! `sortie explain`: the history of one trial.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use sortie_core::trial::{Point, TrialId};
use sortie_proto::v1::{ExplainResponse, TrialEvent};

use super::trials::{TrialOutput, progress};
use crate::client::Client;
use crate::connection::Connection;
use crate::output;

/// Show the history of a trial: its attempts, the workers that ran them, how each ended, and what it waits for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    sweep: String,
    #[serde(flatten)]
    trial: TrialOutput,
    /// The attempt that counts or runs: 1 for the first.
    attempt: Option<usize>,
    /// Its fencing token, which names it in the database and in logs of workers.
    token: Option<i64>,
    /// Why no worker may run it.
    note: Option<String>,
    waits_seconds: f64,
    /// Of a combination: the first digits of each member, and its state.
    members: Vec<String>,
    events: Vec<EventOutput>,
}

#[derive(Serialize)]
struct EventOutput {
    ago_seconds: f64,
    attempt: Option<usize>,
    token: Option<i64>,
    what: String,
    detail: String,
}

/// Prints the history.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut history = Client::connect(connection).await?.explain(&arguments.trial).await?;
    let trial = history.trial.take().context("the coordinator's answer has no trial")?;
    let point: Point = trial.point.clone().unwrap_or_default().try_into()?;
    if arguments.json {
        return output::json(&output_of(history, TrialOutput::new(trial, point)));
    }
    let id: TrialId = trial.trial_id.parse()?;
    let mut rows = vec![
        ("state", trial.state.clone()),
        ("step", progress(&trial)),
        ("attempts", trial.attempts.to_string()),
    ];
    if !trial.reused_from.is_empty() {
        rows.push(("result", format!("reused from {}", trial.reused_from)));
    }
    if !history.note.is_empty() {
        rows.push(("waits", history.note.clone()));
    }
    if history.waits_ms > 0 {
        rows.push((
            "waits",
            format!("{} after a failure", output::short(Duration::from_millis(history.waits_ms))),
        ));
    }
    if !trial.worker.is_empty() {
        rows.push(("worker", trial.worker.clone()));
    }
    if !point.held_out.is_empty() {
        rows.push(("held_out", point.held_out_label()));
    }
    let names = sortie_analysis::parameter_names([&point]);
    rows.extend(
        names.iter().filter_map(|name| Some((name.as_str(), point.parameters.get(name)?.to_string()))),
    );
    rows.extend([("seed", point.seed.to_string()), ("split seed", point.split_seed.to_string())]);
    if !history.members.is_empty() {
        rows.push(("members", history.members.join(", ")));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = format!("trial {id} of sweep {}\n", history.sweep);
    for (name, value) in rows {
        text.push_str(&format!("  {name:<width$}  {value}\n"));
    }
    output::text(&format!("{text}\n{}", timeline(&history.events)))
}

/// The attempts at a trial by their tokens, in the order in which they started: the first is attempt 1.
pub struct Attempts(Vec<i64>);

impl Attempts {
    /// The attempts that a trial's events name.
    pub fn of(events: &[TrialEvent]) -> Self {
        let mut tokens = Vec::new();
        for event in events.iter().filter(|event| event.token > 0) {
            if !tokens.contains(&event.token) {
                tokens.push(event.token);
            }
        }
        Self(tokens)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The token of attempt 1, 2, 3, ...
    pub fn token(&self, number: usize) -> Option<i64> {
        self.0.get(number.checked_sub(1)?).copied()
    }

    /// Which attempt has this token.
    pub fn number(&self, token: i64) -> Option<usize> {
        self.0.iter().position(|found| *found == token).map(|index| index + 1)
    }
}

/// One line for each event, the oldest first.
fn timeline(events: &[TrialEvent]) -> String {
    if events.is_empty() {
        return "no events yet".to_owned();
    }
    let attempts = Attempts::of(events);
    let rows: Vec<[String; 4]> = events
        .iter()
        .map(|event| {
            let TrialEvent { ago_ms, token, what, detail } = event;
            let attempt =
                attempts.number(*token).map(|number| format!("attempt {number}")).unwrap_or_default();
            // An error message of a program may have several lines.
            let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
            [format!("{} ago", output::short(Duration::from_millis(*ago_ms))), attempt, what.clone(), detail]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |[ago, attempt, what, detail]: &[String; 4]| {
        let line = format!("{ago:>0$}  {attempt:<1$}  {what:<2$}  {detail}", widths[0], widths[1], widths[2]);
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn output_of(history: ExplainResponse, trial: TrialOutput) -> Output {
    let ExplainResponse { sweep, trial: _, token, waits_ms, events, note, members } = history;
    let attempts = Attempts::of(&events);
    let positive = |token| Some(token).filter(|&token| token > 0);
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let event = |TrialEvent { ago_ms, token, what, detail }: TrialEvent| EventOutput {
        ago_seconds: seconds(ago_ms),
        attempt: attempts.number(token),
        token: positive(token),
        what,
        detail,
    };
    Output {
        sweep,
        trial,
        attempt: attempts.number(token),
        token: positive(token),
        note: Some(note).filter(|note| !note.is_empty()),
        waits_seconds: seconds(waits_ms),
        members,
        events: events.into_iter().map(event).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_has_a_line_for_each_event() {
        let event = |ago_ms, token, what: &str, detail: &str| TrialEvent {
            ago_ms,
            token,
            what: what.into(),
            detail: detail.into(),
        };
        let events = [
            event(733_000, 0, "retried", "by a user"),
            event(185_000, 17, "lost", "its worker was not heard from\n for 10 s"),
            event(900, 18, "started", "on gpu4:4711"),
        ];
        let expected = "12 m ago             retried  by a user\n \
                        3 m ago  attempt 1  lost     its worker was not heard from for 10 s\n \
                        0 s ago  attempt 2  started  on gpu4:4711";
        assert_eq!(timeline(&events), expected);
        let attempts = Attempts::of(&events);
        assert_eq!(
            (attempts.count(), attempts.token(2), attempts.token(0), attempts.token(3)),
            (2, Some(18), None, None)
        );
        assert_eq!((attempts.number(17), attempts.number(0)), (Some(1), None));
    }
}
