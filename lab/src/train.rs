//! `sortie-lab train`: Sortie's trainer and a plain PyTorch program in turns on the same images, and the ratio of their speeds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use sortie_testkit::processes;

use crate::programs::{ProgramOptions, Programs, repository};
use crate::statistics::median;

/// The packages that the PyTorch program needs.
const PACKAGES: [&str; 3] = ["torch==2.11.0", "torchvision==0.26.0", "efficientnet_lite_pytorch==0.1.0"];

/// Options of the benchmark.
#[derive(Debug, Args)]
pub struct TrainOptions {
    /// The networks to measure
    #[arg(long, value_delimiter = ',', default_value = "resnet50-v2,efficientnet-lite0")]
    backbone: Vec<String>,
    /// The number formats to measure; the PyTorch program uses fp32, as the reference code does
    #[arg(long, value_delimiter = ',', default_value = "fp32,bf16")]
    precision: Vec<String>,
    /// The folder that holds the dataset's folder
    #[arg(long, env = "SORTIE_TEST_DATA", value_name = "ROOT")]
    data: PathBuf,
    /// The dataset
    #[arg(long, default_value = "PACS")]
    dataset: String,
    /// The held-out domain
    #[arg(long, default_value = "sketch")]
    held_out: String,
    /// Side of the network input
    #[arg(long, default_value_t = 224)]
    pixels: u32,
    /// Images of each training domain in a batch
    #[arg(long, default_value_t = 32)]
    batch_per_domain: u32,
    /// Seconds of each turn
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Turns of both programs; the medians are compared
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// The device of both programs
    #[arg(long, default_value = "cpu")]
    device: String,
    /// CPU threads of both programs [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Loader processes of the PyTorch program for each training domain; on a GPU, give it all processors
    #[arg(long, default_value_t = 1)]
    loaders: u32,
    /// A Python with torch, torchvision and efficientnet_lite_pytorch [default: one is made in the cache, about 5 GB]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The folder in which that Python is made; `cargo xtask bench train` sets it
    #[arg(long, value_name = "DIR", env = "SORTIE_LAB_CACHE")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    programs: ProgramOptions,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs both programs in turns, and prints medians and ratios.
///
/// # Errors
/// When a program fails or prints no measurement.
pub fn run(options: &TrainOptions) -> Result<()> {
    let sortie = Programs::find(&options.programs)?.sortie;
    let python = match &options.python {
        Some(python) => python.clone(),
        None => virtual_environment(options.cache.as_deref())?,
    };
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let comparison = Comparison { options, sortie: &sortie, python: &python, threads };
    let rows: Vec<Value> =
        options.backbone.iter().map(|backbone| comparison.row(backbone)).collect::<Result<_>>()?;
    if options.json {
        println!(
            "{}",
            json!({ "threads": threads, "device": options.device, "turns": options.turns, "rows": rows })
        );
    } else {
        print(&rows, &options.precision);
    }
    Ok(())
}

fn print(rows: &[Value], precisions: &[String]) {
    println!("{:<20} {:<8} {:>10} {:>7} {:>10}", "backbone", "", "images/s", "ratio", "data wait");
    for row in rows {
        let backbone = row["backbone"].as_str().unwrap_or_default();
        for name in std::iter::once("pytorch").chain(precisions.iter().map(String::as_str)) {
            let number = |key: &str| row[name][key].as_f64().unwrap_or(1.0);
            let (speed, ratio) = (number("images_per_second"), number("ratio"));
            let wait_percent = 100.0 * number("data_wait_fraction");
            println!("{backbone:<20} {name:<8} {speed:>10.2} {ratio:>7.2} {wait_percent:>9.1}%");
        }
    }
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

/// The two programs, and what they are run with.
struct Comparison<'a> {
    options: &'a TrainOptions,
    sortie: &'a Path,
    python: &'a Path,
    threads: usize,
}

impl Comparison<'_> {
    /// Measures one network: the medians of both programs, and their ratios.
    fn row(&self, backbone: &str) -> Result<Value> {
        let TrainOptions { precision, turns, .. } = self.options;
        let mut pytorch = Vec::new();
        let mut sortie = vec![Vec::new(); precision.len()];
        for turn in 1..=*turns {
            eprintln!("{backbone}: turn {turn} of {turns}");
            pytorch.push(measure(&mut self.pytorch_program(backbone))?);
            for (precision, measured) in precision.iter().zip(&mut sortie) {
                measured.push(measure(&mut self.sortie_program(backbone, precision))?);
            }
        }
        let base = median_of(&pytorch, "images_per_second")?;
        let mut row = json!({ "backbone": backbone, "pytorch": medians(&pytorch)? });
        for (precision, measured) in precision.iter().zip(&sortie) {
            let mut medians = medians(measured)?;
            medians["ratio"] = json!(median_of(measured, "images_per_second")? / base);
            row[precision] = medians;
        }
        Ok(row)
    }

    fn pytorch_program(&self, backbone: &str) -> Command {
        let options = self.options;
        let mut command = Command::new(self.python);
        command.arg(repository().join("lab/bench/train.py"));
        command.arg("--dataset").arg(options.data.join(&options.dataset));
        command.args(["--loaders", &options.loaders.to_string()]);
        self.add_common(&mut command, backbone);
        command
    }

    fn sortie_program(&self, backbone: &str, precision: &str) -> Command {
        let options = self.options;
        let mut command = Command::new(self.sortie);
        command.args(["bench", "train", "--json", "--precision", precision, "--dataset", &options.dataset]);
        command.arg("--data").arg(&options.data);
        self.add_common(&mut command, backbone);
        command
    }

    /// Options that both programs have.
    fn add_common(&self, command: &mut Command, backbone: &str) {
        let TrainOptions { held_out, device, pixels, batch_per_domain, seconds, .. } = self.options;
        command.args(["--backbone", backbone, "--held-out", held_out, "--device", device]);
        command.args(["--threads", &self.threads.to_string(), "--pixels", &pixels.to_string()]);
        command.args([
            "--batch-per-domain",
            &batch_per_domain.to_string(),
            "--seconds",
            &seconds.to_string(),
        ]);
    }
}

/// Runs a program that prints its measurement as one JSON object.
fn measure(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{} failed ({})", command.get_program().display(), output.status);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} printed no JSON object", command.get_program().display()))
}

fn medians(measured: &[Value]) -> Result<Value> {
    let speed = median_of(measured, "images_per_second")?;
    let wait = median_of(measured, "data_wait_fraction")?;
    Ok(json!({ "images_per_second": speed, "data_wait_fraction": wait }))
}

fn median_of(measured: &[Value], key: &str) -> Result<f64> {
    let values: Option<Vec<f64>> = measured.iter().map(|value| value[key].as_f64()).collect();
    let values = values.with_context(|| format!("a program did not report {key}"))?;
    median(values).context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_needs_a_number_in_every_measurement() {
        let measured = |values: &[f64]| values.iter().map(|value| json!({ "x": value })).collect::<Vec<_>>();
        assert_eq!(median_of(&measured(&[3.0, 1.0, 2.0]), "x").unwrap(), 2.0);
        assert!(median_of(&measured(&[]), "x").is_err() && median_of(&measured(&[1.0]), "y").is_err());
    }
}
