//! How many full cycles a second a coordinator serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use sortie_testbed::disk::fsync_ms;
use tonic::transport::{Channel, Endpoint};

use crate::floor;
use crate::place::{Coordinator, Kind, Place};

/// Flushes that are measured.
const FLUSHES: u32 = 300;
/// Values on one axis; the other one is as long as it takes.
const SEEDS: u64 = 1_000;

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Trials, a multiple of 1000
    #[arg(long, default_value = "100000")]
    trials: u64,
    /// Workers that ask at the same time, each over a connection of its own
    #[arg(long, default_value = "64")]
    workers: usize,
    /// Cycles to measure [default: all trials]
    #[arg(long)]
    cycles: Option<u64>,
    /// The coordinator's program
    #[arg(long, env = "SORTIE_PROGRAM")]
    program: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    store: String,
    trials: u64,
    workers: usize,
    cycles: u64,
    cycles_per_second: f64,
    floor_cycles_per_second: f64,
    fsync_ms: Percentiles,
    submit_seconds: f64,
    lease_ms: Percentiles,
    complete_ms: Percentiles,
    rss_mib: f64,
    cpu_seconds: f64,
    restart_seconds: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// One line: a process or a database did not do what it should.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { store, trials, workers, program, .. } = arguments;
    ensure!(*trials >= SEEDS && trials.is_multiple_of(SEEDS), "--trials {trials} must be a multiple of {SEEDS}");
    let cycles = arguments.cycles.unwrap_or(*trials).min(*trials);
    let place = Place::make(*store)?;
    let database = place.database("dispatch")?;
    let coordinator = Coordinator::start(program, &database, &place)?;
    let submit_seconds = submit(&coordinator.url, *trials).await?;
    let before = coordinator.cpu_seconds()?;
    let run = drive(&coordinator.url, *workers, cycles).await.with_context(|| coordinator.log())?;
    let (rss_mib, cpu_seconds) = (coordinator.peak_memory_mib()?, coordinator.cpu_seconds()? - before);
    drop(coordinator);
    let started = now();
    let again = Coordinator::start(program, &database, &place)?;
    let restart_seconds = started.elapsed().as_secs_f64();
    drop(again);
    let floor_cycles_per_second = floor::measure(&place.database("floor")?, program, &place, cycles.min(50_000), *workers).await?;
    let flushes = fsync_ms(place.disk(), FLUSHES)?;
    let measured = Measured {
        store: format!("{store:?}").to_lowercase(),
        trials: *trials,
        workers: *workers,
        cycles,
        cycles_per_second: cycles as f64 / run.seconds,
        floor_cycles_per_second,
        fsync_ms: Percentiles { p50: flushes.p50_ms, p99: flushes.p99_ms },
        submit_seconds,
        lease_ms: percentiles(run.lease_ms),
        complete_ms: percentiles(run.complete_ms),
        rss_mib,
        cpu_seconds,
        restart_seconds,
    };
    print(&measured, arguments.json)
}

fn print(measured: &Measured, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(measured)?);
        return Ok(());
    }
    let Measured { cycles_per_second: cycles, floor_cycles_per_second: floor, fsync_ms, lease_ms, complete_ms, .. } = measured;
    println!("{}: {} trials, {} workers", measured.store, measured.trials, measured.workers);
    println!("  cycles/s          {cycles:.0}  ({:.0}% of the floor, {floor:.0})", 100.0 * cycles / floor);
    println!("  lease             p50 {:.2} ms, p99 {:.2} ms", lease_ms.p50, lease_ms.p99);
    println!("  complete          p50 {:.2} ms, p99 {:.2} ms", complete_ms.p50, complete_ms.p99);
    println!("  flush to disk     p50 {:.3} ms, p99 {:.3} ms", fsync_ms.p50, fsync_ms.p99);
    println!("  submit            {:.2} s", measured.submit_seconds);
    println!("  restart           {:.2} s", measured.restart_seconds);
    println!("  coordinator       {:.1} s of processor time, {:.0} MiB at most", measured.cpu_seconds, measured.rss_mib);
    Ok(())
}

