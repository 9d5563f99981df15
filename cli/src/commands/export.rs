//! `sortie export`: results in the files of other programs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sortie_answers::domainbed;
use sortie_core::named;

use crate::client::Client;
use crate::{Connection, output};

/// Write the results of a sweep as the files of another program.
///
/// domainbed: one run folder for each succeeded trial and each model of its trajectory, as DomainBed's collector reads them. Settings are
/// numbered as hparams_seed, pairs of seed and split as trial_seed; the dropout rate and the model are part of the algorithm's name.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Whose files: domainbed.
    #[arg(long)]
    format: ExportFormat,
    /// The folder to write to; it must be empty or not there.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Programs whose files can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportFormat {
    DomainBed,
}
named!(ExportFormat, "format", { DomainBed => "domainbed" });

/// Writes the files.
///
/// # Errors
/// One line: the coordinator refuses, the folder is not empty, or it cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, format: ExportFormat::DomainBed, output: folder, json } = arguments;
    let cannot = || format!("cannot write {}", folder.display());
    if folder.exists() && std::fs::read_dir(folder).with_context(cannot)?.next().is_some() {
        bail!("--output {}: the folder is not empty, and records of two sweeps must not mix", folder.display());
    }
    let (work, records) = Client::connect(connection).await?.records(sweep).await?;
    let runs = domainbed::runs(&work, &records);
    domainbed::write(folder, &runs).with_context(cannot)?;
    if let Some(why) = domainbed::unshown(&work) {
        output::note(&format!("note: {why}"));
    }
    let trials = records.len();
    if *json {
        return output::json(&serde_json::json!({ "sweep": sweep, "output": folder, "runs": runs.len(), "trials": trials }));
    }
    output::text(&format!("wrote {} run folders of {trials} planned trials to {}", runs.len(), folder.display()))
}
