//! `sortie results`: tables of accuracies, of one sweep or of several.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use sortie_analysis::domainbed::{self, SelectionMethod};
use sortie_analysis::{Axis, Format, MetricChoice, Question, RowFormat, SweepRecords};
use sortie_core::code;
use sortie_core::filter::Filter;
use sortie_core::metrics::Method;
use sortie_core::names::UnknownName;
use sortie_core::record::Detail;
use sortie_core::selection::Selection;

use crate::connection::{Client, Connection};
use crate::measured::MeasuredArguments;
use crate::output;
use crate::sweeps::{SweepArguments, Sweeps};

/// Print the results table of one or several sweeps.
///
/// Rows are settings, columns are held-out domains. A sweep that holds out nothing has one column, the mean over its domains. Seeds are replicates: cells are means over trials, with their standard error.
/// An incomplete cell shows how many of its trials are done.
///
/// Sweeps on several datasets have a column for each dataset, the mean over its held-out domains, and the mean of all: `sortie results vlcs
/// pacs office_home terra --by dropout`. --format csv and json have the cells by held-out domain too.
///
/// The in and out splits of a domain are its train/validation split, 80/20.
///
/// --format domainbed prints the tables of DomainBed's collector instead, averages over datasets included, to the character, and
/// domainbed-latex what it prints with --latex: there the best setting is taken, not the mean
/// over settings, the dropout rate and the weights used are part of the algorithm's name, and incomplete trials count with the steps
/// that they have.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweeps: SweepArguments,
    /// How the step of a run is selected: iid (best mean accuracy on the validation splits of the training domains), loo (leave one domain
    /// out; the sweep file must `select` it), oracle (the last step; settings are compared by the held-out domain itself) or last (the last
    /// step). Several, comma separated, make a table each.
    #[arg(long, value_delimiter = ',', value_name = "METHODS", default_value = "iid")]
    select: Vec<Selection>,
    #[command(flatten)]
    measured: MeasuredArguments,
    /// The axes that make rows, comma separated: any axis of a sweep's grid, such as dropout or lr, seed and split, sweep and dataset, and
    /// any setting of the sweeps, such as backbone or batch_per_domain. Other axes are averaged. By default every axis of a grid with more
    /// than one value except the seeds.
    #[arg(long, value_delimiter = ',', value_name = "AXES")]
    by: Vec<Axis>,
    /// Take the best setting of a row for each held-out domain and pair of seeds, as DomainBed does, by what the selection method reads.
    /// Without this option, a row is the mean over its settings, as in the paper. Cells then count pairs of seeds. A table names the
    /// settings that were taken, and for how many pairs of seeds each.
    #[arg(long)]
    best: bool,
    /// Compare two settings instead, given by conditions as for `sortie trials --where`, such as --paired dropout=0 dropout=0.9. The trials
    /// of a pair agree in all axes that neither condition names. A positive difference means that the second setting has higher values. With
    /// --best, each side takes its best setting instead.
    ///
    /// The interval by domain says whether the difference is more than noise between seeds on these held-out domains. The interval over
    /// pairs takes all pairs alike.
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_parser = Filter::parse, conflicts_with = "by")]
    paired: Vec<Filter>,
    /// The format: table, csv, json, markdown, latex (for booktabs), parquet (the same cells as csv, needs --output), domainbed or
    /// domainbed-latex.
    #[arg(long, default_value_t = Layout::Sortie(Format::Table))]
    format: Layout,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Sortie's tables or DomainBed's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Sortie(Format),
    /// The same cells as CSV.
    Parquet,
    DomainBed,
    /// As its collector prints with --latex.
    DomainBedLatex,
}

const PARQUET: &str = "parquet";
const DOMAINBED: &str = "domainbed";
const DOMAINBED_LATEX: &str = "domainbed-latex";

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            PARQUET => Ok(Self::Parquet),
            DOMAINBED => Ok(Self::DomainBed),
            DOMAINBED_LATEX => Ok(Self::DomainBedLatex),
            _ => text
                .parse()
                .map(Self::Sortie)
                .map_err(|error: UnknownName| format!("{error}, {PARQUET}, {DOMAINBED}, {DOMAINBED_LATEX}")),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sortie(format) => format.fmt(f),
            Self::Parquet => f.write_str(PARQUET),
            Self::DomainBed => f.write_str(DOMAINBED),
            Self::DomainBedLatex => f.write_str(DOMAINBED_LATEX),
        }
    }
}

/// Prints the tables.
///
/// # Errors
/// One line: the coordinator refuses, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let layout = if arguments.json { Layout::Sortie(Format::Json) } else { arguments.format };
    check(arguments, layout)?;
    let mut client = Client::connect(connection).await?;
    let sweeps = arguments.sweeps.read(&mut client).await?;
    let bytes = match layout {
        Layout::DomainBed | Layout::DomainBedLatex => {
            let methods = domainbed_methods(arguments, layout)?;
            let sweeps = sweeps.records(&mut client, &arguments.sweeps, Detail::Scores).await?;
            let is_all = arguments.sweeps.filter.is_none();
            domainbeds(&sweeps, is_all, &methods, layout == Layout::DomainBedLatex)?.into_bytes()
        }
        Layout::Sortie(_) | Layout::Parquet => sortie_tables(arguments, layout, &sweeps, &mut client).await?,
    };
    match &arguments.output {
        None => output::bytes(&bytes),
        Some(path) => output::file(path, &bytes),
    }
}

