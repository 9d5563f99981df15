//! What a database holds, read by plain SQL and not by the code that wrote it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

/// The tables that matter here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// By row id.
    pub trials: BTreeMap<i64, Trial>,
    /// By token.
    pub attempts: BTreeMap<i64, Attempt>,
    /// Both tables of evaluations.
    pub evaluations: BTreeSet<Evaluation>,
    /// Token, step, and the bits of the training loss.
    pub losses: BTreeSet<(i64, i64, u64)>,
}

/// A row of `trials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The hash of its specification.
    pub hash: String,
    /// Its state.
    pub state: String,
    /// Whose result counts, once it is finished.
    pub token: i64,
}

/// A row of `attempts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The row id of its trial.
    pub trial: i64,
    /// How it ended.
    pub outcome: String,
    /// The last step that it told of.
    pub step: i64,
}

/// A row of `validation` or `held_out`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evaluation {
    /// The attempt.
    pub token: i64,
    /// The judged model.
    pub method: String,
    /// The step after whose update it was judged.
    pub step: i64,
    /// The domain.
    pub domain: String,
    /// `in` or `out`.
    pub split: String,
    /// Images.
    pub n: i64,
    /// Correct ones; -1 if only the accuracy was told.
    pub correct: i64,
    /// The bits of the mean loss, if one was told.
    pub loss: Option<u64>,
}

const TRIALS: &str = "SELECT id, trial_id, state, token FROM trials";
const ATTEMPTS: &str = "SELECT token, trial, outcome, step FROM attempts";
const EVALUATIONS: &str = "SELECT token, method, step, domain, split, n, correct, loss FROM validation
    UNION ALL SELECT token, method, step, domain, split, n, correct, loss FROM held_out";
const LOSSES: &str = "SELECT token, step, loss FROM training_losses";

type EvaluationRow = (i64, String, i64, String, String, i64, i64, Option<f64>);

/// Reads both databases alike; they differ in their types only.
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
            Evaluation { token, method, step, domain, split, n, correct, loss }
        };
        Stored {
            trials: trials
                .into_iter()
                .map(|(id, hash, state, token)| (id, Trial { hash, state, token }))
                .collect(),
            attempts: attempts
                .into_iter()
                .map(|(token, trial, outcome, step)| (token, Attempt { trial, outcome, step }))
                .collect(),
            evaluations: evaluations.into_iter().map(evaluation).collect(),
            losses: losses.into_iter().map(|(token, step, loss)| (token, step, loss.to_bits())).collect(),
        }
    }};
}

/// Reads a database that nobody writes to any more.
///
/// # Errors
/// When it cannot be read.
pub async fn read(url: &str) -> Result<Stored> {
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

impl Stored {
    /// The accepted results as text: for every trial its state, and every evaluation of the attempt that counts, to the last bit, sorted;
    /// without ids and tokens, which depend on the order of events.
    pub fn canonical(&self) -> String {
        let mut lines = Vec::new();
        let mut accepted: BTreeMap<i64, &str> = BTreeMap::new();
        for (id, Trial { hash, state, token }) in &self.trials {
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
        for Evaluation { token, method, step, domain, split, n, correct, loss } in &self.evaluations {
            let Some(hash) = accepted.get(token) else { continue };
            let loss = loss.map_or_else(|| "-".to_owned(), |bits| format!("{bits:016x}"));
            lines.push(format!("{hash} {method} {step} {domain} {split} {n} {correct} {loss}"));
        }
        lines.sort_unstable();
        lines.join("\n")
    }
}
