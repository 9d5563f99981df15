//! From rows to types, and back where a decision is written down.

use std::fmt::Display;
use std::str::FromStr;

use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::combine::Member;
use sortie_core::job::{ErrorClass, Finished, State, StateName, Timestamp, Token};
use sortie_core::metrics::{Evaluation, Score};
use sortie_core::trial::Point;

use super::engine::{Arg, Row};
use crate::store::StoreError;
use crate::store::backend::{
    AttemptRow, Contradiction, Progress, SweepRow, TrialRow, WaitingTrial, WorkerRow,
};
use crate::store::types::{ArtifactLocation, StoredArtifact, TrialLine};

/// The place in the grid of a row of `trials`.
pub(super) fn point(row: &Row) -> Result<Point, StoreError> {
    let held_out = row.text("trials", "held_out")?;
    Ok(Point {
        held_out: held_out.split('+').filter(|domain| !domain.is_empty()).map(str::to_owned).collect(),
        parameters: row.json("trials", "parameters")?,
        seed: row.count("trials", "seed")?,
        split_seed: row.count("trials", "split_seed")?,
    })
}

/// The state of a row of `trials`, whose token may stand under another name.
pub(super) fn state(row: &Row, token: &'static str) -> Result<State, StoreError> {
    let token = Token(row.int("trials", token)?);
    let due = Timestamp(row.int("trials", "due_ms")?);
    Ok(match row.parsed("trials", "state")? {
        StateName::Queued => State::Queued { expired: (token.0 != 0).then_some(token), not_before: due },
        StateName::Running => State::Running { token, expires_at: due },
        StateName::Succeeded => State::Finished(Finished::Succeeded(token)),
        StateName::Diverged => State::Finished(Finished::Diverged(token)),
        StateName::Failed => State::Finished(Finished::Failed(token)),
        StateName::Cancelled => State::Finished(Finished::Cancelled),
    })
}

/// The token column of a state: see the migration.
pub(super) fn token_of(state: State) -> i64 {
    state.token().map_or(0, |token| token.0)
}

/// The due_ms column of a state: see the migration.
pub(super) fn due_of(state: State) -> i64 {
    match state {
        State::Queued { not_before, .. } => not_before.0,
        State::Running { expires_at, .. } => expires_at.0,
        State::Finished(_) => 0,
    }
}

pub(super) fn sweep(row: &Row) -> Result<SweepRow, StoreError> {
    Ok(SweepRow {
        id: row.int("sweeps", "id")?,
        spec: row.json("sweeps", "spec")?,
        revision: row.int("sweeps", "revision")?,
        state: row.parsed("sweeps", "state")?,
        priority: row.int("sweeps", "priority")?,
        reuse: row.int("sweeps", "reuse")? != 0,
        planned: row.count("sweeps", "planned")?,
        expanded: row.count("sweeps", "expanded")?,
        base: row.int("sweeps", "base")?,
    })
}

pub(super) fn worker(row: &Row) -> Result<WorkerRow, StoreError> {
    Ok(WorkerRow {
        id: row.int("workers", "id")?,
        name: row.text("workers", "worker_id")?,
        abilities: row.json("workers", "abilities")?,
        seen: Timestamp(row.int("workers", "seen_ms")?),
        failures_in_row: small(row.count("workers", "failures_in_row")?),
        quarantined_until: Timestamp(row.int("workers", "quarantined_until_ms")?),
        quarantine_reason: row.text("workers", "quarantine_reason")?,
    })
}

pub(super) fn waiting(row: &Row) -> Result<WaitingTrial, StoreError> {
    Ok(WaitingTrial {
        id: row.int("trials", "id")?,
        trial_id: row.parsed("trials", "trial_id")?,
        point: point(row)?,
        state: state(row, "token")?,
        existing: row.maybe_int("trials", "existing")?.map(Token),
        tried: row.int("attempts", "tried")? != 0,
    })
}

pub(super) fn trial(row: &Row) -> Result<TrialRow, StoreError> {
    let (id, position) = (row.int("trials", "id")?, row.int("trials", "position")?);
    Ok(TrialRow { id, position, point: point(row)?, state: state(row, "token")? })
}

pub(super) fn attempt(row: &Row) -> Result<AttemptRow, StoreError> {
    let class = row.text("attempts", "error_class")?;
    let class: Option<ErrorClass> =
        if class.is_empty() { None } else { Some(row.parsed("attempts", "error_class")?) };
    Ok(AttemptRow {
        token: Token(row.int("attempts", "token")?),
        worker: row.int("attempts", "worker")?,
        worker_failures_in_row: small(row.count("workers", "failures_in_row")?),
        trial: row.int("trials", "trial")?,
        sweep: row.int("trials", "sweep_id")?,
        held_out: row.text("trials", "held_out")?,
        state: state(row, "holder")?,
        progress: Progress {
            state: row.parsed("attempts", "outcome")?,
            class,
            message: row.text("attempts", "message")?,
            ended: Timestamp(row.int("attempts", "ended_ms")?),
            sequence: row.count("attempts", "sequence")?,
            step: row.count("attempts", "step")?,
        },
        dataset_digest: row.text("attempts", "dataset_digest")?,
        weights_digest: row.text("attempts", "weights_digest")?,
        repeated: row.int("attempts", "repeated")? != 0,
    })
}

