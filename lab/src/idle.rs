//! `sortie-lab idle`: the cost of workers that wait for trials.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use sortie_proto::v1;

use crate::clock::now;
use crate::coordinator::Coordinator;
use crate::environment::{Environment, Store};
use crate::load_clients::{LoadClient, register_all};

/// How long a worker waits in one request.
const WAIT: Duration = Duration::from_secs(20);

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub struct IdleOptions {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Store,
    /// Workers that wait for trials
    #[arg(long, default_value = "1000")]
    workers: usize,
    /// Seconds to measure, after every worker waits
    #[arg(long, default_value = "45")]
    seconds: u64,
    /// The program `sortie`
    #[arg(long, env = "SORTIE_PROGRAM")]
    program: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct IdleReport {
    store: String,
    workers: usize,
    core_percent: f64,
    rss_mib: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// When a process or a database fails.
pub async fn run(options: &IdleOptions) -> Result<()> {
    let IdleOptions { store, workers, seconds, program, .. } = options;
    let environment = Environment::make(*store)?;
    let coordinator = Coordinator::start(program, &environment.database("idle")?, &environment)?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = register_all(&coordinator.url, *workers).await?;
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(wait(client, Arc::clone(&stop)))).collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, started) = (coordinator.cpu_seconds()?, now());
    tokio::time::sleep(Duration::from_secs(*seconds)).await;
    let core_percent = 100.0 * (coordinator.cpu_seconds()? - before) / started.elapsed().as_secs_f64();
    let rss_mib = coordinator.peak_memory_mib()?;
    stop.store(true, Ordering::Relaxed);
    ensure!(tasks.iter().all(|task| !task.is_finished()), "a worker stopped waiting: {}", coordinator.log());
    for task in tasks {
        task.abort();
    }
    let report = IdleReport { store: store.name().to_owned(), workers: *workers, core_percent, rss_mib };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{}: {workers} waiting workers cost {core_percent:.1}% of a core; {rss_mib:.0} MiB at most",
            report.store
        );
    }
    Ok(())
}

async fn wait(client: LoadClient, stop: Arc<AtomicBool>) -> Result<()> {
    let LoadClient { mut service, worker_id, secret, incarnation } = client;
    while !stop.load(Ordering::Relaxed) {
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
        let request = v1::LeaseRequest {
            worker_id: worker_id.clone(),
            count_max: 1,
            wait_ms,
            incarnation,
            secret: secret.clone(),
            ..v1::LeaseRequest::default()
        };
        service.lease(request).await?;
    }
    Ok(())
}
