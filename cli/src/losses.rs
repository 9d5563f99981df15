//! Reads training losses, which the records of trials do not have.

use std::collections::HashMap;

use anyhow::{Context, Result};
use sortie_analysis::QueryValue;
use sortie_core::metrics::TrainingLoss;
use sortie_core::trial::SpecHash;

use crate::connection::{Client, ClientError};
use crate::rows;

/// The most trials whose losses are asked for at a time.
pub const TRIALS_MAX: usize = 200;

/// The training losses of at most [`TRIALS_MAX`] succeeded trials of a sweep: those of every `every`-th step, ascending.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn read(
    client: &mut Client,
    sweep: &str,
    trials: &[SpecHash],
    every: u64,
) -> Result<HashMap<SpecHash, Vec<TrainingLoss>>> {
    let mut losses: HashMap<SpecHash, Vec<TrainingLoss>> = HashMap::new();
    if trials.is_empty() {
        return Ok(losses);
    }
    let ids: Vec<String> = trials.iter().map(|id| format!("'{id}'")).collect();
    let mut stream = client
        .query(&format!(
            "select trial_id, step, value, seconds from v_curves where sweep = '{sweep}' and split = 'batch' and state = 'succeeded' and step % {every} = 0 and trial_id in ({}) order by trial_id, step",
            ids.join(",")
        ))
        .await?;
    while let Some(chunk) = stream.message().await.map_err(ClientError::from)? {
        for row in chunk.rows {
            let (trial, loss) =
                loss(&rows::query_row(row)).context("the coordinator's answer is no row of v_curves")?;
            losses.entry(trial).or_default().push(loss);
        }
    }
    Ok(losses)
}

fn loss(row: &[Option<QueryValue>]) -> Option<(SpecHash, TrainingLoss)> {
    let [Some(QueryValue::Text(trial)), Some(QueryValue::Integer(step)), Some(loss), seconds] = row else {
        return None;
    };
    let seconds = seconds.as_ref().and_then(rows::real);
    let loss = TrainingLoss { step: u64::try_from(*step).ok()?, loss: rows::real(loss)?, seconds };
    Some((trial.parse().ok()?, loss))
}
