//! The coordinator's answers as the rows that commands list.

use std::time::Duration;

use anyhow::{Context, Result};
use sortie_analysis::{
    ArtifactList, ArtifactRow, AuditRow, Certificate, HistoryEvent, QueryValue, SweepList, SweepRow,
    TokenRow, TrialHistory, TrialRow, WorkerRow,
};
use sortie_core::trial::Point;
use sortie_proto::v1;
use sortie_proto::v1::query_value::Value;

use crate::attempts::Attempts;
use crate::watching::time_left;

/// The trial at this point.
///
/// # Errors
/// One line: its id or its state is none.
pub fn trial(trial: v1::Trial, point: Point) -> Result<TrialRow> {
    let v1::Trial { trial_id, point: _, state, attempts, step, steps, worker, error, reused_from } = trial;
    Ok(TrialRow {
        id: trial_id.parse()?,
        point,
        state: v1::TrialState::read("trial.state", state)?,
        attempts,
        step,
        steps: Some(steps).filter(|&steps| steps > 0),
        worker,
        error,
        reused_from: non_empty(reused_from),
    })
}

/// A token.
pub fn token(token: v1::Token) -> TokenRow {
    let v1::Token { name, role, state, created_ms, expires_ms, revoked_ms } = token;
    let (created, expires, revoked) =
        (point_in_time(created_ms), expires_ms.map(point_in_time), revoked_ms.map(point_in_time));
    TokenRow { name, role, state, created, expires, revoked }
}

/// What somebody did.
pub fn audit(entry: v1::AuditEntry) -> AuditRow {
    let v1::AuditEntry { number, at_ms, name, role, action, sweep, detail } = entry;
    AuditRow { number, at: point_in_time(at_ms), name, role, action, sweep, detail }
}

/// As RFC 3339, to the second.
fn point_in_time(milliseconds: i64) -> String {
    let time = jiff::Timestamp::from_second(milliseconds.div_euclid(1_000));
    time.map_or_else(|_| format!("{milliseconds} ms"), |time| time.to_string())
}

/// The history of a trial.
///
/// # Errors
/// One line: the answer has no trial, or an invalid one.
pub fn history(history: v1::ExplainResponse) -> Result<TrialHistory> {
    let v1::ExplainResponse { sweep, trial: found, token, waits_ms, events, note, members, lacks } = history;
    let mut found = found.context("the coordinator's answer has no trial")?;
    let point: Point = found.point.take().unwrap_or_default().try_into()?;
    let attempts = Attempts::of(&events);
    let positive = |token| Some(token).filter(|&token| token > 0);
    let event = |v1::TrialEvent { ago_ms, token, what, detail }| HistoryEvent {
        ago: Duration::from_millis(ago_ms),
        attempt: attempts.number(token),
        token: positive(token),
        what,
        detail,
    };
    Ok(TrialHistory {
        sweep,
        trial: trial(found, point)?,
        attempt: attempts.number(token),
        token: positive(token),
        note: non_empty(note),
        lacks: non_empty(lacks),
        waits: Duration::from_millis(waits_ms),
        members,
        events: events.into_iter().map(event).collect(),
    })
}

/// The progress of sweeps, with the time left that `eta` estimates.
///
/// # Errors
/// One line: a sweep is in no state.
pub fn sweeps(
    sweeps: Vec<v1::SweepStatus>,
    eta: impl Fn(&v1::SweepStatus) -> Option<Duration>,
) -> Result<SweepList> {
    let sweep = |status: v1::SweepStatus| {
        let eta = eta(&status);
        Ok(SweepRow {
            eta_seconds: eta.map(|eta| eta.as_secs()),
            time_left: time_left(&status, eta),
            sweep: status.sweep,
            state: v1::SweepState::read("sweep.state", status.state)?,
            priority: status.priority,
            planned: status.planned,
            blocked: status.blocked,
            queued: status.queued,
            delayed: status.delayed,
            running: status.running,
            preparing: status.preparing,
            preparation: Some(status.preparation).filter(|text| !text.is_empty()),
            succeeded: status.succeeded,
            reused: status.reused,
            diverged: status.diverged,
            failed: status.failed,
            cancelled: status.cancelled,
            steps_done: status.steps_done,
            steps_planned: status.steps_planned,
        })
    };
    Ok(SweepList { sweeps: sweeps.into_iter().map(sweep).collect::<Result<_>>()? })
}

