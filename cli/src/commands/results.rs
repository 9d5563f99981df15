//! `sortie results`: the tables.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sortie_answers::{Axis, Format, OodSplit, Question};
use sortie_core::selection::Selection;

use crate::client::Client;
use crate::{Connection, output};

/// Print the results table of a sweep.
///
/// Rows are settings, columns are held-out domains. Seeds are replicates: cells are means over trials, with their standard error.
/// Every cell that is not complete says how many of its trials are done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) question: QuestionArguments,
    /// Make rows of these axes, comma separated: any axis of the sweep's grid, such as dropout or lr, and seed and split. Other axes are
    /// averaged. By default every axis with more than one value but the seeds.
    #[arg(long, value_delimiter = ',', value_name = "AXES")]
    by: Vec<Axis>,
    /// How the answer looks: table, csv, json or markdown.
    #[arg(long, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whose results, and how a run's step is chosen.
#[derive(Debug, clap::Args)]
pub struct QuestionArguments {
    /// The sweep's name.
    pub sweep: String,
    /// Which step of a run counts: iid (best mean accuracy on the training domains' out splits) or last.
    #[arg(long, default_value_t = Selection::Iid)]
    pub select: Selection,
    /// Which part of the held-out domain the o.o.d. accuracy reads: in, out or all. By default in; out for datasets that are split by
    /// object, since the objects of `in` were trained on in other domains.
    #[arg(long, value_name = "SPLIT")]
    pub ood_split: Option<OodSplit>,
}

/// Prints the table.
///
/// # Errors
/// One line: the coordinator refuses, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let QuestionArguments { sweep, select, ood_split } = &arguments.question;
    let (work, records) = Client::connect(connection).await?.records(sweep).await?;
    let question = Question { selection: *select, by: arguments.by.clone(), ood_split: *ood_split };
    let results = sortie_answers::results(sweep, &work, &records, &question)?;
    let text = results.render(if arguments.json { Format::Json } else { arguments.format });
    match &arguments.output {
        None => output::text(&text),
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
    }
}
