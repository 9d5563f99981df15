//! Reads training losses, which the records of trials do not have.

use std::collections::HashMap;

use anyhow::{Context, Result};
use sortie_analysis::QueryValue;
use sortie_core::metrics::TrainingLoss;
use sortie_core::trial::{SpecHash, Work};

use crate::connection::{Client, ClientError};
use crate::rows;

/// About so many losses one query reads.
const LOSSES_MAX: u64 = 500_000;
/// The most trials that one query names.
const TRIALS_MAX: u64 = 200;

/// How many trials of this work are asked for at a time. What a command prints is not known before.
pub fn trials_at_a_time(work: &Work) -> usize {
    let steps = work.steps().unwrap_or(LOSSES_MAX / 10);
    (LOSSES_MAX / steps.max(1)).clamp(1, TRIALS_MAX) as usize
}

/// The training losses of succeeded trials of a sweep, ascending: all, or some `most` of each, evenly among those that it has.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn read(
    client: &mut Client,
    sweep: &str,
    trials: &[SpecHash],
    most: Option<u64>,
) -> Result<HashMap<SpecHash, Vec<TrainingLoss>>> {
    let mut losses: HashMap<SpecHash, Vec<TrainingLoss>> = HashMap::new();
    if trials.is_empty() {
        return Ok(losses);
    }
    let ids: Vec<String> = trials.iter().map(|id| format!("'{id}'")).collect();
    let rows = format!(
        "from v_curves where sweep = '{sweep}' and split = 'batch' and state = 'succeeded' and trial_id in ({})",
        ids.join(",")
    );
    let query = match most {
        None => format!("select trial_id, step, value, seconds {rows} order by trial_id, step"),
        Some(most) => format!(
            "select trial_id, step, value, seconds from (select trial_id, step, value, seconds, \
             row_number() over (partition by trial_id order by step) as place, count(*) over (partition by trial_id) as losses {rows}) as numbered \
             where (place - 1) % (case when losses > {most} then losses / {most} else 1 end) = 0 order by trial_id, step"
        ),
    };
    let mut stream = client.query(&query).await?;
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
