//! `sortie workers`: the workers of a coordinator.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use sortie_proto::v1::Worker;

use crate::client::Client;
use crate::connection::Connection;
use crate::output;

/// List the workers: what they have, what they run, and when they were last heard from.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Also those that left, or were last heard from more than an hour ago.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    workers: Vec<WorkerOutput>,
}

#[derive(Serialize)]
struct WorkerOutput {
    worker: String,
    host: String,
    pid: u32,
    devices: Vec<String>,
    tags: Vec<String>,
    slots: u32,
    software: String,
    state: String,
    seen_seconds_ago: f64,
    reason: String,
    trials: Vec<String>,
    /// "shared" or "local"; empty until the worker knows.
    checkpoints: String,
}

/// Prints the list.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let workers = Client::connect(connection).await?.workers(arguments.all).await?;
    if arguments.json {
        return output::json(&Output { workers: workers.into_iter().map(worker_output).collect() });
    }
    if workers.is_empty() {
        return output::text(
            "no worker is there: start one with `sortie worker`, or see those that were with --all",
        );
    }
    output::text(&table(&workers))
}

fn table(workers: &[Worker]) -> String {
    // Empty columns are left out.
    let tagged = workers.iter().any(|worker| !worker.tags.is_empty());
    let explained = workers.iter().any(|worker| !worker.reason.is_empty());
    let stored = workers.iter().any(|worker| !worker.checkpoints.is_empty());
    let mut header = vec!["worker", "devices"];
    header.extend(tagged.then_some("tags"));
    header.extend(["slots", "state", "last seen", "runs"]);
    header.extend(stored.then_some("checkpoints"));
    header.extend(explained.then_some("reason"));
    let mut table = output::table(header);
    for worker in workers {
        let mut row = vec![format!("{}:{}", worker.host, worker.pid), worker.devices.join(", ")];
        row.extend(tagged.then(|| worker.tags.join(", ")));
        let seen = format!("{} ago", output::short(Duration::from_millis(worker.seen_ms_ago)));
        row.extend([worker.slots.to_string(), worker.state.clone(), seen, worker.trials.join(", ")]);
        row.extend(stored.then(|| worker.checkpoints.clone()));
        row.extend(explained.then(|| worker.reason.clone()));
        table.add_row(row);
    }
    table.trim_fmt()
}

fn worker_output(worker: Worker) -> WorkerOutput {
    let Worker {
        worker_id,
        host,
        pid,
        devices,
        tags,
        slots,
        software,
        state,
        seen_ms_ago,
        reason,
        trials,
        checkpoints,
    } = worker;
    let seen_seconds_ago = seen_ms_ago as f64 / 1_000.0;
    WorkerOutput {
        worker: worker_id,
        host,
        pid,
        devices,
        tags,
        slots,
        software,
        state,
        seen_seconds_ago,
        reason,
        trials,
        checkpoints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Worker {
        Worker {
            worker_id: "w1".into(),
            host: "gpu4".into(),
            pid: 4_711,
            devices: vec!["cuda:0".into(), "cuda:1".into()],
            slots: 2,
            state: "working".into(),
            seen_ms_ago: 1_500,
            trials: vec!["pacs/1a2b3c4d".into()],
            ..Worker::default()
        }
    }

    #[test]
    fn a_worker_is_one_row_with_only_the_columns_that_say_something() {
        assert_eq!(
            table(&[worker()]),
            " worker     devices         slots  state    last seen  runs\n gpu4:4711  cuda:0, cuda:1  2      working  1 s ago    pacs/1a2b3c4d"
        );
        let aside = Worker {
            state: "quarantined".into(),
            reason: "5 failures in a row".into(),
            tags: vec!["night".into()],
            ..worker()
        };
        let text = table(&[worker(), aside]);
        assert!(
            text.contains("tags")
                && text.contains("night")
                && text.contains("reason")
                && text.contains("5 failures in a row"),
            "{text}"
        );
    }

    #[test]
    fn json_names_everything() {
        let json = serde_json::to_value(worker_output(worker())).unwrap();
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
