//! `sortie figure`: results as SVG or PNG.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sortie_analysis::{Axis, FigureKind, FigureQuestion, OodSplit};
use sortie_core::metrics::Method;
use sortie_core::record::Detail;
use sortie_core::selection::Selection;

use crate::connection::{Client, Connection};
use crate::output;

/// Draw the results of a sweep, as SVG or PNG.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// How the step of a run is selected: iid, loo, oracle or last, as for `sortie results`.
    #[arg(long, default_value_t = Selection::Iid)]
    select: Selection,
    /// The weights used: plain (those after the step), average (of the weights over steps) or ensemble (of the logits over steps). A scatter
    /// figure shows several, comma separated.
    #[arg(long = "method", value_delimiter = ',', value_name = "METHODS", default_value = "plain")]
    methods: Vec<Method>,
    /// The part of the held-out domain on which o.o.d. accuracy is measured: in, out or all, as for `sortie results`.
    #[arg(long, value_name = "SPLIT")]
    ood_split: Option<OodSplit>,
    /// What to draw: rates, curves, scatter, box or grid.
    ///
    /// rates: accuracy against dropout rate. curves: accuracy against the step, by dropout rate. scatter: o.o.d. against i.i.d. accuracy of
    /// every choice of one setting per held-out domain, with hull and centre, by method and dropout rate (the paper's Figure 1). box: box
    /// plots of the accuracies of single trials. grid: a heat map of mean o.o.d. accuracies over two axes.
    #[arg(long)]
    kind: FigureKind,
    /// The axes of box (one, by default dropout or the first parameter that varies) and grid (two, rows first, by default the two parameters
    /// with most values): any axis of the sweep's grid, and seed and split.
    #[arg(long, value_delimiter = ',', value_name = "AXES")]
    by: Vec<Axis>,
    /// The file to write, SVG or PNG by its ending.
    #[arg(long, short, value_name = "FILE.svg|FILE.png")]
    output: PathBuf,
    /// Print one JSON object with the name of the file.
    #[arg(long)]
    json: bool,
}

/// Draws the figure.
///
/// # Errors
/// One line: the coordinator refuses, nothing is done yet, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweep, select, methods, ood_split, kind, by, output: path, json } = arguments;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !["svg", "png"].contains(&ending) {
        bail!("--output {}: the file's ending must be .svg or .png", path.display());
    }
    let mut client = Client::connect(connection).await?;
    client.require_trials_for(sweep, &[*select]).await?;
    let (work, records) = client.records(sweep, Detail::Scores).await?;
    let question = FigureQuestion {
        kind: *kind,
        selection: *select,
        methods: methods.clone(),
        ood_split: *ood_split,
        by: by.clone(),
    };
    let svg = sortie_analysis::figure(sweep, &work, &records, &question)?;
    output::picture(path, &svg)?;
    if *json {
        return output::json(&serde_json::json!({ "sweep": sweep, "kind": kind.as_str(), "output": path }));
    }
    output::text(&format!("wrote {}", path.display()))
}
