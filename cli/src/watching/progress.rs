//! What the numbers of a sweep say about its progress.

use std::time::Duration;

use indicatif::HumanDuration;
use sortie_proto::v1::{SweepState, SweepStatus};

/// Trials that have ended.
pub fn ended(status: &SweepStatus) -> u64 {
    status.succeeded + status.diverged + status.failed + status.cancelled
}

/// Whether no trial will change any more. A sweep that is still being stored gets more trials; one that was cancelled before it was stored
/// never gets all that its grid plans.
pub fn is_over(status: &SweepStatus) -> bool {
    match status.state() {
        SweepState::Expanding => false,
        SweepState::Cancelled => status.blocked + status.queued + status.running == 0,
        // This build runs none of what is left, or nobody does before a user takes the sweep back.
        SweepState::Outdated | SweepState::Archived => status.running == 0,
        SweepState::Open | SweepState::Paused | SweepState::Unspecified => {
            status.planned > 0 && ended(status) >= status.planned
        }
    }
}

/// Whether no further trial starts until a user resumes the sweep.
pub fn is_stopped(status: &SweepStatus) -> bool {
    matches!(status.state(), SweepState::Paused | SweepState::Cancelled | SweepState::Archived)
}

/// The time left, from the time that finished attempts took, shared between the trials that run now.
pub fn eta(status: &SweepStatus) -> Option<Duration> {
    let steps_left = status.steps_planned.saturating_sub(status.steps_done) as f64;
    let steps_each = status.steps_planned as f64 / status.planned.max(1) as f64;
    let finished_steps = status.finished_attempts as f64 * steps_each;
    if finished_steps <= 0.0 || status.running == 0 {
        return None;
    }
    let milliseconds_a_step = status.running_ms as f64 / finished_steps;
    Duration::try_from_secs_f64(steps_left * milliseconds_a_step / 1_000.0 / status.running as f64).ok()
}

/// The time left for people, or how the sweep ended, or what it waits for.
pub fn time_left(status: &SweepStatus, eta: Option<Duration>) -> String {
    match eta {
        _ if status.state() == SweepState::Outdated => "another build planned it".to_owned(),
        _ if status.state() == SweepState::Archived && ended(status) < status.planned => {
            "archived".to_owned()
        }
        _ if is_over(status) => outcome(status),
        Some(eta) => HumanDuration(eta).to_string(),
        None if status.running == 0 && status.state() == SweepState::Paused => "paused".to_owned(),
        None if status.running == 0 && status.state() == SweepState::Expanding => "expanding".to_owned(),
        None if status.running == 0 && status.delayed => "waits after a failure".to_owned(),
        None if status.running == 0 && !status.waits_for.is_empty() => status.waits_for.clone(),
        None if status.running == 0 => "waits for a free worker".to_owned(),
        None => "not known yet".to_owned(),
    }
}

/// How a sweep ended: which trials have no result, if any.
fn outcome(status: &SweepStatus) -> String {
    let counts = [(status.failed, "failed"), (status.diverged, "diverged"), (status.cancelled, "cancelled")];
    let without: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if without.is_empty() { "done".to_owned() } else { format!("ended: {}", without.join(", ")) }
}

/// The time left, from the steps that were made while this command watched; none before there are enough of them.
pub fn eta_observed(total: &SweepStatus, first_steps: u64, watched: Duration) -> Option<Duration> {
    let made = total.steps_done.checked_sub(first_steps).filter(|&made| made > 10)?;
    let left = total.steps_planned.saturating_sub(total.steps_done);
    Some(watched.mul_f64(left as f64 / made as f64))
}

/// All of these sweeps together.
pub fn total(sweeps: &[SweepStatus]) -> SweepStatus {
    let mut total = SweepStatus::default();
    for status in sweeps {
        total.planned += status.planned;
        total.blocked += status.blocked;
        total.queued += status.queued;
        total.running += status.running;
        total.preparing += status.preparing;
        if total.preparation.is_empty() {
            total.preparation.clone_from(&status.preparation);
        }
        total.succeeded += status.succeeded;
        total.diverged += status.diverged;
        total.failed += status.failed;
        total.cancelled += status.cancelled;
        total.steps_done += status.steps_done;
        total.steps_planned += status.steps_planned;
        total.running_ms += status.running_ms;
        total.finished_attempts += status.finished_attempts;
        if total.waits_for.is_empty() {
            total.waits_for.clone_from(&status.waits_for);
        }
    }
    let mut waiting = sweeps.iter().filter(|status| status.queued > 0);
    total.delayed = total.queued > 0 && waiting.all(|status| status.delayed);
    // The first state of this list that a sweep has is shown. Without sweeps, nothing is over.
    let least = [
        SweepState::Expanding,
        SweepState::Open,
        SweepState::Paused,
        SweepState::Archived,
        SweepState::Cancelled,
    ];
    let is_left =
        |state: &SweepState| sweeps.iter().any(|status| status.state() == *state && !is_over(status));
    let all_over = if sweeps.is_empty() { SweepState::Open } else { SweepState::Cancelled };
    total.set_state(least.into_iter().find(is_left).unwrap_or(all_over));
    total
}

