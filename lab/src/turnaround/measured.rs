//! The figures of a turn. Pure.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::timed_trainer::TrialTimes;
use crate::statistics::median;

/// Medians over the trials of a turn but its first, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// From the end of one trial's process to the end of the next one's: all that a trial costs its slot.
    pub(super) trial: f64,
    /// From the end of one trial's process to the first update of the next trial.
    pub(super) idle: f64,
    /// Of that: until the next trial's process has its trial.
    pub(super) until_begun: f64,
    /// Until everything is loaded.
    pub(super) loading: f64,
    /// From the first update to the outcome, without evaluations: saving what is kept is part of it.
    pub(super) updates: f64,
    /// From the updates of evaluation steps to their evaluations.
    pub(super) evaluations: f64,
    /// From the outcome to the end of the process.
    pub(super) ending: f64,
}

impl Figures {
    /// Of the trials that one slot ran, in any order.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub(super) fn of(mut trials: Vec<TrialTimes>) -> Result<Self> {
        ensure!(trials.len() > 1, "{} trials ran; at least 2 are needed", trials.len());
        trials.sort_by(|a, b| a.ended.total_cmp(&b.ended));
        let middle = |figure: fn(&TrialTimes, &TrialTimes) -> f64| {
            median(trials.windows(2).map(|pair| figure(&pair[0], &pair[1])).collect()).context("no trials")
        };
        Ok(Self {
            trial: middle(|before, own| own.ended - before.ended)?,
            idle: middle(|before, own| own.first_update - before.ended)?,
            until_begun: middle(|before, own| own.handshake - before.ended)?,
            loading: middle(|_, own| own.fingerprint - own.handshake)?,
            evaluations: middle(|_, own| own.evaluating)?,
            updates: middle(|_, own| own.outcome - own.first_update - own.evaluating)?,
            ending: middle(|_, own| own.ended - own.outcome)?,
        })
    }

    /// The middle of several turns.
    pub(super) fn middle(turns: &[Self]) -> Option<Self> {
        let middle = |figure: fn(&Self) -> f64| median(turns.iter().map(figure).collect());
        Some(Self {
            trial: middle(|turn| turn.trial)?,
            idle: middle(|turn| turn.idle)?,
            until_begun: middle(|turn| turn.until_begun)?,
            loading: middle(|turn| turn.loading)?,
            updates: middle(|turn| turn.updates)?,
            evaluations: middle(|turn| turn.evaluations)?,
            ending: middle(|turn| turn.ending)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_what_lies_between_two_ends() {
        // The process of the second one was started before the first one's ended.
        let times = |begin: f64| TrialTimes {
            handshake: begin,
            fingerprint: begin + 1.0,
            first_update: begin + 1.5,
            last_update: begin + 4.0,
            evaluating: 1.0,
            outcome: begin + 5.0,
            ended: begin + 5.25,
        };
        let figures = Figures::of(vec![times(15.5), times(10.0)]).unwrap();
        let expected = Figures {
            trial: 5.5,
            idle: 1.75,
            until_begun: 0.25,
            loading: 1.0,
            updates: 2.5,
            evaluations: 1.0,
            ending: 0.25,
        };
        assert_eq!(figures, expected);
        let other = Figures { idle: 3.75, ..figures };
        assert_eq!(Figures::middle(&[figures, other, other]).unwrap(), other);
        assert!(Figures::of(vec![times(1.0)]).is_err() && Figures::middle(&[]).is_none());
    }
}