/// A worker.
///
/// # Errors
/// One line: it is in no state.
pub fn worker(worker: v1::Worker) -> Result<WorkerRow> {
    Ok(WorkerRow {
        worker: worker.worker_id,
        host: worker.host,
        machine: worker.machine,
        pid: worker.pid,
        devices: worker.devices,
        tags: worker.tags,
        slots: worker.slots,
        software: worker.software,
        state: v1::WorkerState::read("worker.state", worker.state)?,
        seen_ago: Duration::from_millis(worker.seen_ms_ago),
        reason: worker.reason,
        trials: worker.trials,
        checkpoints: worker.checkpoints,
    })
}

/// The files of a trial.
///
/// # Errors
/// One line: a file has no description.
pub fn artifacts(answer: v1::ArtifactsResponse) -> Result<ArtifactList> {
    let v1::ArtifactsResponse { trial_id, state, artifacts } = answer;
    let artifact = |stored: v1::StoredArtifact| {
        let v1::StoredArtifact { token, artifact, url, host } = stored;
        let artifact = artifact.context("the coordinator's answer has an artifact without a description")?;
        Ok(ArtifactRow {
            attempt: token,
            kind: artifact.kind,
            method: artifact.method,
            step: artifact.step,
            key: non_empty(artifact.key),
            digest: artifact.digest,
            bytes: artifact.bytes,
            url: non_empty(url),
            host: non_empty(host),
        })
    };
    let artifacts = artifacts.into_iter().map(artifact).collect::<Result<_>>()?;
    let state = v1::TrialState::read("trial.state", state)?;
    Ok(ArtifactList { trial: trial_id, state, artifacts })
}

/// The comparison of two runs of a trial.
pub fn certificate(certificate: v1::Certificate) -> Certificate {
    Certificate {
        identical: certificate.identical,
        weights_digest: non_empty(certificate.weights_digest),
        metrics_digest: certificate.metrics_digest,
        kill_at: certificate.kill_at,
        resumed_at: certificate.resumed_at,
        steps: certificate.steps,
        worker: certificate.worker,
        difference: non_empty(certificate.difference),
    }
}

/// A row of the answer to a query.
pub fn query_row(row: v1::QueryRow) -> Vec<Option<QueryValue>> {
    let value = |value: v1::QueryValue| {
        Some(match value.value? {
            Value::Integer(value) => QueryValue::Integer(value),
            Value::Real(value) => QueryValue::Real(value),
            Value::Decimal(digits) => QueryValue::Decimal(digits),
            Value::Flag(value) => QueryValue::Flag(value),
            Value::Text(text) => QueryValue::Text(text),
        })
    };
    row.values.into_iter().map(value).collect()
}

/// A value of a row as a number; none if it is no number.
pub fn real(value: &QueryValue) -> Option<f64> {
    match value {
        QueryValue::Real(value) => Some(*value),
        QueryValue::Integer(value) => Some(*value as f64),
        _ => None,
    }
}

/// The wire has empty texts where there is nothing.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watching::eta;

    #[test]
    fn a_sweep_is_one_row_and_one_object() {
        let status = v1::SweepStatus {
            sweep: "pacs".into(),
            state: v1::SweepState::Open.into(),
            planned: 6,
            running: 2,
            preparing: 1,
            preparation: "decoding, 3 of 9 images".into(),
            queued: 1,
            succeeded: 1,
            reused: 1,
            cancelled: 2,
            priority: -3,
            steps_done: 150,
            steps_planned: 400,
            running_ms: 8_000,
            finished_attempts: 1,
            ..v1::SweepStatus::default()
        };
        let list = sweeps(vec![status], eta).unwrap();
        assert_eq!(
            list.text(),
            " sweep  state  priority  done            running                      queued  failed  diverged  cancelled  time left\n \
             pacs   open   -3        1/6 (1 reused)  2 (decoding, 3 of 9 images)  1       0       0         2          15 seconds"
        );
        let expected = serde_json::json!({"sweeps": [{
            "sweep": "pacs", "state": "open", "priority": -3, "planned": 6, "blocked": 0, "queued": 1, "delayed": false, "running": 2, "preparing": 1, "preparation": "decoding, 3 of 9 images", "succeeded": 1, "reused": 1,
            "diverged": 0, "failed": 0, "cancelled": 2, "steps_done": 150, "steps_planned": 400, "eta_seconds": 15,
        }]});
        assert_eq!(serde_json::to_value(list).unwrap(), expected);
    }
}