/// The progress in one line.
pub fn line(total: &SweepStatus, eta: Option<Duration>) -> String {
    let mut line = format!("{}/{} trials done, {} running", total.succeeded, total.planned, total.running);
    if !total.preparation.is_empty() {
        line.push_str(&format!(" ({})", total.preparation));
    }
    for (count, what) in
        [(total.failed, "failed"), (total.diverged, "diverged"), (total.cancelled, "cancelled")]
    {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if !is_over(total) {
        line.push_str(&format!(", time left: {}", time_left(total, eta)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_done() -> SweepStatus {
        SweepStatus {
            sweep: "pacs".into(),
            state: SweepState::Open.into(),
            planned: 4,
            running: 2,
            queued: 1,
            succeeded: 1,
            steps_done: 150,
            steps_planned: 400,
            running_ms: 10_000,
            finished_attempts: 1,
            ..SweepStatus::default()
        }
    }

    #[test]
    fn time_left_comes_from_finished_attempts_or_from_what_was_watched() {
        let status = half_done();
        assert_eq!(eta(&status), Some(Duration::from_millis(12_500)));
        assert_eq!(eta_observed(&status, 100, Duration::from_secs(5)), Some(Duration::from_secs(25)));
        assert_eq!(eta_observed(&status, 145, Duration::from_secs(5)), None);
        assert_eq!(eta(&SweepStatus { running: 0, ..status.clone() }), None);
        let idle = SweepStatus { running: 0, ..status };
        assert_eq!(time_left(&idle, None), "waits for a free worker");
        let held_up = SweepStatus { waits_for: "no worker has tag a100".into(), ..idle.clone() };
        assert_eq!(time_left(&held_up, None), "no worker has tag a100");
        assert_eq!(time_left(&total(&[held_up]), None), "no worker has tag a100");
        let delayed = SweepStatus { delayed: true, ..idle.clone() };
        assert_eq!(time_left(&delayed, None), "waits after a failure");
        assert!(
            total(&[delayed.clone(), SweepStatus::default()]).delayed
                && !total(&[delayed, idle.clone()]).delayed
        );
        assert_eq!(time_left(&SweepStatus { state: SweepState::Paused.into(), ..idle }, None), "paused");
        let over = SweepStatus { queued: 0, running: 0, succeeded: 4, ..half_done() };
        assert_eq!(time_left(&over, None), "done");
        let over = SweepStatus { succeeded: 1, failed: 2, cancelled: 1, ..over };
        assert_eq!(time_left(&over, None), "ended: 2 failed, 1 cancelled");
    }

    #[test]
    fn a_sweep_is_over_when_no_trial_is_left_and_none_can_come() {
        let ended =
            SweepStatus { queued: 0, running: 0, diverged: 1, failed: 1, cancelled: 1, ..half_done() };
        let over = SweepStatus { succeeded: 1, ..ended };
        assert!(is_over(&over) && !is_over(&SweepStatus { cancelled: 0, ..over.clone() }));
        assert!(!is_over(&SweepStatus { state: SweepState::Expanding.into(), ..over.clone() }));
        let cut_short = SweepStatus {
            state: SweepState::Cancelled.into(),
            planned: 9,
            queued: 0,
            running: 0,
            ..over.clone()
        };
        assert!(is_over(&cut_short) && !is_over(&SweepStatus { running: 1, ..cut_short.clone() }));
        // One sweep that goes on keeps all of them from being over.
        let expanding = SweepStatus { state: SweepState::Expanding.into(), ..over.clone() };
        assert!(is_over(&total(&[over.clone(), cut_short.clone()])));
        assert!(
            !is_over(&total(&[over.clone(), expanding]))
                && !is_over(&total(&[cut_short, half_done()]))
                && !is_over(&total(&[]))
        );
    }
}