/// The sweep file of a benchmark.
pub fn sweep(name: &str, trials: u64) -> String {
    let values: Vec<String> = (0..trials / SEEDS).map(|value| value.to_string()).collect();
    format!("name = \"{name}\"\n[run]\ncommand = [\"true\"]\n[grid]\nx = [{}]\nseeds = {SEEDS}\n", values.join(", "))
}

/// Submits a sweep; gives the seconds until every trial was stored.
pub async fn submit(url: &str, trials: u64) -> Result<f64> {
    let started = now();
    let mut client = SweepServiceClient::new(connect(url).await?);
    let request = v1::SubmitRequest { text: sweep("dispatch", trials), ..v1::SubmitRequest::default() };
    let mut progress = client.submit(request).await?.into_inner();
    while let Some(message) = progress.message().await? {
        if message.done {
            ensure!(message.added == trials, "{} of {trials} trials were added", message.added);
            return Ok(started.elapsed().as_secs_f64());
        }
    }
    bail!("the submission ended early")
}

struct Run {
    seconds: f64,
    lease_ms: Vec<f64>,
    complete_ms: Vec<f64>,
}

/// Has workers run cycles until so many are done.
async fn drive(url: &str, workers: usize, cycles: u64) -> Result<Run> {
    let mut clients = Vec::with_capacity(workers);
    for index in 0..workers {
        let mut client = WorkerServiceClient::new(connect(url).await?);
        let worker_id = format!("bench-{index}");
        let version = Some(v1::Version::ours("sortie-rig"));
        let (host, devices) = ("bench".to_owned(), vec!["cpu".to_owned()]);
        let request = v1::RegisterRequest {
            version,
            worker_id: worker_id.clone(),
            host,
            devices,
            allow_commands: true,
            ..v1::RegisterRequest::default()
        };
        client.register(request).await?;
        clients.push((client, worker_id));
    }
    let left = Arc::new(AtomicU64::new(cycles));
    let started = now();
    let tasks: Vec<_> = clients.into_iter().map(|(client, id)| tokio::spawn(work(client, id, Arc::clone(&left)))).collect();
    let (mut lease_ms, mut complete_ms) = (Vec::new(), Vec::new());
    for task in tasks {
        let (leases, completes) = task.await??;
        lease_ms.extend(leases);
        complete_ms.extend(completes);
    }
    Ok(Run { seconds: started.elapsed().as_secs_f64(), lease_ms, complete_ms })
}

async fn work(mut client: WorkerServiceClient<Channel>, worker_id: String, left: Arc<AtomicU64>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut lease_ms, mut complete_ms) = (Vec::new(), Vec::new());
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let asked = now();
        let request = v1::LeaseRequest { worker_id: worker_id.clone(), count_max: 1, wait_ms: 20_000, ..v1::LeaseRequest::default() };
        let mut leases = client.lease(request).await?.into_inner().leases;
        lease_ms.push(asked.elapsed().as_secs_f64() * 1_000.0);
        let lease = leases.pop().context("no trial came although some are left")?;
        let (method, domain, split) = ("plain".to_owned(), "all".to_owned(), "out".to_owned());
        let evaluation = v1::Evaluation { method, step: 1, domain, split, n: 100, correct: 50, loss: Some(0.5), value: None };
        let batch = v1::Batch { sequence: 1, evaluations: vec![evaluation], ..v1::Batch::default() };
        let outcome = v1::complete_request::Outcome::Succeeded(v1::Succeeded {});
        let said = now();
        client.complete(v1::CompleteRequest { token: lease.token, batch: Some(batch), outcome: Some(outcome) }).await?;
        complete_ms.push(said.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok((lease_ms, complete_ms))
}

async fn connect(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect_timeout(Duration::from_secs(5));
    endpoint.connect().await.with_context(|| format!("cannot reach {url}"))
}

fn percentiles(mut values: Vec<f64>) -> Percentiles {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0);
    Percentiles { p50: at(0.5), p99: at(0.99) }
}

/// The real time: what is measured and waited for here happens in other processes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}
