//! `sortie curves`: losses and metrics by step and by time.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use sortie_analysis::{
    CurveAxis, CurveCollector, CurveQuestion, CurveSplit, CurveValue, FigurePage, FigureWidth, QueryFormat,
    QueryValue, QueryWriter, TrialCurve,
};
use sortie_core::filter::Filter;
use sortie_core::metrics::{ACCURACY, Metric, is_metric_name};
use sortie_core::names::UnknownName;
use sortie_core::record::Detail;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, SpecHash};

use crate::conditions::TrialFilter;
use crate::connection::{Client, ClientError, Connection};
use crate::{output, rows};

/// The most trials that one query names.
const TRIALS_MAX: usize = 1_000;
/// The columns of the rows, in their order.
const COLUMNS: &str = "trial_id, held_out, seed, split_seed, parameters, state, method, step, domain, split, role, metric, value, seconds";

/// Show losses and metrics by step and by time, of one trial or of all trials of a sweep, whatever their state.
///
/// Rows: one for each number. split is in or out for evaluations of a domain, and batch for the training loss of the step's batch; role is
/// held-out for the domain that the trial holds out, else training; seconds is the time since training began, or since a command was started,
/// without the time between attempts and without work that was lost. The view v_curves has the same (docs/sql.md).
///
/// svg, pdf, png: one metric by step, or by time with --along time, with a line for each trial, domain and model. `sortie figure --kind curves` draws means over trials.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A sweep's name, or a trial: a unique prefix of its id, or SWEEP/PREFIX.
    #[arg(value_name = "TRIAL|SWEEP")]
    name: String,
    /// Only this metric: accuracy, loss, or one that the command reported. A figure shows accuracy by default.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Only numbers of these images: out, in or batch. A figure shows out by default, or else in, or else batch.
    #[arg(long)]
    split: Option<CurveSplit>,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and seed=0'; code=PREFIX means what they ran.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// The format: table, csv, json, markdown, svg, pdf or png. Figures need --output. By default that of --output's ending, or else table.
    #[arg(long)]
    format: Option<Layout>,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The horizontal axis of a figure: step or time.
    #[arg(long, default_value_t = CurveAxis::Step)]
    along: CurveAxis,
    /// The width of a figure on paper, as for `sortie figure`.
    #[arg(long, value_name = "single|double|CM", default_value_t = FigureWidth::SINGLE)]
    width: FigureWidth,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Rows or a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Rows(QueryFormat),
    Figure(&'static str),
}

/// The formats of figures.
const FIGURES: [&str; 3] = ["svg", "pdf", "png"];

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(figure) = FIGURES.into_iter().find(|figure| *figure == text) {
            return Ok(Self::Figure(figure));
        }
        let rows = text.parse().map(Self::Rows);
        rows.map_err(|error: UnknownName| format!("{error}, {}", FIGURES.join(", ")))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(format) => format.fmt(f),
            Self::Figure(ending) => f.write_str(ending),
        }
    }
}

/// Prints the rows, or draws the figure.
///
/// # Errors
/// One line: the name is unknown, nothing was measured, the coordinator refuses, or the file cannot be written.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let ending = arguments.output.as_deref().and_then(Path::extension).and_then(OsStr::to_str);
    let by_ending = ending.and_then(|ending| ending.parse().ok());
    let layout = match arguments.format.or(by_ending) {
        _ if arguments.json => Layout::Rows(QueryFormat::Json),
        Some(layout) => layout,
        None => Layout::Rows(QueryFormat::Table),
    };
    check(arguments, layout)?;
    let mut client = Client::connect(connection).await?;
    let (sweep, spec, trial) = client.sweep_or_trial(&arguments.name).await?;
    let trials = trials(arguments, &mut client, &sweep, trial).await?;
    match (layout, &arguments.output) {
        (Layout::Rows(format), None) => {
            write_rows(&mut client, &query(arguments, &sweep, trials.as_deref()), format, |text| {
                output::bytes(text.as_bytes())
            })
            .await
        }
        (Layout::Rows(format), Some(path)) => {
            let mut file = output::NewFile::create(path)?;
            let cannot = || format!("cannot write {}", path.display());
            write_rows(&mut client, &query(arguments, &sweep, trials.as_deref()), format, |text| {
                std::io::Write::write_all(&mut file, text.as_bytes()).with_context(cannot)
            })
            .await?;
            file.finish()
        }
        (Layout::Figure(_), Some(path)) => {
            let name = arguments.metric.as_deref().unwrap_or(ACCURACY);
            let query = query_of(&sweep, trials.as_deref(), Some(name), arguments.split);
            let svg = figure(arguments, &mut client, &spec, &query, name).await?;
            output::picture(path, &svg)?;
            output::text(&format!("wrote {}", path.display()))
        }
        (Layout::Figure(ending), None) => bail!("--format {ending} needs --output FILE.{ending}"),
    }
}

/// Checks the options before the coordinator is asked.
fn check(arguments: &Arguments, layout: Layout) -> Result<()> {
    if let Some(name) = &arguments.metric {
        ensure!(
            is_metric_name(name) || Metric::ACCURACY.name() == name || Metric::LOSS.name() == name,
            "--metric {name:?} is no name of a metric"
        );
    }
    let Layout::Figure(ending) = layout else { return Ok(()) };
    let Some(path) = &arguments.output else { bail!("--format {ending} needs --output FILE.{ending}") };
    ensure!(
        path.extension().is_some_and(|own| own == ending),
        "--output {}: the file's ending must be .{ending}",
        path.display()
    );
    Ok(())
}

