//! Starts the trainer for commands of users.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sortie_core::finetune::Precision;
use sortie_core::pipe::Request;
use sortie_worker::launcher::{self, Launcher};

use crate::folders;

/// The build of this program, which its trainer must have too.
pub const BUILD: &str = env!("SORTIE_BUILD");

/// The option that names a libtorch.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Libtorch {
    /// The folder of libtorch 2.11.0: libtorch's own, or that of Python's `torch` [default: the first that answers of the active Python
    /// environment's, `python3`'s, and what `cargo xtask setup` fetched].
    #[arg(long, value_name = "DIR", env = "SORTIE_LIBTORCH")]
    libtorch: Option<PathBuf>,
}

impl Libtorch {
    /// A launcher that finds a trainer with it.
    ///
    /// # Errors
    /// One line where SORTIE_CACHE is no path.
    pub fn launcher(&self, trainer: PathBuf, cache: &Path) -> Result<Launcher> {
        Ok(Launcher::new(trainer, BUILD, self.libtorch.clone(), folders::setup_folders(cache)?))
    }
}

/// Replaces this process by a trainer that answers the request; returns only if it cannot be started. `device` is where it computes, as a
/// user writes it.
///
/// # Errors
/// One line that says why not.
pub fn replace_process(request: &Request, libtorch: &Libtorch, cache: PathBuf) -> Result<()> {
    let trainer = libtorch.launcher(folders::trainer()?, &cache)?.find()?;
    let (precision, device) = match request {
        Request::Bench(bench) => (bench.precision, bench.device.as_str()),
        Request::Evaluate(evaluate) => (Precision::Fp32, evaluate.device.as_str()),
        Request::ListWeights(_) | Request::FetchWeights(_) => (Precision::Fp32, "cpu"),
    };
    if device != "cpu" {
        let visible = std::env::var_os("CUDA_VISIBLE_DEVICES");
        launcher::usable_gpus(&trainer.probe, visible.as_deref()).map_err(anyhow::Error::msg)?;
    }
    let text = serde_json::to_string(request).context("cannot write the request")?;
    let mut command = trainer.command(precision);
    command.args(["request", &text]);
    Err(command.exec()).with_context(|| format!("cannot start {}", trainer.program.display()))
}
