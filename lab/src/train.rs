//! `sortie-lab train`: Sortie's trainer and a plain PyTorch program in turns on the same images, and the ratio of their speeds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use sortie_testkit::processes;

use crate::programs::{self, Programs, repository};

/// What the PyTorch program needs beside its own interpreter.
const PACKAGES: [&str; 3] = ["torch==2.11.0", "torchvision==0.26.0", "efficientnet_lite_pytorch==0.1.0"];

/// What is measured.
#[derive(Debug, Args)]
pub struct Options {
    /// The networks to measure
    #[arg(long, value_delimiter = ',', default_value = "resnet50-v2,efficientnet-lite0")]
    backbone: Vec<String>,
    /// The number formats to measure; PyTorch runs in fp32, as the reference code does
    #[arg(long, value_delimiter = ',', default_value = "fp32,bf16")]
    precision: Vec<String>,
    /// The folder that holds the dataset's folder
    #[arg(long, env = "SORTIE_TEST_DATA", value_name = "ROOT")]
    data: PathBuf,
    /// The dataset
    #[arg(long, default_value = "PACS")]
    dataset: String,
    /// The domain that is not trained on
    #[arg(long, default_value = "sketch")]
    held_out: String,
    /// Side of the network input
    #[arg(long, default_value_t = 224)]
    pixels: u32,
    /// Images of each training domain in a batch
    #[arg(long, default_value_t = 32)]
    batch_per_domain: u32,
    /// How long each turn takes
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Turns; the medians count
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Where both compute
    #[arg(long, default_value = "cpu")]
    device: String,
    /// CPU threads of both; all by default
    #[arg(long)]
    threads: Option<usize>,
    /// Loader processes of the PyTorch program for each training domain; on a GPU, give it all processors
    #[arg(long, default_value_t = 1)]
    loaders: u32,
    /// A Python that has torch, torchvision and efficientnet_lite_pytorch; one is made in the cache, some 5 GB, if none is named
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The folder in which that Python is made; `cargo xtask bench train` names its own cache
    #[arg(long, value_name = "DIR", env = "SORTIE_LAB_CACHE")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    programs: programs::Options,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Measures, and prints medians and ratios.
pub fn run(options: &Options) -> Result<()> {
    let worker = Programs::find(&options.programs)?.sortie;
    let python = match &options.python {
        Some(python) => python.clone(),
        None => virtual_environment(options.cache.as_deref())?,
    };
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut rows = Vec::new();
    for backbone in &options.backbone {
        let mut pytorch = Vec::new();
        let mut sortie = vec![Vec::new(); options.precision.len()];
        for turn in 1..=options.turns {
            eprintln!("{backbone}: turn {turn} of {}", options.turns);
            pytorch.push(measured(&mut pytorch_program(options, &python, backbone, threads)?)?);
            for (precision, found) in options.precision.iter().zip(&mut sortie) {
                found.push(measured(&mut sortie_program(options, &worker, backbone, precision, threads))?);
            }
        }
        let base = median(&pytorch, "images_per_second")?;
        let mut row = json!({ "backbone": backbone, "pytorch": figures(&pytorch)? });
        for (precision, found) in options.precision.iter().zip(&sortie) {
            let mut figures = figures(found)?;
            figures["ratio"] = json!(median(found, "images_per_second")? / base);
            row[precision] = figures;
        }
        rows.push(row);
    }
    if options.json {
        println!(
            "{}",
            json!({ "threads": threads, "device": options.device, "turns": options.turns, "rows": rows })
        );
        return Ok(());
    }
    println!("{:<20} {:<8} {:>10} {:>7} {:>10}", "backbone", "", "images/s", "ratio", "data wait");
    for row in &rows {
        let names = std::iter::once("pytorch").chain(options.precision.iter().map(String::as_str));
        for name in names {
            let number = |key: &str| row[name][key].as_f64().unwrap_or(1.0);
            let (backbone, speed, ratio, wait) = (
                &row["backbone"],
                number("images_per_second"),
                number("ratio"),
                number("data_wait_fraction"),
            );
            println!(
                "{:<20} {name:<8} {speed:>10.2} {ratio:>7.2} {:>9.1}%",
                backbone.as_str().unwrap_or_default(),
                100.0 * wait
            );
        }
    }
    Ok(())
}

fn virtual_environment(cache: Option<&Path>) -> Result<PathBuf> {
    let cache = cache.context("name a Python by --python, or a folder to make one in by --cache")?;
    let folder = cache.join("pytorch-2.11.0");
    let python = folder.join("bin/python");
    let marker = folder.join("complete");
    if !marker.is_file() {
        eprintln!("installing {} into {}", PACKAGES.join(", "), folder.display());
        processes::run(Command::new("python3").args(["-m", "venv"]).arg(&folder).stdout(Stdio::null()))?;
        processes::run(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(PACKAGES),
        )?;
        std::fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))?;
    }
    Ok(python)
}

fn pytorch_program(options: &Options, python: &Path, backbone: &str, threads: usize) -> Result<Command> {
    let script = repository().join("lab/bench/train.py");
    let mut command = Command::new(python);
    command.arg(script).args([
        "--backbone",
        backbone,
        "--held-out",
        &options.held_out,
        "--device",
        &options.device,
    ]);
    command.arg("--dataset").arg(options.data.join(&options.dataset));
    command.args(["--threads", &threads.to_string(), "--loaders", &options.loaders.to_string()]);
    command.args(numbers(options));
    Ok(command)
}

fn sortie_program(
    options: &Options,
    worker: &Path,
    backbone: &str,
    precision: &str,
    threads: usize,
) -> Command {
    let mut command = Command::new(worker);
    command.args([
        "bench",
        "train",
        "--json",
        "--backbone",
        backbone,
        "--precision",
        precision,
        "--dataset",
        &options.dataset,
    ]);
    command.args([
        "--held-out",
        &options.held_out,
        "--device",
        &options.device,
        "--threads",
        &threads.to_string(),
    ]);
    command.arg("--data").arg(&options.data).args(numbers(options));
    command
}

fn numbers(options: &Options) -> [String; 6] {
    let Options { pixels, batch_per_domain, seconds, .. } = options;
    let pairs = [("--pixels", pixels), ("--batch-per-domain", batch_per_domain), ("--seconds", seconds)];
    let words: Vec<String> =
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect();
    std::array::from_fn(|index| words[index].clone())
}

fn measured(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{} failed ({})", command.get_program().display(), output.status);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} printed no JSON object", command.get_program().display()))
}

fn figures(found: &[Value]) -> Result<Value> {
    let [speed, wait] = [median(found, "images_per_second")?, median(found, "data_wait_fraction")?];
    Ok(json!({ "images_per_second": speed, "data_wait_fraction": wait }))
}

fn median(found: &[Value], key: &str) -> Result<f64> {
    let values: Option<Vec<f64>> = found.iter().map(|value| value[key].as_f64()).collect();
    let mut values = values.with_context(|| format!("a program did not tell {key}"))?;
    values.sort_by(f64::total_cmp);
    ensure!(!values.is_empty(), "nothing was measured");
    Ok((values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        let found = |values: &[f64]| values.iter().map(|value| json!({ "x": value })).collect::<Vec<_>>();
        assert_eq!(median(&found(&[3.0, 1.0, 2.0]), "x").unwrap(), 2.0);
        assert_eq!(median(&found(&[4.0, 1.0, 2.0, 3.0]), "x").unwrap(), 2.5);
        assert!(median(&found(&[]), "x").is_err() && median(&found(&[1.0]), "y").is_err());
    }
}
