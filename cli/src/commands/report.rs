//! `sortie report`: a sweep as one page, or several together.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sortie_analysis::{Axis, OodSplit, ReportQuestion, ReportSubject, SweepRecords};
use sortie_core::metrics::{Method, TrainingLoss};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::SpecHash;

use crate::connection::{Client, Connection};
use crate::measured::MetricArguments;
use crate::sweeps::SweepArguments;
use crate::{losses, output};

/// About so many training losses of a trial are read.
const LOSSES_MAX: u64 = 50;

/// Write a sweep as one HTML page: what was run, what is missing, tables, figures, noise, environment. Of several sweeps the page has their
/// tables and figures together, and how complete each is.
///
/// The page is one file without scripts that loads nothing, so it can be sent, printed and attached to a paper. By default it shows all
/// weights that were evaluated, and the selection methods iid, those of the sweep file's `select`, and last.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweeps: SweepArguments,
    /// The axes that make the rows of several sweeps' tables and the groups of their figure, as for `sortie results`; by default dropout, or
    /// the only axis that varies.
    #[arg(long, value_delimiter = ',', value_name = "AXES")]
    by: Vec<Axis>,
    /// Only these selection methods, comma separated: iid, loo, oracle or last, as for `sortie results`. Figures use the first.
    #[arg(long, value_delimiter = ',', value_name = "METHODS")]
    select: Vec<Selection>,
    /// Only these weights, comma separated: plain, average (of the weights over steps), ensemble (of the logits over steps). Curves, box plots
    /// and grids show the first.
    #[arg(long = "method", value_delimiter = ',', value_name = "METHODS")]
    methods: Vec<Method>,
    /// The part of the held-out domain on which o.o.d. accuracy is measured: in, out or all, as for `sortie results`.
    #[arg(long, value_name = "SPLIT")]
    ood_split: Option<OodSplit>,
    #[command(flatten)]
    metric: MetricArguments,
    /// A date to print on the page. There is none by default, so that equal results give equal pages.
    #[arg(long, value_name = "TEXT")]
    date: Option<String>,
    /// The file to write.
    #[arg(long, short, value_name = "FILE.html")]
    output: PathBuf,
    /// Print one JSON object with the name of the file.
    #[arg(long)]
    json: bool,
}

/// Writes the page.
///
/// # Errors
/// One line: the coordinator refuses, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { sweeps, by, select, methods, ood_split, metric, date, output: path, json } = arguments;
    if path.extension().and_then(|ending| ending.to_str()) != Some("html") {
        bail!("--output {}: the file's ending must be .html", path.display());
    }
    if sweeps.sweeps.len() == 1 && !by.is_empty() {
        bail!("--by tells several sweeps apart; the page of one has tables by all its axes");
    }
    let mut client = Client::connect(connection).await?;
    let read = sweeps.read(&mut client).await?;
    read.require_trials_for(select)?;
    let metrics = read.metrics(metric, *ood_split)?;
    let question = ReportQuestion {
        selections: select.clone(),
        methods: methods.clone(),
        ood_split: *ood_split,
        metrics,
        conditions: sweeps.filter.as_ref().map(ToString::to_string),
        command: arguments.command(),
        software: format!("Sortie {}", env!("CARGO_PKG_VERSION")),
        date: date.clone(),
    };
    let mut records = read.records(&mut client, sweeps, question.metrics.detail()).await?;
    let trials: usize = records.iter().map(|sweep| sweep.records.len()).sum();
    let page = match (records.pop(), records.is_empty()) {
        (Some(SweepRecords { name, spec, records }), true) => {
            let runs = client.runs(&name).await?;
            let losses = losses(&mut client, &name, &spec, &records).await;
            sortie_analysis::report(ReportSubject { name, spec, records, runs, losses }, &question)
        }
        (last, _) => {
            records.extend(last);
            sortie_analysis::joint_report(&records, by, &question)?
        }
    };
    output::file(path, page.as_bytes())?;
    if *json {
        let mut said = serde_json::json!({ "output": path, "trials": trials });
        sweeps.name_in(&mut said);
        return output::json(&said);
    }
    output::text(&format!("wrote {}", path.display()))
}

/// Some training losses of each trial, for a figure of their means; none, and a note, if the coordinator cannot answer queries.
async fn losses(
    client: &mut Client,
    sweep: &str,
    spec: &SweepSpec,
    records: &[TrialRecord],
) -> Vec<(SpecHash, Vec<TrainingLoss>)> {
    let mut all = Vec::new();
    for trials in records.chunks(losses::trials_at_a_time(&spec.work)) {
        let ids: Vec<SpecHash> = trials.iter().map(|record| record.id).collect();
        match losses::read(client, sweep, &ids, Some(LOSSES_MAX)).await {
            Ok(losses) => all.extend(losses),
            Err(error) => {
                output::note(&format!("note: the figure of training losses is left out: {error:#}"));
                return Vec::new();
            }
        }
    }
    all
}

impl Arguments {
    /// The command that makes the same page from the same results; without --output.
    fn command(&self) -> String {
        let mut words = vec!["sortie".to_owned(), "report".to_owned()];
        words.extend(self.sweeps.sweeps.iter().cloned());
        if let Some(filter) = &self.sweeps.filter {
            words.extend(["--where".to_owned(), format!("'{filter}'")]);
        }
        let mut list = |option: &str, values: Vec<&str>| {
            if !values.is_empty() {
                words.extend([option.to_owned(), values.join(",")]);
            }
        };
        list("--by", self.by.iter().map(Axis::as_str).collect());
        list("--select", self.select.iter().map(|selection| selection.as_str()).collect());
        list("--method", self.methods.iter().map(|method| method.as_str()).collect());
        list("--ood-split", self.ood_split.iter().map(|split| split.as_str()).collect());
        for (flag, name) in self.metric.given() {
            words.extend([flag.to_owned(), name.to_owned()]);
        }
        words.extend(["-o", "report.html"].map(str::to_owned));
        words.join(" ")
    }
}
