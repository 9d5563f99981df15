//! `sortie-worker bench train` and `bench evaluate`: how fast a trial trains and evaluates.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use sortie_core::catalogue;
use sortie_core::finetune::{Backbone, FinetunePoint, FinetuneSpec, Precision, Settings};
use sortie_worker::data::discover;
use sortie_worker::error::TrialError;
use sortie_worker::trainer::{Artifacts, BenchWork, ComputeDevice, NetworkSpeed, TrialEnvironment, measure_network};

use super::run::default_cache;

/// Options of `bench train` and `bench evaluate`.
#[derive(Args, Debug)]
pub struct BenchNetworkArgs {
    /// The network
    #[arg(long, value_name = "BACKBONE")]
    backbone: Backbone,
    /// Folder that holds the dataset's folder
    #[arg(long, value_name = "ROOT", env = "SORTIE_DATA")]
    data: PathBuf,
    /// The dataset
    #[arg(long, value_name = "NAME", default_value = "PACS")]
    dataset: String,
    /// The domain that is not trained on [default: the last one]
    #[arg(long, value_name = "DOMAIN")]
    held_out: Option<String>,
    /// Number format of the arithmetic
    #[arg(long, value_name = "PRECISION", default_value = "fp32")]
    precision: Precision,
    /// Side of the network input [default: what the network was made for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=4_096))]
    pixels: Option<u32>,
    /// Images of each training domain in a training batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_per_domain: u32,
    /// Only resize the images, without the random transform
    #[arg(long)]
    no_augment: bool,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Where to compute: cpu, or cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// CPU threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder of pretrained weights and caches [default: sortie/ in the XDG cache folder]
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    cache: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The variable that says that the allocator is set.
const PREPARED: &str = "SORTIE_BENCH_PREPARED";

/// Runs the benchmark, in a process that has a trial's environment.
pub fn run(work: BenchWork, args: &BenchNetworkArgs) -> ExitCode {
    if std::env::var_os(PREPARED).is_none() {
        // glibc reads its settings before main: so the benchmark is a second start of this program, as trials are.
        let mut again = Command::new(Path::new("/proc/self/exe"));
        again.args(std::env::args_os().skip(1)).envs(sortie_worker::trial_process::environment(args.precision)).env(PREPARED, "1");
        return match again.status() {
            Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
            Err(error) => failed(&format!("cannot start: {error}")),
        };
    }
    match measure(work, args) {
        Ok(speed) => {
            let NetworkSpeed { images_per_second, data_wait_fraction, start_seconds, fingerprint } = &speed;
            let (threads, device) = (fingerprint.threads, &fingerprint.device);
            let memory = peak_memory_mib();
            if args.json {
                let figures = serde_json::json!({
                    "images_per_second": images_per_second, "data_wait_fraction": data_wait_fraction, "threads": threads, "device": device,
                    "start_seconds": start_seconds, "peak_memory_mib": memory,
                });
                println!("{figures}");
            } else {
                println!("{images_per_second:.2} images a second on {device}, {threads} threads");
                println!("waited for data {:.2}% of the time; ready after {start_seconds:.2} s", 100.0 * data_wait_fraction);
                println!("peak memory {memory} MiB");
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

fn measure(work: BenchWork, args: &BenchNetworkArgs) -> Result<NetworkSpeed, TrialError> {
    let dataset = match catalogue::find(&args.dataset) {
        Some(dataset) => dataset,
        None => discover(&args.data.join(&args.dataset))?.spec,
    };
    let last = dataset.domains.last().cloned().unwrap_or_default();
    let held_out = args.held_out.clone().unwrap_or(last);
    if !dataset.domains.contains(&held_out) {
        let domains = dataset.domains.join(", ");
        return Err(TrialError::BadConfig(format!("--held-out {held_out:?} is not a domain of {}: {domains}", dataset.name)));
    }
    let device: ComputeDevice = args.device.parse().map_err(TrialError::BadConfig)?;
    let settings = Settings {
        pixels: args.pixels.unwrap_or(args.backbone.pixels()),
        augment: !args.no_augment,
        precision: args.precision,
        batch_per_domain: args.batch_per_domain,
        ..Settings::reference(dataset, args.backbone)
    };
    // A rate that moves nothing: made-up weights would diverge at a real one, and a step takes as long.
    let (held_out, lr) = (vec![held_out], 1e-9);
    let point = FinetunePoint { held_out, dropout: 0.0, lr, weight_decay: 1e-4, head_lr_factor: 1.0, seed: 0, split_seed: 0 };
    let cache_dir = match &args.cache {
        Some(cache) => cache.clone(),
        None => default_cache().map_err(|error| TrialError::Other(error.to_string()))?,
    };
    let threads = args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let environment = TrialEnvironment {
        data_root: args.data.clone(),
        cache_dir,
        device,
        threads: Some(threads),
        artifacts: Artifacts::default(),
        stop: Default::default(),
    };
    measure_network(work, &FinetuneSpec { settings, point }, &environment, Duration::from_secs(u64::from(args.seconds)))
}

/// Of this process, as the kernel counts it.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
