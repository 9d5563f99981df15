//! `sortie verify`: whether an interrupted run of a trial has the same result as an uninterrupted one.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use sortie_proto::v1::{
    Certificate, CertifyRequest, ControlRequest, SweepStatus, VerifyRequest, VerifyResponse,
};

use super::status::{WATCH_INTERVAL, is_over, line};
use crate::client::{Client, ClientError, RetryingClient};
use crate::connection::Connection;
use crate::output;

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

#[derive(Serialize)]
struct Output {
    identical: bool,
    weights_digest: Option<String>,
    metrics_digest: String,
    kill_at: u64,
    resumed_at: Option<u64>,
    steps: u64,
    worker: String,
    /// Why they are not identical.
    difference: Option<String>,
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
        if let Err(error) = until_over(&mut client, connection, sweep, &worker_id, &worker).await {
            cancel_sweeps(connection, &sweeps).await;
            return Err(error);
        }
    }
    let certificate =
        Client::connect(connection).await?.certify(CertifyRequest { trial: trial.clone(), sweeps }).await?;
    let identical = certificate.identical;
    if *json {
        output::json(&output_of(certificate))?;
    } else {
        output::text(&text(&certificate))?;
    }
    Ok(if identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until a sweep is over. Fails when its worker leaves, because no other may run it.
async fn until_over(
    client: &mut RetryingClient<'_>,
    connection: &Connection,
    sweep: &str,
    worker_id: &str,
    worker: &str,
) -> Result<()> {
    let told = |error: &ClientError| output::note(&format!("{error}; asking again"));
    loop {
        let status = client.status(Some(sweep), told).await?.into_iter().next();
        let Some(status) = status else { bail!("the coordinator's answer does not contain sweep {sweep}") };
        if is_over(&status) {
            return succeeded(sweep, &status);
        }
        if status.running == 0 && is_gone(connection, worker_id).await {
            bail!("worker {worker} left before the runs ended; run `sortie verify` again");
        }
        tokio::time::sleep(WATCH_INTERVAL.min(Duration::from_millis(500))).await;
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
    found.is_none_or(|worker| ["left", "silent"].contains(&worker.state.as_str()))
}

/// Cancels the two sweeps. If the coordinator cannot be reached, they stay, and the user may cancel them.
async fn cancel_sweeps(connection: &Connection, sweeps: &[String]) {
    let Ok(mut client) = Client::connect(connection).await else { return };
    for sweep in sweeps {
        let request =
            ControlRequest { sweep: sweep.clone(), action: "cancel".to_owned(), ..ControlRequest::default() };
        let _ = client.control(request).await;
    }
}

fn text(certificate: &Certificate) -> String {
    let Certificate {
        identical,
        weights_digest,
        metrics_digest,
        kill_at,
        resumed_at,
        steps,
        worker,
        difference,
    } = certificate;
    let resumed = resumed_at.map_or("not resumed".to_owned(), |step| format!("resumed after step {step}"));
    let outcome = if *identical { "identical".to_owned() } else { format!("NOT identical: {difference}") };
    let weights = if weights_digest.is_empty() { "not reported" } else { weights_digest };
    format!(
        "{outcome}\n  killed   at step {kill_at} of {steps}, {resumed}\n  worker   {worker}\n  weights  {weights}\n  metrics  {metrics_digest}\n"
    )
}

fn output_of(certificate: Certificate) -> Output {
    let Certificate {
        identical,
        weights_digest,
        metrics_digest,
        kill_at,
        resumed_at,
        steps,
        worker,
        difference,
    } = certificate;
    let told = |text: String| Some(text).filter(|text| !text.is_empty());
    let (weights_digest, difference) = (told(weights_digest), told(difference));
    Output { identical, weights_digest, metrics_digest, kill_at, resumed_at, steps, worker, difference }
}
