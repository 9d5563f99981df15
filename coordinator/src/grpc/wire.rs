//! Answers as messages. Times go as durations: clocks of different machines do not agree.

use std::time::Duration;

use sortie_core::job::StateName;
use sortie_core::keep::Lacks;
use sortie_core::spec::{Change, Resubmission};
use sortie_core::status::WorkerState;
use sortie_core::trial::Work;
use sortie_proto::v1;

use super::coordinator::Offer;
use crate::store::{
    ArtifactLocation, Certificate, Preview, StoredArtifact, Submitted, SweepStatus, TrialArtifacts,
    TrialHistory, TrialLine, WorkerLine,
};

pub(super) fn status_wire(status: SweepStatus) -> v1::SweepStatus {
    let SweepStatus {
        sweep,
        state,
        priority,
        planned,
        blocked,
        queued,
        running,
        preparing,
        preparation,
        succeeded,
        diverged,
        failed,
        cancelled,
        reused,
        ..
    } = status;
    let SweepStatus { steps_done, steps_planned, running_ms, finished_attempts, delayed, held_up, .. } =
        status;
    let (waits_for, stuck) = held_up.map(|held_up| (held_up.reason, held_up.stuck)).unwrap_or_default();
    v1::SweepStatus {
        sweep,
        planned,
        blocked,
        queued,
        running,
        preparing,
        preparation: preparation.unwrap_or_default(),
        succeeded,
        diverged,
        failed,
        steps_done,
        steps_planned,
        running_ms,
        finished_attempts,
        cancelled,
        waits_for,
        stuck,
        state: v1::SweepState::number(state),
        priority,
        reused,
        delayed,
    }
}

pub(super) fn preview_wire(sweep: String, preview: Preview) -> v1::PreviewResponse {
    let (is_new, Resubmission { trials, combinations, changes, kept }, lacking) = match preview {
        Preview::New { trials, combinations, lacking } => {
            (true, Resubmission { trials, combinations, changes: Vec::new(), kept: Vec::new() }, lacking)
        }
        Preview::Stored { resubmission, lacking } => (false, resubmission, lacking),
    };
    let change = |Change { key, old, new }| v1::SettingChange { key, old, new };
    let changes = changes.into_iter().map(change).collect();
    let kept = kept.into_iter().map(|(key, values)| v1::KeptValues { key, values }).collect();
    let lacking = Some(lacking.into());
    v1::PreviewResponse { sweep, is_new, trials, combinations, changes, kept, lacking }
}

/// How far a submission is.
pub(super) fn progress_wire(submitted: Submitted) -> v1::SubmitProgress {
    let done = submitted.is_done();
    let Submitted { sweep, planned, expanded, added, reused, lacking, cancelled: _ } = submitted;
    v1::SubmitProgress { sweep, planned, expanded, added, reused, done, lacking: Some(lacking.into()) }
}

pub(super) fn trial_wire(line: TrialLine, work: &Work) -> v1::Trial {
    let TrialLine { spec_hash, point, state, attempts, step, worker, error, reused_from } = line;
    // What went wrong before is no news of a trial that runs or is over in another way.
    let error = if matches!(state, StateName::Failed | StateName::Blocked | StateName::Queued) {
        error
    } else {
        String::new()
    };
    let steps = work.at(&point.parameters).steps().unwrap_or(0);
    v1::Trial {
        trial_id: spec_hash.to_string(),
        point: Some((&point).into()),
        state: v1::TrialState::number(state),
        attempts,
        step,
        steps,
        worker,
        error,
        reused_from: reused_from.map(|sweep| format!("{sweep}/{}", spec_hash.short())).unwrap_or_default(),
    }
}

pub(super) fn history_wire(
    history: TrialHistory,
    work: &Work,
    note: String,
    lacks: Lacks,
) -> v1::ExplainResponse {
    let events: Vec<_> = history
        .events
        .iter()
        .map(|event| v1::TrialEvent {
            ago_ms: milliseconds(history.ago(event)),
            token: event.token.map_or(0, |token| token.0),
            what: event.what.clone(),
            detail: event.detail.clone(),
        })
        .collect();
    let waits_ms = milliseconds(history.waits());
    let TrialHistory { sweep, line, token, members, .. } = history;
    v1::ExplainResponse {
        sweep,
        trial: Some(trial_wire(line, work)),
        token: token.map_or(0, |token| token.0),
        waits_ms,
        events,
        note,
        members,
        lacks: lacks.to_string(),
    }
}

pub(super) fn worker_wire(line: WorkerLine, silent_after: Duration) -> v1::Worker {
    let silent_for = line.silent_for();
    let state = match () {
        () if line.left => WorkerState::Left,
        () if !line.trials.is_empty() => WorkerState::Working,
        () if silent_for > silent_after => WorkerState::Silent,
        () if line.quarantines().next().is_some() => WorkerState::Quarantined,
        () => WorkerState::Idle,
    };
    let quarantines: Vec<String> = line.quarantines().map(|fault| fault.quarantine(line.read_at)).collect();
    let WorkerLine { worker, trials, .. } = line;
    v1::Worker {
        worker_id: worker.id,
        host: worker.host,
        pid: worker.pid,
        devices: worker.devices,
        tags: worker.abilities.tags,
        slots: worker.slots,
        software: worker.software,
        state: v1::WorkerState::number(state),
        seen_ms_ago: milliseconds(silent_for),
        reason: quarantines.join("; "),
        machine: worker.machine,
        trials,
        checkpoints: worker.checkpoints.map(|place| place.to_string()).unwrap_or_default(),
    }
}

pub(super) fn artifacts_wire(kept: TrialArtifacts, offer: Option<&Offer>) -> v1::ArtifactsResponse {
    let TrialArtifacts { spec_hash, state, artifacts } = kept;
    let artifact = |StoredArtifact { token, artifact, host, place }| {
        let local = place == Some(ArtifactLocation::Local);
        let (url, host) = match offer {
            _ if artifact.key.is_empty() => (String::new(), String::new()),
            Some(offer) if !local => (format!("{}/{}", offer.url, artifact.key), String::new()),
            _ => (String::new(), host),
        };
        v1::StoredArtifact { token: token.0, artifact: Some((&artifact).into()), url, host }
    };
    let artifacts = artifacts.into_iter().map(artifact).collect();
    v1::ArtifactsResponse { trial_id: spec_hash.to_string(), state: v1::TrialState::number(state), artifacts }
}

pub(super) fn certificate_wire(certificate: Certificate) -> v1::Certificate {
    let Certificate { weights_digest, metrics_digest, kill_at, resumed_at, steps, worker, difference } =
        certificate;
    let (identical, weights_digest) = (difference.is_none(), weights_digest.unwrap_or_default());
    let difference = difference.unwrap_or_default();
    v1::Certificate {
        identical,
        weights_digest,
        metrics_digest,
        kill_at,
        resumed_at,
        steps,
        worker,
        difference,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
