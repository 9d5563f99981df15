//! `sortie export`: every evaluation as a row, or results in the files of other programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sortie_analysis::{
    EvaluationWriter, EvaluationWriterError, ExportColumns, ExportCounts, RowFormat, SweepRecords, domainbed,
};
use sortie_core::metrics::TrainingLoss;
use sortie_core::named;
use sortie_core::record::{Detail, TrialRecord};
use sortie_core::trial::{SpecHash, Work};

use crate::connection::{Client, Connection};
use crate::output::NewFile;
use crate::sweeps::{OneSweep, SweepArguments};
use crate::{losses, output};

/// Write every evaluation of one or several sweeps as a row, or their results as the files of another program.
///
/// csv, jsonl, parquet: one row for each evaluation of each trial, in the order of the grid. Its trial: sweep, trial_id, state, held_out, a
/// column for each axis, seed, split_seed. Itself: method, step, domain, split, role (training or held-out), n and correct (images; empty
/// where they were not counted), accuracy (a fraction, exact to the last bit; empty where it was not reported), loss (nats), seconds (since
/// training began, without the time between attempts), and a column for each metric that the
/// sweep's command named (metric.NAME if another column has its name). A trial without evaluations, because it failed,
/// diverged, was cancelled or is not done, has one row whose columns from method on are empty; drop those by `step`. An axis with values of
/// several types is written as text, and one with the name of another column as parameter.NAME. docs/export.md has more.
///
/// domainbed: one run folder for each succeeded trial and each model of its trajectory, as DomainBed's collector reads them. Settings are
/// numbered as hparams_seed, pairs of seed and split as trial_seed; the dropout rate and the model are part of the algorithm's name. hparams
/// has the values of all axes. `sortie import domainbed` makes the same sweep of them. Of a trial that stands in several sweeps there is one
/// folder; rows name their sweep.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweeps: SweepArguments,
    /// The format: csv, jsonl, parquet or domainbed.
    #[arg(long)]
    format: ExportFormat,
    /// The file to write, which appears when it is complete; for domainbed the folder, which must be empty or not there. Without it, csv and
    /// jsonl go to standard output.
    #[arg(long, short, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Write training losses, too, a row for each: step, split batch, role training, loss and seconds; not for domainbed.
    #[arg(long)]
    losses: bool,
    /// Print one JSON object that says what was written to --output.
    #[arg(long, requires = "output")]
    json: bool,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportFormat {
    Csv,
    Jsonl,
    Parquet,
    DomainBed,
}
named!(ExportFormat, "format", { Csv => "csv", Jsonl => "jsonl", Parquet => "parquet", DomainBed => "domainbed" });

/// Writes the rows or files.
///
/// # Errors
/// One line: the coordinator refuses, the folder is not empty, or something cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { format, output, .. } = arguments;
    let rows = match format {
        ExportFormat::Csv => RowFormat::Csv,
        ExportFormat::Jsonl => RowFormat::Jsonl,
        ExportFormat::Parquet => RowFormat::Parquet,
        ExportFormat::DomainBed => {
            let folder =
                output.as_deref().context("--format domainbed writes a folder: name it with --output")?;
            ensure!(!arguments.losses, "--losses: DomainBed's records have no training losses");
            return domainbeds(arguments, folder, connection).await;
        }
    };
    let Some(path) = output else {
        if rows == RowFormat::Parquet {
            bail!("parquet is binary: pass --output FILE");
        }
        // Each write locks standard output by itself; nothing else writes there.
        write_rows(
            arguments,
            rows,
            std::io::BufWriter::with_capacity(1 << 16, std::io::stdout()),
            connection,
        )
        .await?;
        return Ok(());
    };
    let (file, ExportCounts { trials, without, evaluations, losses }) =
        write_rows(arguments, rows, NewFile::create(path)?, connection).await?;
    file.finish()?;
    if arguments.json {
        let mut said = json!({ "output": path, "evaluations": evaluations, "trials": trials, "without_evaluations": without });
        if arguments.losses {
            said["losses"] = losses.into();
        }
        arguments.sweeps.name_in(&mut said);
        return output::json(&said);
    }
    output::text(&format!(
        "wrote {evaluations} evaluations{} of {trials} trials, {without} of them without any, to {}",
        if arguments.losses { format!(" and {losses} training losses") } else { String::new() },
        path.display()
    ))
}

