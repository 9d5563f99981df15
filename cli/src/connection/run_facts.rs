//! What the accepted attempts of a sweep ran on.

use std::collections::BTreeMap;

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
            "select trial_id, software, libtorch, device, threads, exact, dataset_digest, weights_digest, code_name as code from v_trials \
             where sweep = '{sweep}' and state = 'succeeded' and device is not null order by trial_id"
        );
        match self.facts(&query).await? {
            Ok(runs) => Ok(runs),
            Err(reason) => {
                output::note(&format!("note: the environment of attempts is left out: {reason}"));
                Ok(Vec::new())
            }
        }
    }

    /// The names of what the trials of a sweep ran (`sortie_core::code`), where that is known, and whether they succeeded.
    ///
    /// # Errors
    /// [`ClientError`]; within, why the coordinator cannot answer queries.
    pub async fn code_names(
        &mut self,
        sweep: &str,
    ) -> Result<Result<BTreeMap<SpecHash, (String, bool)>, String>> {
        let query = format!(
            "select trial_id, code_name, state from v_trials where sweep = '{sweep}' and code_name is not null"
        );
        Ok(self.facts(&query).await?.map(|runs| {
            let named = runs.into_iter().filter_map(|(id, mut facts)| {
                let has_result = facts.get("state").is_some_and(|state| state == "succeeded");
                Some((id, (facts.remove("code_name")?, has_result)))
            });
            named.collect()
        }))
    }

    /// The answer to a query whose first column is a trial's id; within, why the coordinator cannot answer it.
    async fn facts(&mut self, query: &str) -> Result<Result<Vec<(SpecHash, RunFacts)>, String>> {
        let mut chunks = match self.query(query).await {
            Ok(chunks) => chunks,
            Err(ClientError::Refused(reason)) => return Ok(Err(reason)),
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
        Ok(Ok(runs))
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
