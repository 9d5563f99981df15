//! The rows of a database, read by plain SQL and not by the code that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

/// The tables that a consistency check needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredRows {
    /// Trials by row id.
    pub trials: BTreeMap<i64, StoredTrial>,
    /// Attempts by token.
    pub attempts: BTreeMap<i64, StoredAttempt>,
    /// The rows of both tables of evaluations.
    pub evaluations: BTreeSet<StoredEvaluation>,
    /// Training losses: token, step, and the bits of the loss.
    pub losses: BTreeSet<(i64, i64, u64)>,
}

/// A row of `trials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTrial {
    /// The hash of its specification.
    pub hash: String,
    /// Its state.
    pub state: String,
    /// The token of the attempt whose result counts, once the trial is finished.
    pub token: i64,
}

/// A row of `attempts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAttempt {
    /// The row id of its trial.
    pub trial: i64,
    /// Its outcome.
    pub outcome: String,
    /// The last step that it reported.
    pub step: i64,
}

/// A row of `validation` or `held_out`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredEvaluation {
    /// The attempt.
    pub token: i64,
    /// The evaluated method.
    pub method: String,
    /// The step after whose update it was evaluated.
    pub step: i64,
    /// The domain.
    pub domain: String,
    /// `in` or `out`.
    pub split: String,
    /// The number of images.
    pub n: i64,
    /// The number of correctly classified images; -1 if only the accuracy was reported.
    pub correct: i64,
    /// The bits of the mean loss, if it was reported.
    pub loss: Option<u64>,
}

const TRIALS: &str = "SELECT id, trial_id, state, COALESCE(lost, holder, result, 0) FROM trials";
const ATTEMPTS: &str = "SELECT token, trial, outcome, step FROM attempts";
const EVALUATIONS: &str = "SELECT token, method, step, domain, split, n, correct, loss FROM validation
    UNION ALL SELECT token, method, step, domain, split, n, correct, loss FROM held_out";
const LOSSES: &str = "SELECT token, step, loss FROM training_losses";

type EvaluationRow = (i64, String, i64, String, String, i64, i64, Option<f64>);

/// Reads all rows from a pool of either database.
macro_rules! read {
    ($pool:expr) => {{
        let pool = $pool;
        let trials: Vec<(i64, String, String, i64)> =
            sqlx::query_as(TRIALS).fetch_all(pool).await.context("trials")?;
        let attempts: Vec<(i64, i64, String, i64)> =
            sqlx::query_as(ATTEMPTS).fetch_all(pool).await.context("attempts")?;
        let evaluations: Vec<EvaluationRow> =
            sqlx::query_as(EVALUATIONS).fetch_all(pool).await.context("evaluations")?;
        let losses: Vec<(i64, i64, f64)> =
            sqlx::query_as(LOSSES).fetch_all(pool).await.context("training losses")?;
        let evaluation = |(token, method, step, domain, split, n, correct, loss): EvaluationRow| {
            let loss = loss.map(f64::to_bits);
            StoredEvaluation { token, method, step, domain, split, n, correct, loss }
        };
        StoredRows {
            trials: trials
                .into_iter()
                .map(|(id, hash, state, token)| (id, StoredTrial { hash, state, token }))
                .collect(),
            attempts: attempts
                .into_iter()
                .map(|(token, trial, outcome, step)| (token, StoredAttempt { trial, outcome, step }))
                .collect(),
            evaluations: evaluations.into_iter().map(evaluation).collect(),
            losses: losses.into_iter().map(|(token, step, loss)| (token, step, loss.to_bits())).collect(),
        }
    }};
}

/// Reads a database that no process writes to any more.
///
/// # Errors
/// When it cannot be read.
pub async fn read(url: &str) -> Result<StoredRows> {
    let cannot = || format!("cannot read {url}");
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .connect_with(options)
                .await
                .with_context(cannot)?;
            Ok(read!(&pool))
        }
        None => {
            let pool = PgPoolOptions::new().max_connections(1).connect(url).await.with_context(cannot)?;
            Ok(read!(&pool))
        }
    }
}

impl StoredRows {
    /// The accepted results as sorted text: the state of every trial, and every evaluation of the accepted attempt to the last bit. Ids and
    /// tokens are left out: they depend on the order of events.
    pub fn canonical(&self) -> String {
        let mut lines = Vec::new();
        let mut accepted: BTreeMap<i64, &str> = BTreeMap::new();
        for (id, StoredTrial { hash, state, token }) in &self.trials {
            let outcome = self
                .attempts
                .get(token)
                .filter(|attempt| attempt.trial == *id)
                .map_or("none", |attempt| &attempt.outcome);
            lines.push(format!("{hash} {state} {outcome}"));
            if matches!(state.as_str(), "succeeded" | "diverged") {
                accepted.insert(*token, hash);
            }
        }
        for StoredEvaluation { token, method, step, domain, split, n, correct, loss } in &self.evaluations {
            let Some(hash) = accepted.get(token) else { continue };
            let loss = loss.map_or_else(|| "-".to_owned(), |bits| format!("{bits:016x}"));
            lines.push(format!("{hash} {method} {step} {domain} {split} {n} {correct} {loss}"));
        }
        lines.sort_unstable();
        lines.join("\n")
    }
}
