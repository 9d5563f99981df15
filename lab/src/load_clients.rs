//! Load clients: connections that lease and complete trials as workers do, without running them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use sortie_access::{Link, Token};
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;

use crate::clock::now;
use crate::coordinator::target;

/// Seeds of a benchmark's sweep; the number of values on its other axis follows from the number of trials.
pub const SEEDS: u64 = 1_000;

/// A connection that is registered as a worker.
#[derive(Debug)]
pub struct LoadClient {
    pub service: WorkerServiceClient<Link>,
    pub worker_id: String,
    pub secret: String,
    /// Of the coordinator's database.
    pub incarnation: i64,
}

/// The times of cycles.
#[derive(Debug, Default)]
pub struct LoadRun {
    pub cycles: u64,
    pub seconds: f64,
    pub lease_ms: Vec<f64>,
    pub complete_ms: Vec<f64>,
}

/// Connects a number of clients and registers each as a worker.
pub async fn register_all(url: &str, workers: usize) -> Result<Vec<LoadClient>> {
    let mut clients = Vec::with_capacity(workers);
    for index in 0..workers {
        let mut service = WorkerServiceClient::new(connect(url).await?);
        let (worker_id, secret) = (format!("lab-{index}"), Token::new()?.reveal().to_owned());
        let version = Some(v1::Version::ours("sortie-lab"));
        let (host, devices) = ("lab".to_owned(), vec!["cpu".to_owned()]);
        let id = worker_id.clone();
        let request = v1::RegisterRequest {
            version,
            machine: id.clone(),
            worker_id: id,
            secret: secret.clone(),
            host,
            devices,
            allow_commands: true,
            ..v1::RegisterRequest::default()
        };
        let incarnation = service.register(request).await?.into_inner().incarnation;
        clients.push(LoadClient { service, worker_id, secret, incarnation });
    }
    Ok(clients)
}

/// Submits a sweep. Returns the seconds until every trial is stored.
pub async fn submit(url: &str, name: &str, trials: u64) -> Result<f64> {
    submit_text(url, sweep(name, trials), trials).await
}

/// Submits a sweep file that plans a number of trials. Returns the seconds until every trial is stored.
pub async fn submit_text(url: &str, text: String, trials: u64) -> Result<f64> {
    let started = now();
    let mut client = SweepServiceClient::new(connect(url).await?);
    let request = v1::SubmitRequest { text, no_reuse: true, ..v1::SubmitRequest::default() };
    let mut progress = client.submit(request).await?.into_inner();
    while let Some(message) = progress.message().await? {
        if message.done {
            ensure!(message.added == trials, "{} of {trials} trials were added", message.added);
            return Ok(started.elapsed().as_secs_f64());
        }
    }
    bail!("the submission ended early")
}

/// The sweep file of a benchmark.
fn sweep(name: &str, trials: u64) -> String {
    let values: Vec<String> = (0..trials / SEEDS).map(|value| value.to_string()).collect();
    format!(
        "name = \"{name}\"\n[run]\ncommand = [\"true\", \"{name}\"]\n[grid]\nx = [{}]\nseeds = {SEEDS}\n",
        values.join(", ")
    )
}

/// Runs cycles on all clients until the given number is done or `stop` is set.
pub async fn run_cycles(
    clients: Vec<LoadClient>,
    cycles: u64,
    sweep: &str,
    stop: &Arc<AtomicBool>,
) -> Result<LoadRun> {
    let left = Arc::new(AtomicU64::new(cycles));
    let started = now();
    let start =
        |client| tokio::spawn(run_client(client, Arc::clone(&left), sweep.to_owned(), Arc::clone(stop)));
    let tasks: Vec<_> = clients.into_iter().map(start).collect();
    let mut run = LoadRun::default();
    for task in tasks {
        let (leases, completes) = task.await??;
        run.lease_ms.extend(leases);
        run.complete_ms.extend(completes);
    }
    (run.cycles, run.seconds) = (run.complete_ms.len() as u64, started.elapsed().as_secs_f64());
    Ok(run)
}

async fn run_client(
    client: LoadClient,
    left: Arc<AtomicU64>,
    sweep: String,
    stop: Arc<AtomicBool>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let LoadClient { mut service, worker_id, secret, incarnation } = client;
    let (mut lease_ms, mut complete_ms) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed)
        && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    {
        let started = now();
        let (worker_id, sweep) = (worker_id.clone(), sweep.clone());
        let request = v1::LeaseRequest {
            worker_id,
            count_max: 1,
            wait_ms: 20_000,
            sweep,
            incarnation,
            secret: secret.clone(),
            ..v1::LeaseRequest::default()
        };
        let mut leases = service.lease(request).await?.into_inner().leases;
        lease_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
        let lease = leases.pop().context("the coordinator assigned no trial although some are left")?;
        let (method, domain, split) = ("plain".to_owned(), "all".to_owned(), "out".to_owned());
        let evaluation = v1::Evaluation {
            method,
            step: 1,
            domain,
            split,
            n: Some(100),
            correct: 50,
            loss: Some(0.5),
            ..v1::Evaluation::default()
        };
        let batch = v1::Batch { sequence: 1, evaluations: vec![evaluation], ..v1::Batch::default() };
        let outcome = v1::complete_request::Outcome::Succeeded(v1::Succeeded {});
        let started = now();
        let (token, batch, outcome, secret) = (lease.token, Some(batch), Some(outcome), secret.clone());
        service.complete(v1::CompleteRequest { token, batch, outcome, incarnation, secret }).await?;
        complete_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok((lease_ms, complete_ms))
}

/// The rate of the transport alone, in cycles a second: each cycle is replaced by two handshakes, which use no database.
pub async fn transport_rate(url: &str, workers: usize, cycles: u64) -> Result<f64> {
    let left = Arc::new(AtomicU64::new(cycles));
    let mut tasks = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..workers {
        clients.push(SweepServiceClient::new(connect(url).await?));
    }
    let started = now();
    for mut client in clients {
        let left = Arc::clone(&left);
        tasks.push(tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                for _ in 0..2 {
                    client
                        .handshake(v1::HandshakeRequest { version: Some(v1::Version::ours("sortie-lab")) })
                        .await?;
                }
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(cycles as f64 / started.elapsed().as_secs_f64())
}

/// Connects.
pub async fn connect(url: &str) -> Result<Link> {
    Ok(target(url)?.connect().await?)
}
