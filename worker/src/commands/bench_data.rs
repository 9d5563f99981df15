//! `sortie-worker bench data`: how fast images are decoded and resized.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sortie_worker::data::{BenchResult, bench, discover};
use sortie_worker::error::TrialError;

/// Options of `bench data`.
#[derive(Args, Debug)]
pub struct BenchDataArgs {
    /// Folder that holds the dataset's folder
    #[arg(long, value_name = "ROOT", env = "SORTIE_DATA")]
    data: PathBuf,
    /// The dataset
    #[arg(long, value_name = "NAME", default_value = "PACS")]
    dataset: String,
    /// Side that images are resized to, in pixels
    #[arg(long, value_name = "N", default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pixels: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Threads that work at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark.
pub fn run(args: &BenchDataArgs) -> ExitCode {
    match measure(args) {
        Ok(BenchResult { images_per_second_per_core, threads }) => {
            if args.json {
                println!("{}", serde_json::json!({"images_per_second_per_core": images_per_second_per_core, "threads": threads}));
            } else {
                println!("{images_per_second_per_core:.0} images a second and core, {threads} threads");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &BenchDataArgs) -> Result<BenchResult, TrialError> {
    let found = discover(&args.data.join(&args.dataset))?;
    bench(&found.folder, args.pixels as usize, Duration::from_secs(u64::from(args.seconds)), usize::from(args.threads))
}
