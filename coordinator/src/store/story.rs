//! What answers about sweeps and trials are made of, whatever database the facts come from.

use sortie_core::artifact::{ArtifactKind, Resumed};
use sortie_core::job::{State, StateName, Token};

use super::backend::{AttemptState, SweepRow, SweepState};
use super::types::{Happening, KeptArtifact, SweepStatus, TrialArtifacts, TrialLine};

/// An attempt as its trial's story tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) token: Token,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) state: AttemptState,
    pub(crate) class: String,
    pub(crate) message: String,
    pub(crate) step: u64,
    pub(crate) device: String,
    pub(crate) worker: String,
    pub(crate) resumed: Option<Resumed>,
}

impl Attempt {
    /// Its beginning, where it took up another's work, and its end if there was one.
    pub(crate) fn happenings(self) -> Vec<Happening> {
        let token = Some(self.token);
        let place = if self.device.is_empty() {
            format!("on {}", self.worker)
        } else {
            format!("on {}, {}", self.worker, self.device)
        };
        let mut happenings =
            vec![Happening { at_ms: self.started_ms, token, what: "started".to_owned(), detail: place }];
        if let Some(Resumed { token: from, step, exact }) = self.resumed {
            let exactly =
                if exact { "" } else { ", not exactly: on another device, number of threads or libtorch" };
            let detail = format!("after step {step} of attempt {from}{exactly}");
            happenings.push(Happening { at_ms: self.started_ms, token, what: "resumed".to_owned(), detail });
        }
        if self.ended_ms != 0 {
            let what = match (self.state, self.class.as_str()) {
                (AttemptState::Failed, class @ ("lost" | "preempted")) => class.to_owned(),
                (state, _) => state.to_string(),
            };
            let mut detail = format!("at step {}", self.step);
            if what == "failed" {
                detail.push_str(&format!(", {}", self.class));
            }
            if !self.message.is_empty() {
                detail.push_str(&format!(": {}", self.message));
            }
            happenings.push(Happening { at_ms: self.ended_ms, token, what, detail });
        }
        happenings
    }
}

/// Adds trials that ended to a sweep's counts.
pub(crate) fn count_finished(status: &mut SweepStatus, state: StateName, trials: u64, reused: bool) {
    match state {
        StateName::Queued => status.queued += trials,
        StateName::Running => status.running += trials,
        StateName::Succeeded => status.succeeded += trials,
        StateName::Diverged => status.diverged += trials,
        StateName::Failed => status.failed += trials,
        StateName::Cancelled => status.cancelled += trials,
    }
    if reused {
        status.reused += trials;
    }
}

/// A sweep that another build planned and that is not over says so instead of what it would be otherwise.
pub(crate) fn note_outdated(status: &mut SweepStatus, sweep: &SweepRow) {
    let is_over = sweep.expanded >= sweep.planned && status.queued == 0;
    if sweep.spec.outdated().is_some() && !is_over && sweep.state == SweepState::Open {
        status.state = "outdated".to_owned();
    }
}

/// What is left of a trial: its checkpoints are deleted once it has an end of its own, and only the attempt that counts left a result.
pub(crate) fn artifacts(line: TrialLine, state: State, mut artifacts: Vec<KeptArtifact>) -> TrialArtifacts {
    if matches!(line.state, StateName::Succeeded | StateName::Diverged) {
        artifacts.retain(|kept| {
            Some(kept.token) == state.token() && kept.artifact.kind != ArtifactKind::Checkpoint
        });
    }
    TrialArtifacts { trial_id: line.trial_id, state: line.state, artifacts }
}

/// Turns trials into steps. Work whose steps are not known beforehand counts one a trial.
pub(crate) fn count_steps(status: &mut SweepStatus, sweep: &SweepRow, steps_running: u64) {
    let finished = status.succeeded + status.diverged + status.failed + status.cancelled;
    let each = sweep.spec.work.steps().map_or(1, |steps| steps + 1);
    // Combinations make no steps, and end after what they are made of.
    let grid = sweep.spec.grid_trials().unwrap_or(u64::MAX).min(status.planned);
    status.steps_planned = grid.saturating_mul(each);
    let running = if sweep.spec.work.steps().is_some() { steps_running } else { 0 };
    status.steps_done = finished.min(grid).saturating_mul(each).saturating_add(running);
}
