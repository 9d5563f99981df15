//! `sortie figure`: the pictures.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sortie_answers::{FigureKind, Question};
use sortie_core::selection::Selection;

use super::results::MeasuredArguments;
use crate::client::Client;
use crate::{Connection, output};

/// How many pixels of a PNG one unit of the SVG becomes: sharp at a single column's width in print.
const PNG_SCALE: f32 = 2.0;

/// Draw the results of a sweep, as SVG or PNG.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// Which step of a run counts: iid, loo, oracle or last, as for `sortie results`.
    #[arg(long, default_value_t = Selection::Iid)]
    select: Selection,
    #[command(flatten)]
    measured: MeasuredArguments,
    /// What to draw: rates (accuracy against dropout rate), curves (accuracy against the step, by dropout rate) or scatter (o.o.d. against i.i.d. accuracy of every combination of one
    /// setting per held-out domain).
    #[arg(long)]
    kind: FigureKind,
    /// The file: its ending says whether SVG or PNG.
    #[arg(long, short, value_name = "FILE.svg|FILE.png")]
    output: PathBuf,
    /// Print one JSON object that names the file.
    #[arg(long)]
    json: bool,
}

/// Draws the figure.
///
/// # Errors
/// One line: the coordinator refuses, nothing is done yet, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, select, measured: MeasuredArguments { method, ood_split }, .. } = arguments;
    let path = &arguments.output;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !["svg", "png"].contains(&ending) {
        bail!("--output {}: the file's ending must be .svg or .png", path.display());
    }
    let (work, records) = Client::connect(connection).await?.records(sweep).await?;
    let question = Question { selection: *select, method: *method, ood_split: *ood_split, ..Question::default() };
    let svg = sortie_answers::figure(arguments.kind, sweep, &work, &records, &question)?;
    let bytes = if ending == "png" { sortie_answers::png(&svg, PNG_SCALE)? } else { svg.into_bytes() };
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    if arguments.json {
        return output::json(&serde_json::json!({ "sweep": sweep, "kind": arguments.kind.as_str(), "output": path }));
    }
    output::text(&format!("wrote {}", path.display()))
}