/// Streams sweeps into a file, twice: its columns, which depend on all trials, come before its rows.
async fn write_rows<W: Write + Send>(
    arguments: &Arguments,
    format: RowFormat,
    out: W,
    connection: &Connection,
) -> Result<(W, ExportCounts)> {
    let mut client = Client::connect(connection).await?;
    let sweeps = arguments.sweeps.read(&mut client).await?;
    let mut columns = ExportColumns::default();
    // Only commands report named metrics.
    let named = sweeps.all().iter().any(|sweep| matches!(sweep.spec.work, Work::Command(_)));
    let detail = if named { Detail::All } else { Detail::Points };
    sweeps
        .read(&mut client, &arguments.sweeps, detail, |_, record| {
            columns.add(&record);
            Ok(())
        })
        .await?;
    let cannot = |error: std::io::Error| anyhow::Error::from(error).context("cannot write the rows");
    let mut writer = EvaluationWriter::new(&columns, format, out).map_err(cannot)?;
    let mut push = |sweep: usize, record: &TrialRecord, losses: &[TrainingLoss]| {
        writer.push(&sweeps.all()[sweep].name, record, losses).map_err(|error| match error {
            EvaluationWriterError::Io(error) => cannot(error),
            changed @ EvaluationWriterError::Changed { .. } => changed.into(),
        })
    };
    if arguments.losses {
        let mut asking = Client::connect(connection).await?;
        let mut waiting = Vec::new();
        sweeps
            .read_slowly(&mut client, &arguments.sweeps, Detail::All, async |sweep, record| {
                let is_full = waiting.len() >= losses::trials_at_a_time(&sweeps.all()[sweep].spec.work);
                if is_full || waiting.first().is_some_and(|(first, _)| *first != sweep) {
                    write_with_losses(&mut asking, sweeps.all(), std::mem::take(&mut waiting), &mut push)
                        .await?;
                }
                waiting.push((sweep, record));
                Ok(())
            })
            .await?;
        write_with_losses(&mut asking, sweeps.all(), waiting, &mut push).await?;
    } else {
        sweeps
            .read(&mut client, &arguments.sweeps, Detail::All, |sweep, record| push(sweep, &record, &[]))
            .await?;
    }
    writer.finish().map_err(cannot)
}

/// Writes trials of one sweep with their training losses.
async fn write_with_losses(
    client: &mut Client,
    sweeps: &[OneSweep],
    trials: Vec<(usize, TrialRecord)>,
    push: &mut impl FnMut(usize, &TrialRecord, &[TrainingLoss]) -> Result<()>,
) -> Result<()> {
    let Some((sweep, _)) = trials.first() else { return Ok(()) };
    let ids: Vec<SpecHash> = trials.iter().map(|(_, record)| record.id).collect();
    let losses = losses::read(client, &sweeps[*sweep].name, &ids, None).await?;
    for (sweep, record) in &trials {
        push(*sweep, record, losses.get(&record.id).map_or(&[], Vec::as_slice))?;
    }
    Ok(())
}

async fn domainbeds(arguments: &Arguments, folder: &Path, connection: &Connection) -> Result<()> {
    let Arguments { sweeps, json, .. } = arguments;
    let cannot = || format!("cannot write {}", folder.display());
    if folder.exists() && std::fs::read_dir(folder).with_context(cannot)?.next().is_some() {
        bail!(
            "--output {}: the folder is not empty, and records of two sweeps must not mix",
            folder.display()
        );
    }
    let mut client = Client::connect(connection).await?;
    let read = sweeps.read(&mut client).await?.records(&mut client, sweeps, Detail::All).await?;
    let mut all = Vec::new();
    for SweepRecords { name, spec, records } in &read {
        if let Some(why) = domainbed::left_out(records) {
            output::note(&format!("note: {why}"));
        }
        all.push((name.clone(), domainbed::runs(&spec.work, records, &spec.imported)));
    }
    let runs = domainbed::together(all)?;
    domainbed::write(folder, &runs).with_context(cannot)?;
    for why in read.iter().filter_map(|sweep| domainbed::unshown(&sweep.spec.work)) {
        output::note(&format!("note: {why}"));
    }
    let trials: usize = read.iter().map(|sweep| sweep.records.len()).sum();
    if *json {
        let mut said = json!({ "output": folder, "runs": runs.len(), "trials": trials });
        sweeps.name_in(&mut said);
        return output::json(&said);
    }
    output::text(&format!(
        "wrote {} run folders of {trials} planned trials to {}",
        runs.len(),
        folder.display()
    ))
}
