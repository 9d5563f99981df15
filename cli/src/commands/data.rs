//! `sortie data`: checks and decodes datasets on this machine.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sortie_core::spec::DatasetRequest;
use sortie_data::{CheckReport, DataError, Discovered, Images, Progress, check, dataset_at, read};

use crate::sweep_source::request_of;
use crate::{folders, output};

/// Check and decode the datasets on this machine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read every image of a dataset: count domains and classes, and list what is broken or missing
    ///
    /// RotatedMNIST and ColoredMNIST need no folder of their own: they are made from ROOT/MNIST. Exit code 1 if an image is broken, or if
    /// `sortie submit --data ROOT` would refuse the folder, such as one with a class that is missing in a domain.
    Check(CheckArgs),
    /// Decode a dataset now, so that no trial has to: all trials of this machine share the result
    Cache(CacheArgs),
}

/// Which dataset, and how it is read.
#[derive(Args, Debug)]
struct DatasetArgs {
    /// The dataset's folder
    #[arg(value_name = "ROOT/NAME")]
    dataset: PathBuf,
    /// Read it as `[data]` of this sweep file says: its domains, classes, layout and missing_classes
    #[arg(long, value_name = "FILE")]
    sweep: Option<PathBuf>,
}

/// Options of `data check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Options of `data cache`.
#[derive(Args, Debug)]
pub struct CacheArgs {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// The worker's cache folder [default: sortie/ in the XDG cache folder]
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    cache: Option<PathBuf>,
    /// Shrink images whose longer side has more pixels, as `data.cache_pixels` in a sweep does
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    cache_pixels: Option<u32>,
}

/// Runs a `data` command.
///
/// # Errors
/// One line.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Check(args) => run_check(args),
        Command::Cache(args) => run_cache(args),
    }
}

impl DatasetArgs {
    /// By the same reader as `sortie submit`.
    fn read(&self) -> Result<Discovered> {
        let (root, name) = dataset_at(&self.dataset)?;
        let request = match &self.sweep {
            Some(file) => request_of(file, &name)?,
            None => DatasetRequest::named(&name),
        };
        Ok(read(&root, &request)?)
    }
}

fn run_check(args: &CheckArgs) -> Result<ExitCode> {
    let console = ConsoleProgress::start()?;
    let report = check(args.dataset.read()?, &console)?;
    console.finish();
    if args.json {
        output::json(&report)?
    } else {
        output::text(&text(&report))?
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_cache(args: &CacheArgs) -> Result<ExitCode> {
    let cache = folders::cache(args.cache.as_ref())?;
    let found = args.dataset.read()?.sound()?;
    let console = ConsoleProgress::start()?;
    let images = Images::open(found.folder, &cache, args.cache_pixels, &console)?;
    console.finish();
    let (folder, mebibytes) = (images.cache_folder().display(), images.cached_bytes().div_ceil(1 << 20));
    output::text(&format!("{}: {} images in {folder}", found.spec.name, images.count()))?;
    output::text(&format!("{mebibytes} MiB, digest {}", images.digest()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &CheckReport) -> String {
    let mut lines = vec![format!("{}: {} images, split by {}", report.dataset, report.n, report.split_by)];
    for (domain, count) in &report.domains {
        let classes: Vec<String> = count.classes.iter().map(|(class, n)| format!("{class} {n}")).collect();
        lines.push(format!("  {domain}: {} images; {}", count.n, classes.join(", ")));
    }
    if !report.ignored.is_empty() {
        lines.push(format!("ignored: {}", report.ignored));
    }
    lines.extend(report.missing.iter().map(|class| format!("missing: no image in {class}")));
    lines.extend(report.broken.iter().map(|broken| format!("broken: {}: {}", broken.path, broken.reason)));
    let unlisted = report.broken_count - report.broken.len() as u64;
    if unlisted > 0 {
        lines.push(format!("broken: {unlisted} more"));
    }
    lines.extend(report.digest.iter().map(|digest| format!("digest: {digest}")));
    lines.extend(report.fault.iter().map(|fault| format!("refused: {fault}")));
    lines.push(if report.is_sound() {
        "all images can be read".to_owned()
    } else {
        format!("{} images are broken, {} classes are missing", report.broken_count, report.missing.len())
    });
    lines.join("\n") + "\n"
}

/// Shows progress on standard error: a bar on a terminal, else a line at each tenth. Ctrl-C, SIGTERM and SIGHUP cancel the work.
struct ConsoleProgress {
    cancelled: Arc<AtomicBool>,
    bar: ProgressBar,
    is_terminal: bool,
    done: AtomicU64,
    total: AtomicU64,
}

impl ConsoleProgress {
    fn start() -> Result<Self, DataError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        for signal in sortie_worker::stop_signals() {
            // A second one ends the program at once.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&cancelled))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&cancelled)))
                .map_err(|error| DataError::Other(format!("cannot listen for signals: {error}")))?;
        }
        let bar = ProgressBar::hidden();
        let is_terminal = std::io::stderr().is_terminal();
        Ok(Self { cancelled, bar, is_terminal, done: AtomicU64::new(0), total: AtomicU64::new(0) })
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for ConsoleProgress {
    fn begin(&self, what: &str, images: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(images, Ordering::Relaxed);
        if self.is_terminal {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} images, {eta} left");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.reset();
            self.bar.set_message(what.to_owned());
            self.bar.set_length(images);
            self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        } else {
            output::note(&format!("{what} {images} images"));
        }
    }

    fn advance(&self, images: u64) {
        if self.is_terminal {
            self.bar.inc(images);
            return;
        }
        let before = self.done.fetch_add(images, Ordering::Relaxed);
        let (done, total) = (before + images, self.total.load(Ordering::Relaxed).max(1));
        if before * 10 / total != done * 10 / total {
            output::note(&format!("{done} of {total} images"));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
