//! `sortie figure`: results as SVG, PDF or PNG.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sortie_analysis::{Axis, FigureKind, FigurePage, FigurePreset, FigureQuestion, FigureWidth, OodSplit};
use sortie_core::metrics::Method;
use sortie_core::selection::Selection;

use crate::connection::{Client, Connection};
use crate::measured::MetricArguments;
use crate::output;
use crate::sweeps::SweepArguments;

/// Draw the results of one or several sweeps, as SVG, PDF or PNG.
///
/// Sweeps on one dataset are drawn in one plot, told apart by --by sweep or an axis in which they differ; several datasets have a plot each.
/// --preset draws a figure of the paper: `sortie figure vlcs pacs office_home terra --preset figure1 -o figure1.pdf`.
///
/// Text is equally large at every --width: 6 points or more on paper, in fonts that a PDF embeds. Above the plot stand the sweep's name and a
/// caption, which says how the numbers were made and what is missing; --no-caption leaves both to the paper.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweeps: SweepArguments,
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
    #[command(flatten)]
    metric: MetricArguments,
    /// What to draw: rates, curves, scatter, box or grid.
    ///
    /// rates: accuracy against the numbers of an axis, such as dropout or lr. curves: accuracy against the step, a line for each setting.
    /// scatter: o.o.d. against i.i.d. accuracy of every choice of one setting per held-out domain, with hull and centre, by method and dropout
    /// rate (the paper's Figure 1). box: box plots of the accuracies of single trials. grid: a heat map of mean o.o.d. accuracies over two
    /// axes.
    #[arg(long, required_unless_present = "preset")]
    kind: Option<FigureKind>,
    /// A figure of the paper instead of --kind and --method: figure1 (plain fine-tuning, weight averaging, ensemble, dropout 0.9, and both
    /// combinations across runs), figure2 (dropout rates, with a line through their centres), last-layer-lr, weight-average, ensemble,
    /// pretraining (V1 against V2) or no-selection (the last step).
    ///
    /// Each dataset has a plot; the legend below is for all. What a sweep has nothing of is named in the caption. --by splits its groups
    /// further, such as --by sweep.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kind", "methods"])]
    preset: Option<FigurePreset>,
    /// The axes of the figure, comma separated: any axis of a sweep's grid, seed and split, sweep and dataset, and settings such as
    /// backbone.
    ///
    /// rates: the one for x, then those whose settings have lines of their own; by default dropout or the first parameter of numbers that
    /// varies. curves: those whose settings have a line each; by default all parameters that vary if they make at most 8 settings, or else
    /// dropout. scatter: those whose settings are a group each; by default dropout, or the only parameter that varies. box: one, by default
    /// dropout or the first parameter that varies. grid: two, rows first, by default the two parameters with most values.
    #[arg(long, value_delimiter = ',', value_name = "AXES")]
    by: Vec<Axis>,
    /// The width on paper: single (8.25 cm, a column of ICML or CVPR), double (17.1 cm, both columns) or a number of centimetres from 6 to 40
    /// (13.97 for NeurIPS and ICLR).
    #[arg(long, value_name = "single|double|CM", default_value_t = FigureWidth::SINGLE)]
    width: FigureWidth,
    /// A title instead of the sweep's name.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Leave out the caption and the sweep's name.
    #[arg(long)]
    no_caption: bool,
    /// The file to write: SVG, PDF or PNG by its ending.
    #[arg(long, short, value_name = "FILE.svg|FILE.pdf|FILE.png")]
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
    let Arguments {
        sweeps,
        select,
        methods,
        ood_split,
        metric,
        kind,
        preset,
        by,
        width,
        title,
        no_caption,
        output: path,
        json,
    } = arguments;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !["svg", "pdf", "png"].contains(&ending) {
        bail!("--output {}: the file's ending must be .svg, .pdf or .png", path.display());
    }
    let mut client = Client::connect(connection).await?;
    let read = sweeps.read(&mut client).await?;
    read.require_trials_for(&[*select])?;
    let metrics = read.metrics(metric, *ood_split)?;
    let records = read.records(&mut client, sweeps, metrics.detail()).await?;
    let question = FigureQuestion {
        kind: kind.unwrap_or(FigureKind::Scatter),
        selection: *select,
        methods: methods.clone(),
        ood_split: *ood_split,
        metrics,
        by: by.clone(),
        preset: *preset,
        page: FigurePage { width: *width, title: title.clone(), caption: !no_caption },
    };
    let svg = sortie_analysis::figures(records, &question)?;
    output::picture(path, &svg)?;
    if *json {
        let mut said = serde_json::json!({ "kind": question.kind.as_str(), "output": path });
        sweeps.name_in(&mut said);
        if let Some(preset) = preset {
            said["preset"] = preset.as_str().into();
        }
        return output::json(&said);
    }
    output::text(&format!("wrote {}", path.display()))
}
