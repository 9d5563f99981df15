//! `sortie bench train` and `bench evaluate`: how fast a trial trains and evaluates.

use std::process::ExitCode;
use std::time::Duration;

use crate::error::TrialError;
use crate::training::{Artifacts, ComputeDevice, NetworkSpeed, TrialEnvironment, measure_network};
use sortie_core::catalogue;
use sortie_core::finetune::{FinetunePoint, FinetuneSpec, Settings};
use sortie_core::pipe::BenchRequest;
use sortie_data::discover;

/// Runs the benchmark and prints what it measured.
pub fn run(request: &BenchRequest) -> ExitCode {
    match measure(request) {
        Ok(speed) => {
            let NetworkSpeed { images_per_second, data_wait_fraction, start_seconds, fingerprint } = &speed;
            let (threads, device) = (fingerprint.threads, &fingerprint.device);
            let memory = peak_memory_mib();
            if request.json {
                let figures = serde_json::json!({
                    "images_per_second": images_per_second, "data_wait_fraction": data_wait_fraction, "threads": threads, "device": device,
                    "start_seconds": start_seconds, "peak_memory_mib": memory,
                });
                println!("{figures}");
            } else {
                println!("{images_per_second:.2} images a second on {device}, {threads} threads");
                println!(
                    "waited for data {:.2}% of the time; ready after {start_seconds:.2} s",
                    100.0 * data_wait_fraction
                );
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

fn measure(request: &BenchRequest) -> Result<NetworkSpeed, TrialError> {
    let dataset = match catalogue::find(&request.dataset) {
        Some(dataset) => dataset,
        None => discover(&request.data.join(&request.dataset))?.spec,
    };
    let last = dataset.domains.last().cloned().unwrap_or_default();
    let held_out = request.held_out.clone().unwrap_or(last);
    if !dataset.domains.contains(&held_out) {
        let domains = dataset.domains.join(", ");
        return Err(TrialError::BadConfig(format!(
            "--held-out {held_out:?} is not a domain of {}: {domains}",
            dataset.name
        )));
    }
    let device: ComputeDevice = request.device.parse().map_err(TrialError::BadConfig)?;
    let settings = Settings {
        pixels: request.pixels.unwrap_or(request.backbone.pixels()),
        augment: request.augment,
        precision: request.precision,
        batch_per_domain: request.batch_per_domain,
        ..Settings::reference(dataset, request.backbone)
    };
    // A rate that moves nothing: made-up weights would diverge at a real one, and a step takes as long.
    let (held_out, lr) = (vec![held_out], 1e-9);
    let point = FinetunePoint {
        held_out,
        dropout: 0.0,
        lr,
        weight_decay: 1e-4,
        head_lr_factor: 1.0,
        seed: 0,
        split_seed: 0,
    };
    let environment = TrialEnvironment {
        data_root: request.data.clone(),
        cache_dir: request.cache.clone(),
        device,
        threads: Some(request.threads),
        artifacts: Artifacts::default(),
        stop: Default::default(),
    };
    measure_network(
        request.work,
        &FinetuneSpec { settings, point },
        &environment,
        Duration::from_secs(u64::from(request.seconds)),
    )
}

/// Of this process, as the kernel counts it.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
