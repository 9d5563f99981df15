//! `sortie diff`: the differences between two sweeps or two trials.

use anyhow::{Result, ensure};
use sortie_analysis::{DiffSide, Question};
use sortie_core::record::Detail;
use sortie_core::selection::Selection;

use crate::connection::{Client, Connection};
use crate::measured::MeasuredArguments;
use crate::output;

/// Show the differences between two sweeps or two trials: settings, environment of the attempts, data, weights, results.
///
/// Trials with the same id on both sides are compared to the last bit. Different trials with the same held-out domains, seeds and shared
/// axes are compared by their accuracies. A difference is one of two: `sortie results A B C --by sweep` has more sweeps beside each other.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A sweep's name, or a trial: a unique prefix of its id, or SWEEP/PREFIX.
    a: String,
    /// The other sweep or trial.
    b: String,
    /// How the step of a run is selected: iid, loo, oracle or last, as for `sortie results`.
    #[arg(long, default_value_t = Selection::Iid)]
    select: Selection,
    #[command(flatten)]
    measured: MeasuredArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the differences.
///
/// # Errors
/// One line: a name is unknown, one names a sweep and the other a trial, or the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let mut client = Client::connect(connection).await?;
    let a = side(&mut client, &arguments.a).await?;
    let b = side(&mut client, &arguments.b).await?;
    let kind = |side: &DiffSide| if side.trial.is_some() { "a trial" } else { "a sweep" };
    ensure!(
        kind(&a) == kind(&b),
        "{} is {}, but {} is {}: name two sweeps or two trials",
        a.name,
        kind(&a),
        b.name,
        kind(&b)
    );
    let MeasuredArguments { method, ood_split, ref metric } = arguments.measured;
    let metrics = metric.choice(&mut client, a.spec.name.as_str(), ood_split).await?;
    let question =
        Question { selection: arguments.select, method, ood_split, metrics, ..Question::default() };
    let found = sortie_analysis::diff(&a, &b, &question);
    output::text(&if arguments.json { found.json() } else { found.text() })
}

async fn side(client: &mut Client, name: &str) -> Result<DiffSide> {
    let (sweep, spec, trial) = client.sweep_or_trial(name).await?;
    let (_, records) = client.records(&sweep, Detail::All).await?;
    let runs = client.runs(&sweep).await?;
    Ok(DiffSide { name: name.to_owned(), spec, records, runs, trial })
}
