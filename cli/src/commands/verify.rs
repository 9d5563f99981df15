//! `sortie verify`: whether an interrupted run of a trial has the same result as an uninterrupted one.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use sortie_proto::v1;
use sortie_proto::v1::{CertifyRequest, ControlRequest, SweepStatus, VerifyRequest, VerifyResponse};

use crate::connection::{Client, ClientError, Connection, RetryingClient};
use crate::watching::{Watcher, is_over, line, poll};
use crate::{output, rows};

/// The time between two looks at a run.
const RUN_INTERVAL: Duration = Duration::from_millis(500);

/// Run a trial twice more on one worker, once uninterrupted and once killed and resumed, and compare the results, to the byte.
///
/// The two runs are sweeps of their own, `verify-DIGITS-NUMBER-a` and `-b`. The outcome is noted with the trial: `sortie explain` shows it.
/// Ends with exit code 0 if both are identical, and with 1 otherwise.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The trial: the first digits of its id, or SWEEP/DIGITS.
    trial: String,
    /// The second run's process kills itself after the update of this step; its last checkpoint is three steps older.
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u64).range(3..))]
    kill_at: u64,
    /// Index of the last step, if fewer than the trial's are enough.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Verifies, and prints the certificate.
///
/// # Errors
/// One line: the coordinator refuses, the worker goes away, or a run has no result.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<ExitCode> {
    let Arguments { trial, kill_at, steps, json } = arguments;
    let request = VerifyRequest { trial: trial.clone(), kill_at: *kill_at, steps: *steps };
    let VerifyResponse { sweeps, worker_id, worker, steps } =
        Client::connect(connection).await?.verify(request).await?;
    output::note(&format!("verifying on {worker}: {}, {steps} steps each", sweeps.join(" and ")));
    let mut client = RetryingClient::connect(connection).await?;
    for sweep in &sweeps {
        let mut watcher =
            RunWatcher { connection, sweep, worker_id: &worker_id, worker: &worker, idle: false };
        if let Err(error) = poll(&mut client, Some(sweep), &mut watcher).await {
            cancel_sweeps(connection, &sweeps).await;
            return Err(error);
        }
    }
    let request = CertifyRequest { trial: trial.clone(), sweeps };
    let certificate = rows::certificate(Client::connect(connection).await?.certify(request).await?);
    if *json {
        output::json(&certificate)?;
    } else {
        output::text(&certificate.text())?;
    }
    Ok(if certificate.identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until one of the two sweeps is over. Fails when its worker leaves, because no other may run it.
struct RunWatcher<'a> {
    connection: &'a Connection,
    sweep: &'a str,
    worker_id: &'a str,
    worker: &'a str,
    /// Whether no trial runs.
    idle: bool,
}

impl Watcher for RunWatcher<'_> {
    type End = ();

    fn see(&mut self, sweeps: Vec<SweepStatus>) -> Result<Option<()>> {
        let sweep = self.sweep;
        let Some(status) = sweeps.into_iter().next() else {
            bail!("the coordinator's answer does not contain sweep {sweep}")
        };
        self.idle = status.running == 0;
        if is_over(&status) { succeeded(sweep, &status).map(Some) } else { Ok(None) }
    }

    fn outage(&mut self, error: ClientError) -> Result<(), ClientError> {
        output::note(&format!("{error}; asking again"));
        Ok(())
    }

    async fn pause(&mut self) -> Result<Option<()>> {
        if self.idle && is_gone(self.connection, self.worker_id).await {
            bail!("worker {} left before the runs ended; run `sortie verify` again", self.worker);
        }
        tokio::time::sleep(RUN_INTERVAL).await;
        Ok(None)
    }
}

fn succeeded(sweep: &str, status: &SweepStatus) -> Result<()> {
    if status.succeeded < status.planned {
        bail!("sweep {sweep} ended with {}; `sortie trials {sweep}` says why", line(status, None));
    }
    Ok(())
}

async fn is_gone(connection: &Connection, worker_id: &str) -> bool {
    let Ok(mut client) = Client::connect(connection).await else { return false };
    let Ok(workers) = client.workers(true).await else { return false };
    let found = workers.iter().find(|worker| worker.worker_id == worker_id);
    found.is_none_or(|worker| matches!(worker.state(), v1::WorkerState::Left | v1::WorkerState::Silent))
}

/// Cancels the two sweeps. If the coordinator cannot be reached, they stay, and the user may cancel them.
async fn cancel_sweeps(connection: &Connection, sweeps: &[String]) {
    let Ok(mut client) = Client::connect(connection).await else { return };
    for sweep in sweeps {
        let request = ControlRequest {
            sweep: sweep.clone(),
            action: v1::ControlAction::Cancel.into(),
            ..ControlRequest::default()
        };
        let _ = client.control(request).await;
    }
}
