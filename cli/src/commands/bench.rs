//! `sortie bench`: how fast this machine decodes images, trains and evaluates.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use sortie_core::finetune::{Backbone, Precision};
use sortie_core::pipe::{BenchRequest, BenchWork, Request};
use sortie_data::{BenchResult, bench, discover};

use crate::{folders, output, trainer};

/// Measure how fast this machine is.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Images that a core decodes and resizes in a second
    Data(DataArguments),
    /// Images that this machine trains in a second
    Train(Box<NetworkArguments>),
    /// Images that this machine evaluates in a second
    Evaluate(Box<NetworkArguments>),
}

#[derive(Debug, clap::Args)]
pub struct DataArguments {
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

/// Options of `bench train` and `bench evaluate`.
#[derive(Debug, clap::Args)]
pub struct NetworkArguments {
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
    #[command(flatten)]
    libtorch: trainer::Libtorch,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Measures, in this process or in a trainer that replaces it.
///
/// # Errors
/// One line that says what is wrong.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Data(arguments) => measure_data(arguments),
        Command::Train(arguments) => measure_network(BenchWork::Train, arguments),
        Command::Evaluate(arguments) => measure_network(BenchWork::Evaluate, arguments),
    }
}

fn measure_data(arguments: &DataArguments) -> Result<()> {
    let found = discover(&arguments.data.join(&arguments.dataset))?;
    let (pixels, duration) = (arguments.pixels as usize, Duration::from_secs(u64::from(arguments.seconds)));
    let BenchResult { images_per_second_per_core, threads } =
        bench(&found.folder, pixels, duration, usize::from(arguments.threads))?;
    if arguments.json {
        let figures = serde_json::json!({ "images_per_second_per_core": images_per_second_per_core, "threads": threads });
        return output::text(&figures.to_string());
    }
    output::text(&format!("{images_per_second_per_core:.0} images a second and core, {threads} threads"))
}

fn measure_network(work: BenchWork, arguments: &NetworkArguments) -> Result<()> {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let request = BenchRequest {
        work,
        backbone: arguments.backbone,
        data: arguments.data.clone(),
        dataset: arguments.dataset.clone(),
        held_out: arguments.held_out.clone(),
        precision: arguments.precision,
        pixels: arguments.pixels,
        batch_per_domain: arguments.batch_per_domain,
        augment: !arguments.no_augment,
        seconds: arguments.seconds,
        device: arguments.device.clone(),
        threads: arguments.threads.map_or_else(processors, usize::from),
        cache: folders::cache(arguments.cache.as_ref())?,
        json: arguments.json,
    };
    let cache = request.cache.clone();
    trainer::replace_process(&Request::Bench(request), &arguments.libtorch, cache)
}
