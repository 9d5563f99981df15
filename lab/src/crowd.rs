//! Workers that do nothing but talk: real connections, no trials.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::transport::{Channel, Endpoint};

/// Values on one axis of a benchmark's sweep; the other one is as long as it takes.
pub const SEEDS: u64 = 1_000;

/// A worker's connection and its name.
pub type Client = (WorkerServiceClient<Channel>, String);

/// What cycles took.
#[derive(Debug, Default)]
pub struct Run {
    pub cycles: u64,
    pub seconds: f64,
    pub lease_ms: Vec<f64>,
    pub complete_ms: Vec<f64>,
}

/// Connects so many workers and introduces them.
pub async fn join(url: &str, workers: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(workers);
    for index in 0..workers {
        let mut client = WorkerServiceClient::new(connect(url).await?);
        let worker_id = format!("rig-{index}");
        let version = Some(v1::Version::ours("sortie-lab"));
        let (host, devices) = ("rig".to_owned(), vec!["cpu".to_owned()]);
        let id = worker_id.clone();
        let request = v1::RegisterRequest {
            version,
            worker_id: id,
            host,
            devices,
            allow_commands: true,
            ..v1::RegisterRequest::default()
        };
        client.register(request).await?;
        clients.push((client, worker_id));
    }
    Ok(clients)
}

/// Submits a sweep; gives the seconds until every trial was stored.
pub async fn submit(url: &str, name: &str, trials: u64) -> Result<f64> {
    submit_text(url, sweep(name, trials), trials).await
}

/// Submits a sweep file that plans so many trials; gives the seconds until every one was stored.
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

/// Has workers run cycles until so many are done, or until they are told to stop.
pub async fn drive(clients: Vec<Client>, cycles: u64, sweep: &str, stop: &Arc<AtomicBool>) -> Result<Run> {
    let left = Arc::new(AtomicU64::new(cycles));
    let started = now();
    let work = |client| tokio::spawn(work(client, Arc::clone(&left), sweep.to_owned(), Arc::clone(stop)));
    let tasks: Vec<_> = clients.into_iter().map(work).collect();
    let mut run = Run::default();
    for task in tasks {
        let (leases, completes) = task.await??;
        run.lease_ms.extend(leases);
        run.complete_ms.extend(completes);
    }
    (run.cycles, run.seconds) = (run.complete_ms.len() as u64, started.elapsed().as_secs_f64());
    Ok(run)
}

async fn work(
    client: Client,
    left: Arc<AtomicU64>,
    sweep: String,
    stop: Arc<AtomicBool>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut client, worker_id) = client;
    let (mut lease_ms, mut complete_ms) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed)
        && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    {
        let asked = now();
        let (worker_id, sweep) = (worker_id.clone(), sweep.clone());
        let request = v1::LeaseRequest {
            worker_id,
            count_max: 1,
            wait_ms: 20_000,
            sweep,
            ..v1::LeaseRequest::default()
        };
        let mut leases = client.lease(request).await?.into_inner().leases;
        lease_ms.push(asked.elapsed().as_secs_f64() * 1_000.0);
        let lease = leases.pop().context("no trial came although some are left")?;
        let (method, domain, split) = ("plain".to_owned(), "all".to_owned(), "out".to_owned());
        let evaluation = v1::Evaluation {
            method,
            step: 1,
            domain,
            split,
            n: 100,
            correct: 50,
            loss: Some(0.5),
            value: None,
        };
        let batch = v1::Batch { sequence: 1, evaluations: vec![evaluation], ..v1::Batch::default() };
        let outcome = v1::complete_request::Outcome::Succeeded(v1::Succeeded {});
        let said = now();
        client
            .complete(v1::CompleteRequest { token: lease.token, batch: Some(batch), outcome: Some(outcome) })
            .await?;
        complete_ms.push(said.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok((lease_ms, complete_ms))
}

/// How many pairs of calls a second the transport alone carries: two handshakes, which touch no database, in place of a cycle.
pub async fn ceiling(url: &str, workers: usize, cycles: u64) -> Result<f64> {
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
pub async fn connect(url: &str) -> Result<Channel> {
    let endpoint =
        Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect_timeout(Duration::from_secs(5));
    endpoint.connect().await.with_context(|| format!("cannot reach {url}"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}
