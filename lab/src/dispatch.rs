//! How many full cycles a second a coordinator serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sortie_testkit::disk::fsync_ms;

use crate::crowd::{Run, SEEDS, ceiling, drive, join, now, submit};
use crate::floor;
use crate::place::{Coordinator, Kind, Place};

/// Flushes that are measured.
const FLUSHES: u32 = 300;
/// Workers that go on with a small sweep while the large one is submitted.
const BUSY_WORKERS: usize = 4;
/// Trials of that small sweep: more than can be done meanwhile.
const BUSY_TRIALS: u64 = 200_000;

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

/// The middle, and what one in a hundred exceeds.
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
/// One line: a process or a database did not do what it should.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { store, trials, workers, program, .. } = arguments;
    ensure!(
        *trials >= SEEDS && trials.is_multiple_of(SEEDS),
        "--trials {trials} must be a multiple of {SEEDS}"
    );
    let cycles = arguments.cycles.unwrap_or(*trials).min(*trials);
    let place = Place::make(*store)?;
    let database = place.database("dispatch")?;
    let coordinator = Coordinator::start(program, &database, &place)?;
    let (submit_seconds, busy) = submit_while_busy(&coordinator.url, *trials).await?;
    let transport_cycles_per_second = ceiling(&coordinator.url, *workers, cycles.min(20_000)).await?;
    let before = coordinator.cpu_seconds()?;
    let clients = join(&coordinator.url, *workers).await?;
    let run = drive(clients, cycles, "dispatch", &Arc::default()).await.with_context(|| coordinator.log())?;
    let (rss_mib, cpu_seconds) = (coordinator.peak_memory_mib()?, coordinator.cpu_seconds()? - before);
    drop(coordinator);
    let started = now();
    let again = Coordinator::start(program, &database, &place)?;
    let restart_seconds = started.elapsed().as_secs_f64();
    drop(again);
    let floor_cycles_per_second =
        floor::measure(&place.database("floor")?, program, &place, cycles.min(50_000), *workers).await?;
    let flushes = fsync_ms(place.disk(), FLUSHES)?;
    let measured = Measured {
        store: format!("{store:?}").to_lowercase(),
        trials: *trials,
        workers: *workers,
        cycles,
        cycles_per_second: cycles as f64 / run.seconds,
        floor_cycles_per_second,
        transport_cycles_per_second,
        fsync_ms: Percentiles { p50: flushes.p50_ms, p99: flushes.p99_ms },
        submit_seconds,
        cycles_while_submitting: busy.cycles,
        lease_while_submitting_ms: percentiles(busy.lease_ms),
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
    let Measured {
        cycles_per_second: cycles,
        floor_cycles_per_second: floor,
        fsync_ms,
        lease_ms,
        complete_ms,
        ..
    } = measured;
    println!("{}: {} trials, {} workers", measured.store, measured.trials, measured.workers);
    println!("  cycles/s          {cycles:.0}  ({:.0}% of the floor, {floor:.0})", 100.0 * cycles / floor);
    println!("  transport alone   {:.0} cycles/s", measured.transport_cycles_per_second);
    println!("  lease             p50 {:.2} ms, p99 {:.2} ms", lease_ms.p50, lease_ms.p99);
    println!("  complete          p50 {:.2} ms, p99 {:.2} ms", complete_ms.p50, complete_ms.p99);
    println!("  flush to disk     p50 {:.3} ms, p99 {:.3} ms", fsync_ms.p50, fsync_ms.p99);
    let (busy, busy_ms) = (measured.cycles_while_submitting, &measured.lease_while_submitting_ms);
    println!(
        "  submit            {:.2} s, with {busy} cycles meanwhile, lease p99 {:.2} ms",
        measured.submit_seconds, busy_ms.p99
    );
    println!("  restart           {:.2} s", measured.restart_seconds);
    println!(
        "  coordinator       {:.1} s of processor time, {:.0} MiB at most",
        measured.cpu_seconds, measured.rss_mib
    );
    Ok(())
}

/// Submits the sweep while a few workers go on with another one.
async fn submit_while_busy(url: &str, trials: u64) -> Result<(f64, Run)> {
    submit(url, "busy", BUSY_TRIALS.min(trials)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (clients, told) = (join(url, BUSY_WORKERS).await?, Arc::clone(&stop));
    let busy = tokio::spawn(async move { drive(clients, BUSY_TRIALS.min(trials), "busy", &told).await });
    let seconds = submit(url, "dispatch", trials).await?;
    stop.store(true, Ordering::Relaxed);
    Ok((seconds, busy.await??))
}

fn percentiles(mut values: Vec<f64>) -> Percentiles {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        values
            .get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    Percentiles { p50: at(0.5), p99: at(0.99) }
}
