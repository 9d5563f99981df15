//! The workers of a coordinator.

use std::time::Duration;

use serde::Serialize;
use sortie_core::status::WorkerState;

use super::style;

/// A worker: what it has, what it runs, and when it was last heard from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerRow {
    /// Its id.
    pub worker: String,
    /// The name of its host.
    pub host: String,
    /// What it shares with workers that were started alike on the same host.
    pub machine: String,
    /// Its process.
    pub pid: u32,
    /// The devices that it trains on.
    pub devices: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Trials that it can run at the same time.
    pub slots: u32,
    /// The software that it runs.
    pub software: String,
    /// Its state.
    pub state: WorkerState,
    /// The time since its last sign of life.
    #[serde(rename = "seen_seconds_ago", serialize_with = "style::seconds")]
    pub seen_ago: Duration,
    /// For what its machine is quarantined, and why; empty if it is not.
    pub reason: String,
    /// What it runs: SWEEP/PREFIX of each trial.
    pub trials: Vec<String>,
    /// "shared" or "local"; empty until the worker knows.
    pub checkpoints: String,
}

/// Several workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerList {
    /// The workers.
    pub workers: Vec<WorkerRow>,
}

impl WorkerList {
    /// A table with one line for each worker. Empty columns are left out.
    pub fn text(&self) -> String {
        let has = |column: fn(&WorkerRow) -> bool| self.workers.iter().any(column);
        let tagged = has(|worker| !worker.tags.is_empty());
        let explained = has(|worker| !worker.reason.is_empty());
        let stored = has(|worker| !worker.checkpoints.is_empty());
        let mut header = vec!["worker", "devices"];
        header.extend(tagged.then_some("tags"));
        header.extend(["slots", "state", "last seen", "runs"]);
        header.extend(stored.then_some("checkpoints"));
        header.extend(if explained { &["machine", "reason"][..] } else { &[] });
        let mut table = style::table(header);
        for worker in &self.workers {
            let mut row = vec![format!("{}:{}", worker.host, worker.pid), worker.devices.join(", ")];
            row.extend(tagged.then(|| worker.tags.join(", ")));
            let seen = format!("{} ago", style::short(worker.seen_ago));
            row.extend([worker.slots.to_string(), worker.state.to_string(), seen, worker.trials.join(", ")]);
            row.extend(stored.then(|| worker.checkpoints.clone()));
            if explained {
                row.extend([worker.machine.clone(), worker.reason.clone()]);
            }
            table.add_row(row);
        }
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> WorkerRow {
        WorkerRow {
            worker: "w1".into(),
            host: "gpu4".into(),
            machine: "gpu4-7f3a90c2".into(),
            pid: 4_711,
            devices: vec!["cuda:0".into(), "cuda:1".into()],
            tags: Vec::new(),
            slots: 2,
            software: String::new(),
            state: WorkerState::Working,
            seen_ago: Duration::from_millis(1_500),
            reason: String::new(),
            trials: vec!["pacs/1a2b3c4d".into()],
            checkpoints: String::new(),
        }
    }

    #[test]
    fn a_worker_is_one_row_with_only_the_columns_that_say_something() {
        assert_eq!(
            WorkerList { workers: vec![worker()] }.text(),
            " worker     devices         slots  state    last seen  runs\n gpu4:4711  cuda:0, cuda:1  2      working  1 s ago    pacs/1a2b3c4d"
        );
        let aside = WorkerRow {
            state: WorkerState::Quarantined,
            reason: "5 failures in a row".into(),
            tags: vec!["night".into()],
            ..worker()
        };
        let text = WorkerList { workers: vec![worker(), aside] }.text();
        assert!(
            text.contains("tags")
                && text.contains("night")
                && text.contains("reason")
                && text.contains("gpu4-7f3a90c2")
                && text.contains("5 failures in a row"),
            "{text}"
        );
    }

    #[test]
    fn json_names_everything() {
        let json = serde_json::to_value(worker()).unwrap();
        assert_eq!(
            (&json["worker"], &json["pid"], &json["seen_seconds_ago"]),
            (&"w1".into(), &4_711.into(), &1.5.into())
        );
        assert_eq!(
            (&json["devices"][1], &json["trials"][0], &json["reason"]),
            (&"cuda:1".into(), &"pacs/1a2b3c4d".into(), &"".into())
        );
    }
}
