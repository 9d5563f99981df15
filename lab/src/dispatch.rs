//! `sortie-lab dispatch`: the number of full cycles a second that a coordinator serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::clock::now;
use crate::coordinator::Coordinator;
use crate::disk::fsync_ms;
use crate::environment::{Environment, Store};
use crate::load_clients::{LoadRun, SEEDS, register_all, run_cycles, submit, transport_rate};
use crate::sql_baseline;
use crate::statistics::Percentiles;

/// The number of measured flushes.
const FLUSHES: u32 = 300;
/// Clients that run cycles of a small sweep while the large one is submitted.
const BUSY_WORKERS: usize = 4;
/// Trials of that small sweep: more than can be completed meanwhile.
const BUSY_TRIALS: u64 = 200_000;

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub struct DispatchOptions {
    /// The database
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Store,
    /// Trials, a multiple of 1000
    #[arg(long, default_value = "100000")]
    trials: u64,
    /// Workers that lease trials at the same time, each over its own connection
    #[arg(long, default_value = "64")]
    workers: usize,
    /// Cycles to measure [default: all trials]
    #[arg(long)]
    cycles: Option<u64>,
    /// The program `sortie`
    #[arg(long, env = "SORTIE_PROGRAM")]
    program: PathBuf,
    /// Connections that are neither encrypted nor authenticated
    #[arg(long)]
    insecure: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct DispatchReport {
    store: String,
    trials: u64,
    workers: usize,
    cycles: u64,
    cycles_per_second: f64,
    floor_cycles_per_second: f64,
    transport_cycles_per_second: f64,
    fsync_ms: Percentiles,
    submit_seconds: f64,
    cycles_while_submitting: u64,
    lease_while_submitting_ms: Percentiles,
    lease_ms: Percentiles,
    complete_ms: Percentiles,
    rss_mib: f64,
    cpu_seconds: f64,
    restart_seconds: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// When a process or a database fails.
pub async fn run(options: &DispatchOptions) -> Result<()> {
    let DispatchOptions { store, trials, workers, program, .. } = options;
    ensure!(
        *trials >= SEEDS && trials.is_multiple_of(SEEDS),
        "--trials {trials} must be a multiple of {SEEDS}"
    );
    let cycles = options.cycles.unwrap_or(*trials).min(*trials);
    let environment = Environment::make(*store)?;
    let database = environment.database("dispatch")?;
    let coordinator = Coordinator::start_as(program, &database, &environment, options.insecure)?;
    let (submit_seconds, busy) = submit_while_busy(&coordinator.url, *trials).await?;
    let transport_cycles_per_second = transport_rate(&coordinator.url, *workers, cycles.min(20_000)).await?;
    let before = coordinator.cpu_seconds()?;
    let clients = register_all(&coordinator.url, *workers).await?;
    let run =
        run_cycles(clients, cycles, "dispatch", &Arc::default()).await.with_context(|| coordinator.log())?;
    let (rss_mib, cpu_seconds) = (coordinator.peak_memory_mib()?, coordinator.cpu_seconds()? - before);
    drop(coordinator);
    let started = now();
    let again = Coordinator::start_as(program, &database, &environment, options.insecure)?;
    let restart_seconds = started.elapsed().as_secs_f64();
    drop(again);
    let floor_cycles_per_second = sql_baseline::measure(
        &environment.database("baseline")?,
        program,
        &environment,
        cycles.min(50_000),
        *workers,
    )
    .await?;
    let flushes = fsync_ms(environment.disk(), FLUSHES)?;
    let report = DispatchReport {
        store: store.name().to_owned(),
        trials: *trials,
        workers: *workers,
        cycles,
        cycles_per_second: cycles as f64 / run.seconds,
        floor_cycles_per_second,
        transport_cycles_per_second,
        fsync_ms: flushes,
        submit_seconds,
        cycles_while_submitting: busy.cycles,
        lease_while_submitting_ms: Percentiles::of(busy.lease_ms),
        lease_ms: Percentiles::of(run.lease_ms),
        complete_ms: Percentiles::of(run.complete_ms),
        rss_mib,
        cpu_seconds,
        restart_seconds,
    };
    print(&report, options.json)
}

fn print(report: &DispatchReport, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let DispatchReport {
        cycles_per_second: cycles,
        floor_cycles_per_second: baseline,
        fsync_ms,
        lease_ms,
        complete_ms,
        ..
    } = report;
    println!("{}: {} trials, {} workers", report.store, report.trials, report.workers);
    println!(
        "  cycles/s          {cycles:.0}  ({:.0}% of the SQL baseline, {baseline:.0})",
        100.0 * cycles / baseline
    );
    println!("  transport alone   {:.0} cycles/s", report.transport_cycles_per_second);
    println!("  lease             p50 {:.2} ms, p99 {:.2} ms", lease_ms.p50, lease_ms.p99);
    println!("  complete          p50 {:.2} ms, p99 {:.2} ms", complete_ms.p50, complete_ms.p99);
    println!("  flush to disk     p50 {:.3} ms, p99 {:.3} ms", fsync_ms.p50, fsync_ms.p99);
    let (busy, busy_ms) = (report.cycles_while_submitting, &report.lease_while_submitting_ms);
    println!(
        "  submit            {:.2} s, with {busy} cycles meanwhile, lease p99 {:.2} ms",
        report.submit_seconds, busy_ms.p99
    );
    println!("  restart           {:.2} s", report.restart_seconds);
    println!(
        "  coordinator       {:.1} s of processor time, {:.0} MiB at most",
        report.cpu_seconds, report.rss_mib
    );
    Ok(())
}

/// Submits the sweep while a few clients run cycles of another one.
async fn submit_while_busy(url: &str, trials: u64) -> Result<(f64, LoadRun)> {
    submit(url, "busy", BUSY_TRIALS.min(trials)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (clients, stopped) = (register_all(url, BUSY_WORKERS).await?, Arc::clone(&stop));
    let busy =
        tokio::spawn(async move { run_cycles(clients, BUSY_TRIALS.min(trials), "busy", &stopped).await });
    let seconds = submit(url, "dispatch", trials).await?;
    stop.store(true, Ordering::Relaxed);
    Ok((seconds, busy.await??))
}
