//! What the accepted attempts of a sweep ran on.

use anyhow::{Context, Result};
use sortie_analysis::RunFacts;
use sortie_core::trial::SpecHash;
use sortie_proto::v1;
use sortie_proto::v1::query_value::Value;

use super::{Client, ClientError};
use crate::output;

impl Client {
    /// The environments of the accepted attempts of a sweep; none, and a note, if the coordinator cannot answer queries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&mut self, sweep: &str) -> Result<Vec<(SpecHash, RunFacts)>> {
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
                let id: SpecHash = values.next().flatten().context("a trial without an id")?.parse()?;
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
