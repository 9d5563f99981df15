//! From rows to types, and back where a decision is written down.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Value, json};
use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::combine::Member;
use sortie_core::finetune::{Ensemble, Methods};
use sortie_core::job::{Finished, State, StateName, Timestamp};
use sortie_core::keep::{LeftFiles, Needs};
use sortie_core::keys::{AttemptToken, TrialKey};
use sortie_core::machine::Fault;
use sortie_core::metrics::{Evaluation, Score};
use sortie_core::parameters::set_written;
use sortie_core::trial::Point;

use super::engine::{Arg, Row};
use crate::store::StoreError;
use crate::store::backend::{
    AttemptRow, Contradiction, FilesQuestion, LackingTrial, LogExtent, Progress, Reported, Sizes, SweepRow,
    TrialRow, WaitingTrial, WorkerRow, given,
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

/// The state of a row of `trials`.
pub(super) fn state(row: &Row) -> Result<State, StoreError> {
    let token = |column| row.int("trials", column).map(AttemptToken);
    Ok(match row.parsed("trials", "state")? {
        StateName::Blocked => State::Blocked,
        StateName::Queued => State::Queued {
            lost: row.maybe_int("trials", "lost")?.map(AttemptToken),
            not_before: row.maybe_int("trials", "not_before_ms")?.map(Timestamp),
            earlier: row.maybe_int("trials", "earlier")?.map(AttemptToken),
        },
        StateName::Running => State::Running {
            token: token("holder")?,
            expires_at: Timestamp(row.int("trials", "expires_ms")?),
            earlier: row.maybe_int("trials", "earlier")?.map(AttemptToken),
        },
        StateName::Succeeded => State::Finished(Finished::Succeeded(token("result")?)),
        StateName::Diverged => State::Finished(Finished::Diverged(token("result")?)),
        StateName::Failed => {
            State::Finished(Finished::Failed(row.maybe_int("trials", "result")?.map(AttemptToken)))
        }
        StateName::Cancelled => State::Finished(Finished::Cancelled),
    })
}

/// The values of a state's columns: `state`, `lost`, `not_before_ms`, `holder`, `expires_ms`, `result`, `earlier`.
pub(super) fn state_values(state: State) -> [Value; 7] {
    let (mut lost, mut not_before_ms, mut holder, mut expires_ms, mut result) =
        (None, None, None, None, None);
    match state {
        State::Blocked => {}
        State::Queued { lost: token, not_before, .. } => {
            (lost, not_before_ms) = (token, not_before.map(|time| time.0));
        }
        State::Running { token, expires_at, .. } => (holder, expires_ms) = (Some(token), Some(expires_at.0)),
        State::Finished(_) => result = state.token(),
    }
    [
        json!(state.name().as_str()),
        json!(lost),
        json!(not_before_ms),
        json!(holder),
        json!(expires_ms),
        json!(result),
        json!(state.earlier()),
    ]
}

pub(super) fn sweep(row: &Row) -> Result<SweepRow, StoreError> {
    Ok(SweepRow {
        id: row.key("sweeps", "id")?,
        spec: row.json("sweeps", "spec")?,
        revision: row.int("sweeps", "revision")?,
        state: row.parsed("sweeps", "state")?,
        archived: row.int("sweeps", "archived")? != 0,
        priority: row.int("sweeps", "priority")?,
        reuse: row.parsed("sweeps", "reuse")?,
        planned: row.count("sweeps", "planned")?,
        expanded: row.count("sweeps", "expanded")?,
        base: row.int("sweeps", "base")?,
    })
}

/// How much there is, in the one row of an answer.
pub(super) fn sizes(rows: &[Row]) -> Result<Sizes, StoreError> {
    let size = |row: &Row| {
        Ok(Sizes { sweeps: row.count("sweeps", "sweeps")?, trials: row.count("sweeps", "trials")? })
    };
    rows.first().map_or(Ok(Sizes::default()), size)
}

pub(super) fn worker(row: &Row) -> Result<WorkerRow, StoreError> {
    Ok(WorkerRow {
        id: row.key("workers", "id")?,
        name: row.text("workers", "worker_id")?,
        secret: row.parsed("workers", "secret")?,
        abilities: row.json("workers", "abilities")?,
        seen: Timestamp(row.int("workers", "seen_ms")?),
        machine: row.text("workers", "machine")?,
        suspect: row.int("machine_faults", "suspect")? != 0,
    })
}

/// What is held against a machine.
pub(super) fn fault(row: &Row) -> Result<Fault, StoreError> {
    Ok(Fault {
        machine: row.text("machine_faults", "machine")?,
        kind: row.parsed("machine_faults", "kind")?,
        failures_in_row: small(row.count("machine_faults", "failures_in_row")?),
        until: row.maybe_int("machine_faults", "until_ms")?.map(Timestamp),
        reason: row.text("machine_faults", "reason")?,
    })
}

/// With what was written for its numbers: an attempt at it begins.
pub(super) fn waiting(row: &Row) -> Result<WaitingTrial, StoreError> {
    let mut point = point(row)?;
    set_written(&mut point.parameters, &row.json("trials", "written")?);
    Ok(WaitingTrial {
        id: row.key("trials", "id")?,
        spec_hash: row.parsed("trials", "trial_id")?,
        point,
        state: state(row)?,
        existing: row.maybe_int("trials", "existing")?.map(AttemptToken),
        attempts: small(row.count("attempts", "attempts")?),
        first: row.maybe_int("attempts", "first")?.map(AttemptToken),
    })
}

pub(super) fn trial(row: &Row) -> Result<TrialRow, StoreError> {
    let (id, position) = (row.key("trials", "id")?, row.int("trials", "position")?);
    Ok(TrialRow { id, position, point: point(row)?, state: state(row)? })
}

pub(super) fn attempt(row: &Row) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        token: AttemptToken(row.int("attempts", "token")?),
        secret: row.parsed("workers", "secret")?,
        machine: row.text("workers", "machine")?,
        suspect: row.int("machine_faults", "suspect")? != 0,
        trial: row.key("trials", "trial")?,
        sweep: row.key("trials", "sweep_id")?,
        held_out: row.text("trials", "held_out")?,
        parameters: row.json("trials", "parameters")?,
        state: state(row)?,
        progress: Progress {
            state: row.parsed("attempts", "outcome")?,
            class: row.maybe_parsed("attempts", "error_class")?,
            message: row.maybe_text("attempts", "message")?,
            ended: row.maybe_int("attempts", "ended_ms")?.map(Timestamp),
            sequence: row.count("attempts", "sequence")?,
            step: row.count("attempts", "step")?,
            preparation: row.maybe_text("attempts", "preparation")?,
            log: LogExtent {
                bytes: row.count("attempts", "log_bytes")?,
                cut: row.maybe_count("attempts", "log_cut")?,
            },
            reported: Reported {
                evaluations: row.count("attempts", "evaluations")?,
                losses: row.count("attempts", "losses")?,
                artifacts: row.count("attempts", "artifacts")?,
                notes: row.count("attempts", "notes")?,
            },
        },
        dataset_digest: row.maybe_text("attempts", "dataset_digest")?,
        weights_digest: row.maybe_text("attempts", "weights_digest")?,
        repeated: row.int("attempts", "repeated")? != 0,
    })
}

