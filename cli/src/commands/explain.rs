//! `sortie explain`: everything that happened to one trial.

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
    happenings: Vec<HappeningOutput>,
}

#[derive(Serialize)]
struct HappeningOutput {
    ago_seconds: f64,
    attempt: Option<usize>,
    token: Option<i64>,
    what: String,
    detail: String,
}

/// Prints the story.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut story = Client::connect(connection).await?.explain(&arguments.trial).await?;
    let trial = story.trial.take().context("the coordinator's answer has no trial")?;
    let point: Point = trial.point.clone().unwrap_or_default().try_into()?;
    if arguments.json {
        return output::json(&output_of(story, TrialOutput::new(trial, point)));
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
    if !story.note.is_empty() {
        rows.push(("waits", story.note.clone()));
    }
    if story.waits_ms > 0 {
        rows.push((
            "waits",
            format!("{} after a failure", output::short(Duration::from_millis(story.waits_ms))),
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
    if !story.members.is_empty() {
        rows.push(("members", story.members.join(", ")));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = format!("trial {id} of sweep {}\n", story.sweep);
    for (name, value) in rows {
        text.push_str(&format!("  {name:<width$}  {value}\n"));
    }
    output::text(&format!("{text}\n{}", timeline(&story.events)))
}

/// The attempts at a trial by their tokens, in the order in which they started: the first is attempt 1.
pub struct Attempts(Vec<i64>);

impl Attempts {
    /// Those that a trial's story tells of.
    pub fn of(happenings: &[TrialEvent]) -> Self {
        let mut tokens = Vec::new();
        for happening in happenings.iter().filter(|happening| happening.token > 0) {
            if !tokens.contains(&happening.token) {
                tokens.push(happening.token);
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
fn timeline(happenings: &[TrialEvent]) -> String {
    if happenings.is_empty() {
        return "no events yet".to_owned();
    }
    let attempts = Attempts::of(happenings);
    let rows: Vec<[String; 4]> = happenings
        .iter()
        .map(|happening| {
            let TrialEvent { ago_ms, token, what, detail } = happening;
            let attempt =
                attempts.number(*token).map(|number| format!("attempt {number}")).unwrap_or_default();
            // One line each, whatever a program wrote into its error.
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

fn output_of(story: ExplainResponse, trial: TrialOutput) -> Output {
    let ExplainResponse { sweep, trial: _, token, waits_ms, events: happenings, note, members } = story;
    let attempts = Attempts::of(&happenings);
    let known = |token| Some(token).filter(|&token| token > 0);
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let happening = |TrialEvent { ago_ms, token, what, detail }: TrialEvent| HappeningOutput {
        ago_seconds: seconds(ago_ms),
        attempt: attempts.number(token),
        token: known(token),
        what,
        detail,
    };
    Output {
        sweep,
        trial,
        attempt: attempts.number(token),
        token: known(token),
        note: Some(note).filter(|note| !note.is_empty()),
        waits_seconds: seconds(waits_ms),
        members,
        happenings: happenings.into_iter().map(happening).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_a_line_for_everything_that_happened() {
        let happening = |ago_ms, token, what: &str, detail: &str| TrialEvent {
            ago_ms,
            token,
            what: what.into(),
            detail: detail.into(),
        };
        let happenings = [
            happening(733_000, 0, "retried", "by a user"),
            happening(185_000, 17, "lost", "its worker was not heard from\n for 10 s"),
            happening(900, 18, "started", "on gpu4:4711"),
        ];
        let expected = "12 m ago             retried  by a user\n \
                        3 m ago  attempt 1  lost     its worker was not heard from for 10 s\n \
                        0 s ago  attempt 2  started  on gpu4:4711";
        assert_eq!(timeline(&happenings), expected);
        let attempts = Attempts::of(&happenings);
        assert_eq!(
            (attempts.count(), attempts.token(2), attempts.token(0), attempts.token(3)),
            (2, Some(18), None, None)
        );
        assert_eq!((attempts.number(17), attempts.number(0)), (Some(1), None));
    }
}
