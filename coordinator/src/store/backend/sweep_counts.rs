//! How far a sweep is: counts of trials and steps, computed alike for every database.

use sortie_core::job::StateName;
use sortie_core::status::SweepState;

use super::{StoredSweepState, SweepRow};
use crate::store::types::SweepStatus;

/// Adds trials that ended to a sweep's counts.
pub(crate) fn count_finished(status: &mut SweepStatus, state: StateName, trials: u64, reused: bool) {
    match state {
        StateName::Blocked => status.blocked += trials,
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

/// A sweep that another build planned and that is not over shows that instead of its own state.
pub(crate) fn note_outdated(status: &mut SweepStatus, sweep: &SweepRow) {
    let is_over = sweep.expanded >= sweep.planned && status.blocked + status.queued == 0;
    if sweep.spec.outdated().is_some() && !is_over && sweep.state == StoredSweepState::Open && !sweep.archived
    {
        status.state = SweepState::Outdated;
    }
}

/// Adds a running trial that is before its first step. Of several the first by its text is shown.
pub(crate) fn note_preparation(status: &mut SweepStatus, preparation: Option<&String>) {
    let Some(preparation) = preparation else { return };
    status.preparing += 1;
    if status.preparation.as_ref().is_none_or(|shown| preparation < shown) {
        status.preparation = Some(preparation.clone());
    }
}

/// Turns trials into steps. Work whose steps are not known beforehand counts one a trial.
pub(crate) fn count_steps(status: &mut SweepStatus, sweep: &SweepRow, steps_running: u64) {
    let finished = status.succeeded + status.diverged + status.failed + status.cancelled;
    // Combinations make no steps, and end after what they are made of.
    let grid = sweep.spec.grid_trials().unwrap_or(u64::MAX).min(status.planned);
    let updates = sweep.spec.updates_planned();
    status.steps_planned = updates.unwrap_or(grid);
    let running = if updates.is_some() { steps_running } else { 0 };
    // Where trials are of several lengths, one that is over counts as their mean.
    let finished =
        u128::from(finished.min(grid)) * u128::from(status.steps_planned) / u128::from(grid.max(1));
    status.steps_done = u64::try_from(finished).unwrap_or(u64::MAX).saturating_add(running);
}