pub(super) fn trial_line(row: &Row) -> Result<TrialLine, StoreError> {
    Ok(TrialLine {
        spec_hash: row.parsed("trials", "trial_id")?,
        point: point(row)?,
        state: row.parsed("trials", "state")?,
        attempts: small(row.count("attempts", "attempts")?),
        step: row.count("attempts", "step")?,
        worker: row.text("workers", "worker")?,
        error: row.text("attempts", "error")?,
        reused_from: Some(row.text("sweeps", "reused_from")?).filter(|name| !name.is_empty()),
    })
}

/// An evaluation as [`super::statements`] writes it in one line, without its floats; none where images were not counted.
pub(super) fn counted_evaluation(line: &str, table: &'static str) -> Result<Option<Evaluation>, StoreError> {
    let evaluation = evaluation(line, table, None)?;
    Ok(evaluation.score.is_some().then_some(evaluation))
}

/// An evaluation as [`super::statements`] writes it in one line, and its accuracy, without loss and named numbers.
pub(super) fn evaluation(
    line: &str,
    table: &'static str,
    accuracy: Option<f64>,
) -> Result<Evaluation, StoreError> {
    let mut parts = line.splitn(6, '\t');
    let mut part =
        |column| parts.next().ok_or_else(|| corrupt(table, column, &format!("{line:?} is no evaluation")));
    let (method, split, step, n, correct, domain) =
        (part("method")?, part("split")?, part("step")?, part("n")?, part("correct")?, part("domain")?);
    let n = if n.is_empty() { 0 } else { parsed(table, "n", n)? };
    let score = match (correct, accuracy) {
        ("", None) => None,
        ("", Some(value)) => Some(Score::Value { value, n }),
        _ => Some(Score::Counts { n, correct: parsed(table, "correct", correct)? }),
    };
    let (method, split) = (parsed(table, "method", method)?, parsed(table, "split", split)?);
    Ok(Evaluation {
        method,
        step: parsed(table, "step", step)?,
        domain: domain.to_owned(),
        split,
        score,
        loss: None,
        metrics: BTreeMap::new(),
        seconds: None,
    })
}