/// Checks the options before the coordinator is asked.
fn check(arguments: &Arguments, layout: Layout) -> Result<()> {
    let several = arguments.select.len() > 1;
    match layout {
        Layout::Sortie(Format::Csv | Format::Json) | Layout::Parquet if several => {
            bail!("--select names {} methods, but --format {layout} shows only one", arguments.select.len())
        }
        Layout::Sortie(Format::Csv | Format::Markdown | Format::Latex) | Layout::Parquet
            if !arguments.paired.is_empty() =>
        {
            bail!("--paired is printed as table or json, not as {layout}")
        }
        Layout::Parquet if arguments.output.is_none() => {
            bail!("{layout} is binary: pass --output FILE")
        }
        _ => Ok(()),
    }
}

/// A table for each selection method.
async fn sortie_tables(
    arguments: &Arguments,
    layout: Layout,
    sweeps: &Sweeps,
    client: &mut Client,
) -> Result<Vec<u8>> {
    let MeasuredArguments { method, ood_split, ref metric } = arguments.measured;
    let metrics = sweeps.metrics(metric, ood_split)?;
    let question = |&selection| Question {
        selection,
        method,
        by: arguments.by.clone(),
        best: arguments.best,
        ood_split,
        metrics: metrics.clone(),
    };
    let questions: Vec<Question> = arguments.select.iter().map(question).collect();
    sweeps.require_trials_for(&arguments.select)?;
    let collectors = sweeps.collect(client, &arguments.sweeps, &questions, &arguments.paired).await?;
    let (mut answers, mut unmeasured) = (Vec::new(), false);
    for collector in collectors {
        answers.push(match (arguments.paired.as_slice(), layout) {
            ([a, b], Layout::Sortie(Format::Json)) => collector.paired([a, b])?.json().into_bytes(),
            ([a, b], _) => collector.paired([a, b])?.text().into_bytes(),
            (_, Layout::Sortie(format)) => {
                let results = collector.results()?;
                unmeasured |= results.is_unmeasured();
                results.render(format).into_bytes()
            }
            (_, Layout::Parquet | Layout::DomainBed | Layout::DomainBedLatex) => {
                collector.results()?.write_cells(RowFormat::Parquet, Vec::new())?
            }
        });
    }
    if unmeasured {
        suggest_metrics(sweeps, &metrics);
    }
    for sweep in sweeps.all() {
        note_mixture(client, &sweep.name, sweeps.all().len() > 1).await?;
    }
    Ok(answers.join(&b'\n'))
}

/// Names the metrics of the sweep file, for a table that has no number.
fn suggest_metrics(sweeps: &Sweeps, asked: &MetricChoice) {
    let all = sweeps.all().iter().flat_map(|sweep| sweep.spec.metrics.keys());
    let others: BTreeSet<&String> = all.filter(|name| *name != asked.shown.name()).collect();
    let others: Vec<String> = others.into_iter().map(|name| format!("--metric {name}")).collect();
    if asked.shown != asked.selected_by {
        let (name, by) = (asked.shown.name(), asked.selected_by.name());
        output::note(&format!("note: no trial has both the {name} and the {by} that this table needs"));
    } else if !others.is_empty() {
        let name = asked.shown.name();
        output::note(&format!(
            "note: no trial has the {name} that this table needs; try {}",
            others.join(" or ")
        ));
    }
}

/// Notes in one line that the trials with a result did not all run the same.
async fn note_mixture(client: &mut Client, sweep: &str, is_one_of_several: bool) -> Result<()> {
    // Where the coordinator cannot answer queries, nothing is said: the results are the same.
    let counts = client.code_counts(sweep).await?;
    if let Some(line) = code::mixture(&counts) {
        let of = if is_one_of_several { format!("sweep {sweep}: ") } else { String::new() };
        output::note(&format!("note: {of}{line}"));
    }
    Ok(())
}

/// The methods of DomainBed's tables. Refuses options that mean nothing there.
fn domainbed_methods(arguments: &Arguments, layout: Layout) -> Result<Vec<SelectionMethod>> {
    let methods = arguments.select.iter().map(|selection| match selection {
        Selection::Iid => Ok(SelectionMethod::Iid),
        Selection::Loo => Ok(SelectionMethod::LeaveOneOut),
        Selection::Oracle => Ok(SelectionMethod::Oracle),
        Selection::Last => bail!(
            "DomainBed has no selection method \"last\"; allowed with --format {layout}: iid, loo, oracle"
        ),
    });
    let methods = methods.collect::<Result<Vec<_>>>()?;
    for (given, option) in [
        (!arguments.by.is_empty(), "--by"),
        (!arguments.paired.is_empty(), "--paired"),
        (arguments.best, "--best"),
        (arguments.measured.ood_split.is_some(), "--ood-split"),
        (arguments.measured.method != Method::Plain, "--method"),
        (arguments.measured.metric.given().next().is_some(), "--metric"),
    ] {
        if given {
            bail!("{option} has no effect on DomainBed's tables: omit it with --format {layout}");
        }
    }
    Ok(methods)
}

/// DomainBed's tables of the runs of all sweeps; `is_all` says whether all their trials are meant.
fn domainbeds(
    sweeps: &[SweepRecords],
    is_all: bool,
    methods: &[SelectionMethod],
    latex: bool,
) -> Result<String> {
    let (mut all, mut skipped) = (Vec::new(), Vec::new());
    for SweepRecords { name, spec, records } in sweeps {
        if let Some(why) = domainbed::unshown(&spec.work) {
            bail!("{why}");
        }
        if let Some(why) = domainbed::left_out(records) {
            output::note(&format!("note: {why}"));
        }
        all.push((name.clone(), domainbed::runs(&spec.work, records, &spec.imported)));
        if is_all {
            skipped.extend(domainbed::skipped(&spec.work, &spec.imported));
        }
    }
    let mut runs = domainbed::together(all)?;
    runs.extend(skipped);
    Ok(if latex { domainbed::latex(&runs, methods) } else { domainbed::tables(&runs, methods) })
}
