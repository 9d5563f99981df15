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
            "select trial_id, software, libtorch, device, threads, exact, dataset_digest, weights_digest, code_name as code, micro_batch from v_trials \
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

    /// The names of what the trials of a sweep ran (`sortie_core::code`), where that is known.
    ///
    /// # Errors
    /// [`ClientError`]; within, why the coordinator cannot answer queries.
    pub async fn code_names(&mut self, sweep: &str) -> Result<Result<BTreeMap<SpecHash, String>, String>> {
        let query = format!(
            "select trial_id, code_name from v_trials where sweep = '{sweep}' and code_name is not null"
        );
        Ok(self.facts(&query).await?.map(|runs| {
            runs.into_iter().filter_map(|(id, mut facts)| Some((id, facts.remove("code_name")?))).collect()
        }))
    }

    /// How many trials with a result ran which code, by its name; none if the coordinator cannot answer queries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn code_counts(&mut self, sweep: &str) -> Result<BTreeMap<String, u64>> {
        let query = format!(
            "select code_name, count(*) from v_trials where sweep = '{sweep}' and state = 'succeeded' and code_name is not null group by code_name"
        );
        let Ok((_, rows)) = self.answer(&query).await? else { return Ok(BTreeMap::new()) };
        let counted = rows.into_iter().filter_map(|row| match row.as_slice() {
            [Some(name), Some(count)] => Some((name.clone(), count.parse().ok()?)),
            _ => None,
        });
        Ok(counted.collect())
    }

    /// The answer to a query whose first column is a trial's id; within, why the coordinator cannot answer it.
    async fn facts(&mut self, query: &str) -> Result<Result<Vec<(SpecHash, RunFacts)>, String>> {
        let (columns, rows) = match self.answer(query).await? {
            Ok(answer) => answer,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut runs = Vec::new();
        for row in rows {
            let mut values = row.into_iter();
            let id: SpecHash = values.next().flatten().context("a trial without an id")?.parse()?;
            let facts = columns.iter().skip(1).cloned().zip(values);
            runs.push((id, facts.filter_map(|(what, value)| Some((what, value?))).collect()));
        }
        Ok(Ok(runs))
    }

    /// The columns and rows of the answer to a query, as texts; within, why the coordinator cannot answer it.
    async fn answer(&mut self, query: &str) -> Result<Result<TextRows, String>> {
        let mut chunks = match self.query(query).await {
            Ok(chunks) => chunks,
            Err(ClientError::Refused(reason)) => return Ok(Err(reason)),
            Err(error) => return Err(error.into()),
        };
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
            if !chunk.columns.is_empty() {
                columns = chunk.columns;
            }
            rows.extend(chunk.rows.into_iter().map(|row| row.values.iter().map(shown).collect()));
        }
        Ok(Ok((columns, rows)))
    }
}

/// The names of columns, and the rows.
type TextRows = (Vec<String>, Vec<Vec<Option<String>>>);

fn shown(value: &v1::QueryValue) -> Option<String> {
    Some(match value.value.as_ref()? {
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Flag(value) => value.to_string(),
        Value::Decimal(text) | Value::Text(text) => text.clone(),
    })
}
