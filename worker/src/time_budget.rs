//! What may still be started before the worker's time is up: a batch job that ends in ten minutes starts no trial that takes an hour.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Durations that are remembered of one sweep, and sweeps.
const DURATIONS_MAX: usize = 32;
const SWEEPS_MAX: usize = 64;

/// Which trials to request from the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrialRequest {
    /// Trials of any sweep that the worker may serve, within so long.
    Any(Option<Duration>),
    /// Trials of this sweep, the only one known to be short enough, within so long.
    Only(String, Duration),
    /// Nothing: no trial would finish.
    Nothing,
}

/// The end of the worker's time, and how long trials take.
#[derive(Debug)]
pub(crate) struct TimeBudget {
    ends: Option<Instant>,
    for_unknown: Duration,
    /// Of each sweep, the one that finished a trial last at the end; of each, the newest durations.
    sweeps: Vec<(String, VecDeque<Duration>)>,
}

impl TimeBudget {
    /// Time until then; without an end if none. So much of it must be left for a trial of a sweep of which none has finished here.
    pub(crate) fn new(ends: Option<Instant>, for_unknown: Duration) -> Self {
        Self { ends, for_unknown, sweeps: Vec::new() }
    }

    /// A trial of this sweep succeeded after so long.
    pub(crate) fn finished(&mut self, sweep: String, took: Duration) {
        let known = self.sweeps.iter().position(|(name, _)| *name == sweep);
        let mut durations = known.map_or_else(VecDeque::new, |index| self.sweeps.remove(index).1);
        if durations.len() == DURATIONS_MAX {
            durations.pop_front();
        }
        durations.push_back(took);
        if self.sweeps.len() == SWEEPS_MAX {
            self.sweeps.remove(0);
        }
        self.sweeps.push((sweep, durations));
    }

    /// The request to make now for a worker that serves only this sweep, or any.
    pub(crate) fn ask(&self, now: Instant, only: Option<&str>) -> TrialRequest {
        let Some(ends) = self.ends else {
            return TrialRequest::Any(None);
        };
        let left = ends.saturating_duration_since(now);
        let served = self.sweeps.iter().filter(|(name, _)| only.is_none_or(|only| only == name));
        let needed: Vec<(&str, Duration)> =
            served.map(|(name, durations)| (name.as_str(), median(durations))).collect();
        let longest = needed.iter().map(|(_, needed)| *needed).max().unwrap_or(self.for_unknown);
        if left >= longest {
            return TrialRequest::Any(Some(left - longest));
        }
        // A request for any sweep would get the next trial, which may be too long. A request for this sweep gets one that fits.
        match needed.into_iter().rev().find(|(_, needed)| *needed <= left) {
            Some((name, needed)) => TrialRequest::Only(name.to_owned(), left - needed),
            None => TrialRequest::Nothing,
        }
    }
}

/// The middle one; the upper of two.
fn median(durations: &VecDeque<Duration>) -> Duration {
    let mut sorted: Vec<Duration> = durations.iter().copied().collect();
    sorted.sort_unstable();
    // Every known sweep has one.
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_finish_is_not_asked_for() {
        let now = Instant::now();
        let at = |left: u64| now + seconds(1_000 - left);
        let mut budget = TimeBudget::new(Some(now + seconds(1_000)), seconds(60));
        assert_eq!(budget.ask(at(60), None), TrialRequest::Any(Some(seconds(0))));
        assert_eq!(budget.ask(at(59), None), TrialRequest::Nothing);
        for took in [5, 300, 100, 400, 1] {
            budget.finished("long".into(), seconds(took));
        }
        assert_eq!(
            (budget.ask(at(101), None), budget.ask(at(99), None)),
            (TrialRequest::Any(Some(seconds(1))), TrialRequest::Nothing)
        );
        budget.finished("short".into(), seconds(3));
        assert_eq!(budget.ask(at(101), None), TrialRequest::Any(Some(seconds(1))));
        assert_eq!(budget.ask(at(99), None), TrialRequest::Only("short".into(), seconds(96)));
        assert_eq!(
            (budget.ask(at(99), Some("long")), budget.ask(at(2), None)),
            (TrialRequest::Nothing, TrialRequest::Nothing)
        );
        assert_eq!(budget.ask(at(59), Some("new")), TrialRequest::Nothing);
        assert_eq!(budget.ask(now + seconds(9_999), None), TrialRequest::Nothing);
        assert_eq!(TimeBudget::new(None, seconds(60)).ask(now, None), TrialRequest::Any(None));
    }

    #[tokio::test(start_paused = true)]
    async fn it_remembers_a_bounded_past() {
        let now = Instant::now();
        let mut budget = TimeBudget::new(Some(now + seconds(100)), seconds(60));
        for trial in 0..1_000 {
            budget.finished("one".into(), seconds(if trial < 900 { 500 } else { 10 }));
            budget.finished(format!("sweep {trial}"), seconds(1));
        }
        assert_eq!(budget.ask(now, Some("one")), TrialRequest::Any(Some(seconds(90))));
        assert_eq!(budget.sweeps.len(), SWEEPS_MAX);
    }
}
