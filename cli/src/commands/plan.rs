//! `sortie plan`: what a sweep file would run.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use sortie_answers::number;
use sortie_core::spec::file::SweepFile;
use sortie_core::spec::{Axis, SweepSpec};
use sortie_core::trial::DatasetSpec;
use sortie_proto::v1;

use crate::{discover, output};

/// A sweep file and where to look for its images.
#[derive(Debug, clap::Args)]
pub struct SweepArguments {
    /// The sweep file, TOML.
    pub file: PathBuf,
    /// Read domains and classes from the folder ROOT/DATASET instead of the file or the built-in catalogue.
    #[arg(long, env = "SORTIE_DATA", value_name = "ROOT")]
    pub data: Option<PathBuf>,
}

/// Say what a sweep file would run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A sweep file, read and checked.
pub struct ReadSweep {
    /// As it is written.
    pub text: String,
    /// What `--data` found.
    pub discovered: Option<DatasetSpec>,
    /// What it means.
    pub spec: SweepSpec,
}

impl SweepArguments {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// One line that names the file, the key, the value and what is allowed.
    pub fn read(&self) -> Result<ReadSweep> {
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("cannot read the sweep file {}", self.file.display()))?;
        let named = || self.file.display().to_string();
        let file = SweepFile::parse(&text).with_context(named)?;
        let discovered = self.data.as_deref().map(|root| discover::discover(root, &file)).transpose()?;
        let spec = SweepSpec::parse(&text, discovered.as_ref()).with_context(named)?;
        Ok(ReadSweep { text, discovered, spec })
    }
}

impl ReadSweep {
    /// The request that stores it.
    pub fn into_request(self) -> v1::SubmitRequest {
        v1::SubmitRequest { text: self.text, discovered: self.discovered.as_ref().map(Into::into) }
    }
}

#[derive(Serialize)]
struct Plan<'a> {
    sweep: &'a str,
    trials: u64,
    updates: u64,
    #[serde(flatten)]
    spec: &'a SweepSpec,
}

/// Prints the plan.
///
/// # Errors
/// As [`SweepArguments::read`].
pub fn run(arguments: &Arguments) -> Result<()> {
    let spec = arguments.sweep.read()?.spec;
    let trials = spec.trials_planned().unwrap_or(u64::MAX);
    let updates_each = spec.settings.steps + 1;
    if arguments.json {
        return output::json(&Plan { sweep: &spec.name, trials, updates: trials.saturating_mul(updates_each), spec: &spec });
    }
    let settings = &spec.settings;
    let grid = &spec.grid;
    let numbers = |axis: &Axis| axis.values.iter().map(|&value| number(value)).collect::<Vec<_>>().join(", ");
    let seeds = |seeds: &[u64]| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let select: Vec<&str> = spec.select.iter().map(|selection| selection.as_str()).collect();
    let rows = [
        ("dataset", format!("{} ({} classes), {} px", settings.dataset.name, settings.dataset.classes.len(), settings.pixels)),
        ("model", format!("{}, {} fine-tuning, {}", settings.backbone, settings.finetune, settings.precision)),
        ("a trial", format!("{updates_each} updates of {} images per training domain", settings.batch_per_domain)),
        ("held_out", grid.held_out.join(", ")),
        ("dropout", numbers(&grid.dropout)),
        ("lr", numbers(&grid.lr)),
        ("weight_decay", numbers(&grid.weight_decay)),
        ("head_lr_factor", numbers(&grid.head_lr_factor)),
        ("seeds", seeds(&grid.seeds)),
        ("splits", seeds(&grid.splits)),
        ("select", format!("{} (needs no further trials)", select.join(", "))),
    ];
    let mut text = format!("sweep {}: {trials} trials\n", spec.name);
    for (name, value) in rows {
        text.push_str(&format!("  {name:<15}{value}\n"));
    }
    output::text(&text)
}