pub(super) fn trial_line(row: &Row) -> Result<TrialLine, StoreError> {
    Ok(TrialLine {
        trial_id: row.parsed("trials", "trial_id")?,
        point: point(row)?,
        state: row.parsed("trials", "state")?,
        attempts: small(row.count("attempts", "attempts")?),
        step: row.count("attempts", "step")?,
        worker: row.text("workers", "worker")?,
        error: row.text("attempts", "error")?,
        reused_from: Some(row.text("sweeps", "reused_from")?).filter(|name| !name.is_empty()),
    })
}

/// An evaluation as [`super::statements`] writes it in one line, without loss; none where images were not counted, unless the accuracy is
/// given.
pub(super) fn evaluation(
    line: &str,
    table: &'static str,
    accuracy: Option<f64>,
) -> Result<Option<Evaluation>, StoreError> {
    let mut parts = line.splitn(6, '\t');
    let mut part =
        |column| parts.next().ok_or_else(|| corrupt(table, column, &format!("{line:?} is no evaluation")));
    let (method, split, step, n, correct, domain) =
        (part("method")?, part("split")?, part("step")?, part("n")?, part("correct")?, part("domain")?);
    let n = parsed(table, "n", n)?;
    let score = match (correct, accuracy) {
        ("-1", None) => return Ok(None),
        ("-1", Some(value)) => Score::Value { value, n },
        _ => Score::Counts { n, correct: parsed(table, "correct", correct)? },
    };
    let (method, split) = (parsed(table, "method", method)?, parsed(table, "split", split)?);
    Ok(Some(Evaluation {
        method,
        step: parsed(table, "step", step)?,
        domain: domain.to_owned(),
        split,
        score,
        loss: None,
    }))
}

fn parsed<T: FromStr<Err: Display>>(
    table: &'static str,
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error| corrupt(table, column, &error))
}

fn corrupt(table: &'static str, column: &'static str, reason: &dyn Display) -> StoreError {
    StoreError::Corrupt { table, column, reason: reason.to_string() }
}

/// The values of [`super::statements::EVALUATION_COLUMNS`].
pub(super) fn evaluation_args(token: Token, evaluation: &Evaluation) -> [Arg; 9] {
    let Evaluation { method, step, domain, split, score, loss } = evaluation;
    let correct = if let Score::Counts { correct, .. } = score { Arg::from(*correct) } else { Arg::Int(-1) };
    [
        token.0.into(),
        method.as_str().into(),
        (*step).into(),
        domain.as_str().into(),
        split.as_str().into(),
        score.n().into(),
        correct,
        Arg::Real(score.accuracy()),
        Arg::MaybeReal(*loss),
    ]
}

/// The values of [`super::statements::ARTIFACT_COLUMNS`].
pub(super) fn artifact_args(token: Token, artifact: &Artifact) -> [Arg; 7] {
    let Artifact { kind, method, step, key, digest, bytes } = artifact;
    let (key, digest) = (key.as_str().into(), digest.as_str().into());
    [
        token.0.into(),
        kind.as_str().into(),
        method.as_str().into(),
        (*step).into(),
        key,
        digest,
        (*bytes).into(),
    ]
}

/// A combination, and one of its members with at most one of its files.
pub(super) fn member(row: &Row) -> Result<(i64, Member), StoreError> {
    let (trial, trial_id) = (row.int("members", "trial")?, row.parsed("trials", "trial_id")?);
    if row.text("artifacts", "kind")?.is_empty() {
        return Ok((trial, Member { trial_id, files: Vec::new(), host: String::new() }));
    }
    let StoredArtifact { artifact, host, place, .. } = artifact(row)?;
    let host = if place == ArtifactLocation::Local { host } else { String::new() };
    Ok((trial, Member { trial_id, files: vec![artifact], host }))
}

pub(super) fn artifact(row: &Row) -> Result<StoredArtifact, StoreError> {
    let artifact = Artifact {
        kind: row.parsed("artifacts", "kind")?,
        method: row.parsed("artifacts", "method")?,
        step: row.count("artifacts", "step")?,
        key: row.text("artifacts", "key")?,
        digest: row.text("artifacts", "digest")?,
        bytes: row.count("artifacts", "bytes")?,
    };
    let (host, place) = (row.text("workers", "host")?, row.parsed("workers", "checkpoints")?);
    Ok(StoredArtifact { token: Token(row.int("artifacts", "token")?), artifact, host, place })
}

pub(super) fn checkpoint(row: &Row) -> Result<CheckpointRef, StoreError> {
    let (token, step) = (Token(row.int("artifacts", "token")?), row.count("artifacts", "step")?);
    Ok(CheckpointRef {
        token,
        step,
        key: row.text("artifacts", "key")?,
        digest: row.text("artifacts", "digest")?,
    })
}

pub(super) fn contradiction(row: &Row) -> Result<Contradiction, StoreError> {
    Ok(Contradiction {
        trial: row.int("attempts", "trial")?,
        token: Token(row.int("attempts", "token")?),
        earlier: Token(row.int("attempts", "earlier")?),
        earlier_number: row.count("attempts", "earlier_number")?,
        step: row.count("validation", "step")?,
        rows: row.count("validation", "differing")?,
    })
}

/// Where an attempt took up another's work; none if it began at step 0.
pub(super) fn resumed(row: &Row) -> Result<Option<Resumed>, StoreError> {
    let token = Token(row.int("attempts", "resumed_token")?);
    let (step, exact) = (row.count("attempts", "resumed_step")?, row.int("attempts", "exact")? != 0);
    Ok((token.0 != 0).then_some(Resumed { token, step, exact }))
}

pub(super) fn small(value: u64) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}