/// The named numbers of an evaluation, as they are stored.
pub(super) fn metrics(table: &'static str, text: Option<&str>) -> Result<BTreeMap<String, f64>, StoreError> {
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text).map_err(|error| corrupt(table, "metrics", &error))
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

/// By the names of methods, as everywhere.
pub(super) fn by_name(a: &Evaluation, b: &Evaluation) -> Ordering {
    let key = |row: &Evaluation| (row.method.as_str(), row.step);
    key(a)
        .cmp(&key(b))
        .then_with(|| a.domain.cmp(&b.domain))
        .then_with(|| a.split.as_str().cmp(b.split.as_str()))
}

/// The values of [`super::inserts::EVALUATION_COLUMNS`].
pub(super) fn evaluation_args(token: AttemptToken, evaluation: &Evaluation) -> [Arg; 11] {
    let Evaluation { method, step, domain, split, score, loss, metrics, seconds } = evaluation;
    let correct = if let Some(Score::Counts { correct, .. }) = score { Some(*correct) } else { None };
    let metrics = (!metrics.is_empty()).then(|| json!(metrics).to_string());
    [
        token.0.into(),
        method.as_str().into(),
        (*step).into(),
        domain.as_str().into(),
        split.as_str().into(),
        score.map(Score::n).filter(|n| *n > 0).into(),
        correct.into(),
        evaluation.accuracy().into(),
        (*loss).into(),
        metrics.into(),
        (*seconds).into(),
    ]
}

/// The values of [`super::inserts::ARTIFACT_COLUMNS`].
pub(super) fn artifact_args(token: AttemptToken, artifact: &Artifact) -> [Arg; 7] {
    let Artifact { kind, method, step, key, digest, bytes } = artifact;
    [
        token.0.into(),
        kind.as_str().into(),
        method.as_str().into(),
        (*step).into(),
        given(key).into(),
        digest.as_str().into(),
        (*bytes).into(),
    ]
}

/// A combination, and one of its members with at most one of its files.
pub(super) fn member(row: &Row) -> Result<(TrialKey, Member), StoreError> {
    let (trial, spec_hash) = (row.key("members", "trial")?, row.parsed("trials", "trial_id")?);
    if row.maybe_text("artifacts", "kind")?.is_none() {
        return Ok((trial, Member { spec_hash, files: Vec::new(), host: String::new() }));
    }
    let StoredArtifact { artifact, host, place, .. } = artifact(row)?;
    let host = if place == Some(ArtifactLocation::Local) { host } else { String::new() };
    Ok((trial, Member { spec_hash, files: vec![artifact], host }))
}

