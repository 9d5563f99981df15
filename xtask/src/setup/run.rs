//! The steps of the set-up, in the order in which a build needs them.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::HumanBytes;

use super::cache::{Cache, cache_dir, repository};
use super::emoji::{self, EmojiStyles};
use super::libtorch::{self, Libtorch};
use super::manifest::Check;
use super::{node, npm, pins, tools, weights};

/// What `cargo xtask setup` is asked for.
#[derive(Debug, Clone, Default, Args)]
pub struct SetupOptions {
    /// Fetch the CUDA libraries too (2 GB to download, 3.3 GB on disk), for workers with NVIDIA GPUs
    #[arg(long)]
    pub cuda: bool,
    /// Check every byte of what is there, not only the sizes
    #[arg(long)]
    pub verify: bool,
}

/// Everything that a build and a first sweep need.
#[derive(Debug)]
pub struct Ready {
    /// Folder of datasets, one folder each; what a worker reads when `--data` is not given.
    pub data_root: PathBuf,
    /// Folder of pretrained weights, one `BACKBONE.pth` each; a worker's default.
    pub weights_dir: PathBuf,
    libtorch: Libtorch,
    cuda: Option<Libtorch>,
    weights: PathBuf,
    emoji: EmojiStyles,
    nothing_to_do: bool,
}

/// What is already there, and whole.
struct Found {
    libtorch: Option<Libtorch>,
    cuda: Option<Libtorch>,
    weights: Option<PathBuf>,
    emoji: Option<EmojiStyles>,
}

/// Makes everything ready, or fails with one line that says what is missing and how to get it.
pub fn run(options: &SetupOptions) -> Result<Ready> {
    let repository = repository()?;
    tools::require_cxx()?;
    let chosen = libtorch::chosen_by_user(&repository)?;
    if chosen.is_none() && !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "libtorch is fetched for Linux on x86_64 only: set LIBTORCH to a libtorch {}",
            pins::LIBTORCH_VERSION
        );
    }
    if options.cuda && chosen.is_some() {
        bail!("--cuda fits only the libtorch that setup fetches: unset LIBTORCH, or leave --cuda out");
    }
    let cache = Cache::open(cache_dir()?)?;
    let check = if options.verify { Check::Digests } else { Check::Sizes };
    let found = look(&cache, check, options, chosen);
    let is_whole = found.is_whole(options);
    let needs_npm = found.emoji.is_none() && !emoji::is_downloaded(&cache) && npm::of_machine().is_none();
    if found.needs_pip(options) || needs_npm {
        tools::require_pip()?;
    }
    let ready = complete(&cache, options, found, &repository)?;
    Ok(Ready { nothing_to_do: is_whole, ..ready })
}

fn look(cache: &Cache, check: Check, options: &SetupOptions, chosen: Option<Libtorch>) -> Found {
    Found {
        libtorch: chosen.or_else(|| libtorch::find(cache, check, options.cuda)),
        cuda: libtorch::find_cuda(cache, check),
        weights: weights::find(cache, check),
        emoji: emoji::find(cache, check),
    }
}

/// Does what is left to do, in the order in which a build needs it.
fn complete(cache: &Cache, options: &SetupOptions, found: Found, repository: &Path) -> Result<Ready> {
    let libtorch = match found.libtorch {
        Some(libtorch) => libtorch,
        None => libtorch::make(cache, options.cuda)?,
    };
    libtorch::link(repository, &libtorch.folder)?;
    let weights = match found.weights {
        Some(weights) => weights,
        None => weights::make(cache)?,
    };
    let emoji = match found.emoji {
        Some(emoji) => emoji,
        None => emoji::make(cache, || node::npm(cache))?,
    };
    let cuda = match found.cuda {
        None if options.cuda => Some(libtorch::make_cuda(cache)?),
        found => found,
    };
    let (data_root, weights_dir) = (cache.data(), cache.weights());
    Ok(Ready { data_root, weights_dir, libtorch, cuda, weights, emoji, nothing_to_do: false })
}

impl Found {
    fn is_whole(&self, options: &SetupOptions) -> bool {
        !self.needs_pip(options) && self.emoji.is_some()
    }

    fn needs_pip(&self, options: &SetupOptions) -> bool {
        self.libtorch.is_none() || self.weights.is_none() || (options.cuda && self.cuda.is_none())
    }
}

impl Ready {
    /// Tells on stdout where everything lies, and what to type next.
    pub fn print(&self) {
        println!("{}", if self.nothing_to_do { "Everything was there." } else { "Everything is there now." });
        self.libtorch.print("libtorch (CPU)");
        if let Some(cuda) = &self.cuda {
            cuda.print("CUDA set");
        }
        let bytes = self.weights.metadata().map_or(0, |metadata| metadata.len());
        println!("  weights         {}  ({})", self.weights.display(), HumanBytes(bytes));
        println!("  {:<15} {}  ({})", emoji::NAME, self.emoji.folder.display(), HumanBytes(self.emoji.bytes));
        println!(
            "Workers read data from {} and weights from {} unless told otherwise.",
            self.data_root.display(),
            self.weights_dir.display()
        );
        println!(
            "Next: cargo xtask quickstart (a first results table), or cargo build and cargo test as usual."
        );
    }
}

impl Libtorch {
    fn print(&self, title: &str) {
        let size = self.bytes.map_or(String::new(), |bytes| format!(", {}", HumanBytes(bytes)));
        println!("  {title:<15} {}  ({}{size})", self.folder.display(), self.source);
    }
}
