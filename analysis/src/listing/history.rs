//! The history of one trial.

use std::time::Duration;

use serde::Serialize;

use super::TrialRow;
use super::style;
use crate::axis::parameter_names;

/// A trial and everything that happened to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialHistory {
    /// The sweep's name.
    pub sweep: String,
    /// The trial.
    #[serde(flatten)]
    pub trial: TrialRow,
    /// The attempt that counts or runs: 1 for the first.
    pub attempt: Option<usize>,
    /// Its fencing token, which names it in the database and in logs of workers.
    pub token: Option<i64>,
    /// Why no worker may run it.
    pub note: Option<String>,
    /// Files that its sweep keeps and its result did not leave.
    pub lacks: Option<String>,
    /// The time until it may run again after a failure.
    #[serde(rename = "waits_seconds", serialize_with = "style::seconds")]
    pub waits: Duration,
    /// Of a combination: the first digits of each member, and its state.
    pub members: Vec<String>,
    /// What happened, the oldest first.
    pub events: Vec<HistoryEvent>,
}

/// Something that happened to a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryEvent {
    /// How long ago.
    #[serde(rename = "ago_seconds", serialize_with = "style::seconds")]
    pub ago: Duration,
    /// The attempt that it concerned: 1 for the first.
    pub attempt: Option<usize>,
    /// The fencing token of that attempt.
    pub token: Option<i64>,
    /// What happened, in one word.
    pub what: String,
    /// More about it.
    pub detail: String,
}

impl TrialHistory {
    /// The trial in a line for each fact, then a line for each event.
    pub fn text(&self) -> String {
        let facts = self.facts();
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = format!("trial {} of sweep {}\n", self.trial.id, self.sweep);
        for (name, value) in facts {
            text.push_str(&format!("  {name:<width$}  {value}\n"));
        }
        format!("{text}\n{}", timeline(&self.events))
    }

    fn facts(&self) -> Vec<(&str, String)> {
        let Self { trial, note, lacks, waits, members, .. } = self;
        let point = &trial.point;
        let mut facts = vec![
            ("state", trial.state.to_string()),
            ("step", trial.progress()),
            ("attempts", trial.attempts.to_string()),
        ];
        facts.extend(trial.reused_from.iter().map(|name| ("result", format!("reused from {name}"))));
        facts.extend(
            lacks
                .iter()
                .map(|files| ("lacks", format!("{files}, for which `sortie submit` lets it run again"))),
        );
        facts.extend(note.iter().map(|note| ("waits", note.clone())));
        if !waits.is_zero() {
            facts.push(("waits", format!("{} after a failure", style::short(*waits))));
        }
        if !trial.worker.is_empty() {
            facts.push(("worker", trial.worker.clone()));
        }
        if !point.held_out.is_empty() {
            facts.push(("held_out", point.held_out_label()));
        }
        facts.extend(parameter_names([point]).iter().filter_map(|name| {
            let (name, value) = point.parameters.get_key_value(name)?;
            Some((name.as_str(), value.to_string()))
        }));
        facts.extend([("seed", point.seed.to_string()), ("split seed", point.split_seed.to_string())]);
        if !members.is_empty() {
            facts.push(("members", members.join(", ")));
        }
        facts
    }
}

/// One line for each event, the oldest first.
fn timeline(events: &[HistoryEvent]) -> String {
    if events.is_empty() {
        return "no events yet".to_owned();
    }
    let row = |event: &HistoryEvent| {
        let HistoryEvent { ago, attempt, what, detail, .. } = event;
        let attempt = attempt.map(|number| format!("attempt {number}")).unwrap_or_default();
        // An error message of a program may have several lines.
        let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        [format!("{} ago", style::short(*ago)), attempt, what.clone(), detail]
    };
    let rows: Vec<[String; 4]> = events.iter().map(row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |[ago, attempt, what, detail]: &[String; 4]| {
        let line = format!("{ago:>0$}  {attempt:<1$}  {what:<2$}  {detail}", widths[0], widths[1], widths[2]);
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_has_a_line_for_each_event() {
        let event = |ago_ms, attempt, what: &str, detail: &str| HistoryEvent {
            ago: Duration::from_millis(ago_ms),
            attempt,
            token: None,
            what: what.into(),
            detail: detail.into(),
        };
        let events = [
            event(733_000, None, "retried", "by a user"),
            event(185_000, Some(1), "lost", "its worker was not heard from\n for 10 s"),
            event(900, Some(2), "started", "on gpu4:4711"),
        ];
        let expected = "12 m ago             retried  by a user\n \
                        3 m ago  attempt 1  lost     its worker was not heard from for 10 s\n \
                        0 s ago  attempt 2  started  on gpu4:4711";
        assert_eq!(timeline(&events), expected);
    }
}