/// The trials that are meant; none for all of the sweep.
async fn trials(
    arguments: &Arguments,
    client: &mut Client,
    sweep: &str,
    trial: Option<SpecHash>,
) -> Result<Option<Vec<SpecHash>>> {
    let Some(conditions) = &arguments.filter else { return Ok(trial.map(|trial| vec![trial])) };
    let filter = TrialFilter::read(client, sweep, Some(conditions)).await?;
    let (mut found, mut example) = (Vec::new(), None);
    let (_, mut records) = client.stream_records(sweep, Detail::Points).await?;
    while let Some(record) = records.next().await? {
        let example: &mut Point = example.get_or_insert_with(|| record.point.clone());
        example.parameters.extend(record.point.parameters.clone());
        if filter.matches(record.id, &record.point) && trial.is_none_or(|trial| trial == record.id) {
            found.push(record.id);
        }
    }
    if let Some(example) = &example {
        filter.check(example)?;
    }
    ensure!(!found.is_empty(), "no trial of {} meets {:?}", arguments.name, conditions.to_string());
    ensure!(
        found.len() <= TRIALS_MAX,
        "{} trials of {} meet {:?}; at most {TRIALS_MAX} are shown at a time",
        found.len(),
        arguments.name,
        conditions.to_string()
    );
    Ok(Some(found))
}

fn query(arguments: &Arguments, sweep: &str, trials: Option<&[SpecHash]>) -> String {
    query_of(sweep, trials, arguments.metric.as_deref(), arguments.split)
}

/// The query for the numbers. Names of sweeps and metrics have no quotes.
fn query_of(
    sweep: &str,
    trials: Option<&[SpecHash]>,
    metric: Option<&str>,
    split: Option<CurveSplit>,
) -> String {
    let mut conditions = vec![format!("sweep = '{sweep}'")];
    conditions.extend(trials.map(|trials| {
        let ids: Vec<String> = trials.iter().map(|id| format!("'{id}'")).collect();
        format!("trial_id in ({})", ids.join(","))
    }));
    conditions.extend(metric.map(|metric| format!("metric = '{metric}'")));
    conditions.extend(split.map(|split| format!("split = '{split}'")));
    format!(
        "select {COLUMNS} from v_curves where {} order by parameters, held_out, seed, split_seed, trial_id, metric, split, role, domain, method, step",
        conditions.join(" and ")
    )
}

async fn write_rows(
    client: &mut Client,
    query: &str,
    format: QueryFormat,
    mut write: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut stream = client.query(query).await?;
    let columns = stream.message().await.map_err(ClientError::from)?.unwrap_or_default().columns;
    let mut writer = QueryWriter::new(format, columns);
    let mut is_empty = true;
    while let Some(chunk) = stream.message().await.map_err(ClientError::from)? {
        is_empty &= chunk.rows.is_empty();
        let rows = chunk.rows.into_iter().map(rows::query_row).collect();
        write(&writer.rows(rows))?;
    }
    if is_empty {
        output::note(
            "note: no such number was reported; without --metric and --split, all that were are shown",
        );
    }
    write(&writer.end())
}

/// The figure of one metric as SVG.
async fn figure(
    arguments: &Arguments,
    client: &mut Client,
    spec: &SweepSpec,
    query: &str,
    name: &str,
) -> Result<String> {
    let mut stream = client.query(query).await?;
    let mut collector = CurveCollector::default();
    while let Some(chunk) = stream.message().await.map_err(ClientError::from)? {
        for row in chunk.rows {
            collector
                .add(curve(rows::query_row(row)).context("the coordinator's answer is no row of v_curves")?);
        }
    }
    // A metric of which the file says nothing is drawn as it is.
    let metric = spec.metric(name).unwrap_or_else(|_| Metric::undescribed(name));
    let page = FigurePage { width: arguments.width, ..FigurePage::default() };
    let asked = CurveQuestion { split: arguments.split, along: arguments.along, page };
    Ok(sortie_analysis::trial_curves(&arguments.name, &collector.curves(), &metric, &asked)?)
}

/// A row of [`COLUMNS`] as a curve of one number.
fn curve(row: Vec<Option<QueryValue>>) -> Option<TrialCurve> {
    let text = |index: usize| match row.get(index)?.as_ref()? {
        QueryValue::Text(text) => Some(text.clone()),
        _ => None,
    };
    let whole = |index: usize| match row.get(index)?.as_ref()? {
        QueryValue::Integer(value) => u64::try_from(*value).ok(),
        _ => None,
    };
    let held_out = text(1)?;
    let point = Point {
        held_out: held_out.split('+').filter(|domain| !domain.is_empty()).map(str::to_owned).collect(),
        parameters: serde_json::from_str(&text(4)?).ok()?,
        seed: whole(2)?,
        split_seed: whole(3)?,
    };
    let value = CurveValue {
        step: whole(7)?,
        seconds: row.get(13)?.as_ref().and_then(rows::real),
        value: rows::real(row.get(12)?.as_ref()?)?,
    };
    Some(TrialCurve {
        trial: text(0)?,
        point,
        method: text(6)?,
        domain: text(8),
        split: text(9)?.parse().ok()?,
        is_held_out: text(10)? == "held-out",
        values: vec![value],
    })
}
