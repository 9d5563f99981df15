//! `sortie diff`: the differences between two sweeps or two trials.

use anyhow::{Context, Result, ensure};
use sortie_analysis::{DiffSide, Question, RunFacts};
use sortie_core::record::Detail;
use sortie_core::selection::Selection;
use sortie_core::trial::TrialId;
use sortie_proto::v1;
use sortie_proto::v1::query_value::Value;

use super::results::MeasuredArguments;
use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::output;

/// Show the differences between two sweeps or two trials: settings, environment of the attempts, data, weights, results.
///
/// Trials with the same id on both sides are compared to the last bit. Different trials with the same held-out domains, seeds and shared
/// axes are compared by their accuracies.
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
    let MeasuredArguments { method, ood_split } = arguments.measured;
    let question = Question { selection: arguments.select, method, ood_split, ..Question::default() };
    let found = sortie_analysis::diff(&a, &b, &question);
    output::text(&if arguments.json { found.json() } else { found.text() })
}

async fn side(client: &mut Client, name: &str) -> Result<DiffSide> {
    let described = if name.contains('/') { None } else { Some(client.describe(name).await) };
    let (sweep, spec, trial) = match described {
        Some(Ok(spec)) => (name.to_owned(), spec, None),
        Some(Err(error)) if !matches!(error, ClientError::Refused(_)) => return Err(error.into()),
        refused => {
            let history = match client.explain(name).await {
                Ok(history) => history,
                // An unknown name is reported as that of a sweep.
                Err(error) => return Err(refused.and_then(Result::err).unwrap_or(error).into()),
            };
            let id: TrialId =
                history.trial.context("the coordinator does not say which trial it is")?.trial_id.parse()?;
            let spec = client.describe(&history.sweep).await?;
            (history.sweep, spec, Some(id))
        }
    };
    let (_, records) = client.records(&sweep, Detail::All).await?;
    let runs = client.runs(&sweep).await?;
    Ok(DiffSide { name: name.to_owned(), spec, records, runs, trial })
}

impl Client {
    /// The environments of the accepted attempts of a sweep; none, and a note, if the coordinator cannot answer queries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&mut self, sweep: &str) -> Result<Vec<(TrialId, RunFacts)>> {
        // Names of sweeps have no quotes: `core::spec` refuses them.
        let query = format!(
            "select trial_id, software, libtorch, device, threads, exact, dataset_digest, weights_digest from v_trials \
             where sweep = '{sweep}' and state = 'succeeded' and device is not null order by trial_id"
        );
        let mut chunks = match self.query(&query).await {
            Ok(chunks) => chunks,
            Err(ClientError::Refused(reason)) => {
                output::note(&format!("note: the environment of attempts is left out: {reason}"));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let (mut columns, mut runs) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
            if !chunk.columns.is_empty() {
                columns = chunk.columns;
            }
            for row in chunk.rows {
                let mut values = row.values.iter().map(shown);
                let id: TrialId = values.next().flatten().context("a trial without an id")?.parse()?;
                let facts = columns
                    .iter()
                    .skip(1)
                    .cloned()
                    .zip(values)
                    .filter_map(|(what, value)| Some((what, value?)));
                runs.push((id, facts.collect()));
            }
        }
        Ok(runs)
    }
}

fn shown(value: &v1::QueryValue) -> Option<String> {
    Some(match value.value.as_ref()? {
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Flag(value) => value.to_string(),
        Value::Decimal(text) | Value::Text(text) => text.clone(),
    })
}
