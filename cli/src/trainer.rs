//! Starts the trainer for what users ask for besides trials.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};
use sortie_core::finetune::Precision;
use sortie_core::pipe::Request;

use crate::folders;

/// Which libtorch.
#[derive(Debug, clap::Args)]
pub struct Libtorch {}

/// Replaces this process by a trainer that answers the request; returns only if it cannot be started.
///
/// # Errors
/// One line that says why not.
pub fn become_it(request: &Request, _libtorch: &Libtorch) -> Result<()> {
    let trainer = folders::trainer()?;
    let precision = match request {
        Request::Bench(bench) => bench.precision,
        _ => Precision::Fp32,
    };
    let text = serde_json::to_string(request).context("cannot write the request")?;
    let mut command = Command::new(&trainer);
    command.args(["request", &text]).envs(sortie_worker::launcher::environment(precision));
    Err(command.exec()).with_context(|| format!("cannot start {}", trainer.display()))
}