pub(super) fn artifact(row: &Row) -> Result<StoredArtifact, StoreError> {
    let artifact = Artifact {
        kind: row.parsed("artifacts", "kind")?,
        method: row.parsed("artifacts", "method")?,
        step: row.count("artifacts", "step")?,
        key: row.maybe_text("artifacts", "key")?.unwrap_or_default(),
        digest: row.text("artifacts", "digest")?,
        bytes: row.count("artifacts", "bytes")?,
    };
    let (host, place) = (row.text("workers", "host")?, row.maybe_parsed("workers", "checkpoints")?);
    Ok(StoredArtifact { token: AttemptToken(row.int("artifacts", "token")?), artifact, host, place })
}

pub(super) fn checkpoint(row: &Row) -> Result<CheckpointRef, StoreError> {
    let (token, step) = (AttemptToken(row.int("artifacts", "token")?), row.count("artifacts", "step")?);
    Ok(CheckpointRef {
        token,
        step,
        key: row.text("artifacts", "key")?,
        digest: row.text("artifacts", "digest")?,
    })
}

pub(super) fn contradiction(row: &Row) -> Result<Contradiction, StoreError> {
    Ok(Contradiction {
        trial: row.key("attempts", "trial")?,
        token: AttemptToken(row.int("attempts", "token")?),
        earlier: AttemptToken(row.int("attempts", "earlier")?),
        earlier_number: row.count("attempts", "earlier_number")?,
        step: row.count("validation", "step")?,
        rows: row.count("validation", "differing")?,
    })
}

/// Where an attempt took up another's work; none if it began at step 0.
pub(super) fn resumed(row: &Row) -> Result<Option<Resumed>, StoreError> {
    let Some(token) = row.maybe_int("attempts", "resumed_token")? else { return Ok(None) };
    let (step, exact) = (row.count("attempts", "resumed_step")?, row.int("attempts", "exact")? != 0);
    Ok(Some(Resumed { token: AttemptToken(token), step, exact }))
}

pub(super) fn small(value: u64) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}

/// What results must have, as arguments: see [`super::left_files`].
pub(super) fn needs_args(needs: Needs) -> impl Iterator<Item = Arg> {
    let Needs { methods: Methods { average, ensemble }, weights, selected, logits, reported_logits } = needs;
    let files = [weights, selected, logits, reported_logits].map(|needed| i64::from(needed).into());
    let average = average.map(|average| average.to_string()).unwrap_or_default();
    let ensemble = ensemble.map_or(-1, |ensemble| i64::try_from(ensemble.from).unwrap_or(i64::MAX));
    files.into_iter().chain([average.into(), ensemble.into()])
}

/// The arguments of the two statements about results that lack files. No sweep has the id 0.
pub(super) fn files_args(asked: FilesQuestion<'_>) -> Vec<Arg> {
    let trials = Value::Array(asked.trials.iter().map(|trial| json!([trial.to_string()])).collect());
    let sweep = asked.sweep.map_or(0, |sweep| sweep.0);
    [trials.to_string().into(), sweep.into()].into_iter().chain(needs_args(asked.needs)).collect()
}

/// What the two statements found: trials of the sweep itself, and those of others.
pub(super) fn lacking(own: &[Row], elsewhere: &[Row], needs: Needs) -> Result<Vec<LackingTrial>, StoreError> {
    let mut found = Vec::with_capacity(own.len() + elsewhere.len());
    for (row, is_own) in own.iter().map(|row| (row, true)).chain(elsewhere.iter().map(|row| (row, false))) {
        let is = |column| row.int("artifacts", column).map(|value| value != 0);
        let left = LeftFiles {
            weights: is("weights")?,
            selected: is("selected")?,
            logits: is("logits")?,
            logits_left_out: is("logits_left_out")?,
        };
        let ensemble = row.maybe_int("attempts", "ensemble")?;
        let made = Methods {
            average: row.maybe_parsed("attempts", "average")?,
            ensemble: ensemble.map(|from| Ensemble { from: from.unsigned_abs() }),
        };
        let own = match is_own {
            true => Some((row.key("trials", "id")?, AttemptToken(row.int("trials", "result")?))),
            false => None,
        };
        found.push(LackingTrial { own, lacks: needs.lacks(left, made) });
    }
    Ok(found)
}
