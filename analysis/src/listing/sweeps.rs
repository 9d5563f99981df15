//! The progress of sweeps.

use serde::Serialize;
use sortie_core::status::SweepState;

use super::style;

/// The progress of a sweep: numbers of trials by state, and the time left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepRow {
    /// The sweep's name.
    pub sweep: String,
    /// The sweep's state.
    pub state: SweepState,
    /// Sweeps with higher numbers are served first.
    pub priority: i64,
    /// Trials in all.
    pub planned: u64,
    /// Combinations whose members do not all have a result.
    pub blocked: u64,
    /// Trials that wait for a worker.
    pub queued: u64,
    /// Whether all of these wait after a failure.
    pub delayed: bool,
    /// Trials that run.
    pub running: u64,
    /// Those of them that did not begin their first step yet.
    pub preparing: u64,
    /// What one of those does, and how far it is.
    pub preparation: Option<String>,
    /// Trials with a result.
    pub succeeded: u64,
    /// Those of them whose result is another sweep's.
    pub reused: u64,
    /// Trials whose loss stopped being a number.
    pub diverged: u64,
    /// Trials whose attempts are used up.
    pub failed: u64,
    /// Trials that a user cancelled.
    pub cancelled: u64,
    /// Steps that are done.
    pub steps_done: u64,
    /// Steps of all trials.
    pub steps_planned: u64,
    /// The estimated time left; none if it is not known.
    pub eta_seconds: Option<u64>,
    /// The same for people, or how the sweep ended, or what it waits for.
    #[serde(skip)]
    pub time_left: String,
}

/// The progress of several sweeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepList {
    /// The sweeps.
    pub sweeps: Vec<SweepRow>,
}

impl SweepList {
    /// A table with one line for each sweep.
    pub fn text(&self) -> String {
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
        let mut table = style::table(header);
        for row in &self.sweeps {
            let part =
                |count: u64, what| if count > 0 { format!(" ({count} {what})") } else { String::new() };
            let (reused, blocked) = (part(row.reused, "reused"), part(row.blocked, "more blocked"));
            table.add_row([
                row.sweep.clone(),
                row.state.to_string(),
                row.priority.to_string(),
                format!("{}/{}{reused}", row.succeeded, row.planned),
                row.running.to_string()
                    + &row
                        .preparation
                        .as_ref()
                        .map(|preparation| format!(" ({preparation})"))
                        .unwrap_or_default(),
                format!("{}{blocked}", row.queued),
                row.failed.to_string(),
                row.diverged.to_string(),
                row.cancelled.to_string(),
                row.time_left.clone(),
            ]);
        }
        table.trim_fmt()
    }
}
