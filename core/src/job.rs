//! The states of a trial as a pure state machine: `apply(state, event, now)` decides, and the store writes the decision.
//!
//! A fencing token names one attempt and is never issued twice, so the reports of one attempt are never taken for those of a later one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::combine::Readiness;
use crate::keys::AttemptToken;
use crate::named;

mod failure;

pub use failure::{Blame, ErrorClass, RetryPolicy, WAIT_MAX};

/// A point in time, in milliseconds since the Unix epoch, as the coordinator's clock gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and a duration.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(milliseconds(duration)))
    }

    /// This time less a duration.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(milliseconds(duration)))
    }

    /// The duration from an earlier time to this one; zero if that one is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// How a finished attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// All steps were made; the evaluations reported under this token are the trial's result.
    Succeeded,
    /// The training loss stopped being a number at this step.
    Diverged {
        /// The step of the first loss that is NaN or infinite.
        step: u64,
    },
    /// No result.
    Failed {
        /// What decides whether it is tried again.
        class: ErrorClass,
        /// One line for people.
        message: String,
    },
}

/// The name of a trial's state, in tables, columns and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// A combination whose members do not all have a result yet.
    Blocked,
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It has a result.
    Succeeded,
    /// Its loss stopped being a number.
    Diverged,
    /// Its attempts are used up.
    Failed,
    /// A user cancelled it.
    Cancelled,
}
named!(StateName, "trial state", {
    Blocked => "blocked",
    Queued => "queued",
    Running => "running",
    Succeeded => "succeeded",
    Diverged => "diverged",
    Failed => "failed",
    Cancelled => "cancelled",
});

/// A trial's state with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A combination whose members do not all have a result yet.
    Blocked,
    /// Waits for a worker.
    Queued {
        /// The attempt whose lease expired last, if no other has started since: it may still report.
        lost: Option<AttemptToken>,
        /// After a failure: it is not assigned earlier.
        not_before: Option<Timestamp>,
        /// The attempt whose result counts until another succeeds, of a trial that runs again for its files.
        earlier: Option<AttemptToken>,
    },
    /// An attempt has it.
    Running {
        /// The attempt.
        token: AttemptToken,
        /// When the lease ends unless a heartbeat extends it.
        expires_at: Timestamp,
        /// See above.
        earlier: Option<AttemptToken>,
    },
    /// It does not change any more unless a user retries it.
    Finished(Finished),
}

/// The ends of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It has a result, reported under this token: its own attempt's, or that of the same trial in another sweep.
    Succeeded(AttemptToken),
    /// Its loss stopped being a number in this attempt.
    Diverged(AttemptToken),
    /// Its attempts are used up; this was the last. None for a combination whose members ended without a result.
    Failed(Option<AttemptToken>),
    /// A user cancelled it.
    Cancelled,
}

impl Finished {
    fn token(self) -> Option<AttemptToken> {
        match self {
            Self::Succeeded(token) | Self::Diverged(token) => Some(token),
            Self::Failed(token) => token,
            Self::Cancelled => None,
        }
    }
}

impl State {
    /// The state of a new trial, and of one that starts anew.
    pub const FRESH: Self = Self::Queued { lost: None, not_before: None, earlier: None };

    /// The state's name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Blocked => StateName::Blocked,
            Self::Queued { .. } => StateName::Queued,
            Self::Running { .. } => StateName::Running,
            Self::Finished(Finished::Succeeded(_)) => StateName::Succeeded,
            Self::Finished(Finished::Diverged(_)) => StateName::Diverged,
            Self::Finished(Finished::Failed(_)) => StateName::Failed,
            Self::Finished(Finished::Cancelled) => StateName::Cancelled,
        }
    }

    /// After a failure: the earliest time of the next attempt.
    pub fn not_before(&self) -> Option<Timestamp> {
        if let Self::Queued { not_before, .. } = self { *not_before } else { None }
    }

    /// Of a trial that runs again for its files: the attempt whose result counts until another succeeds.
    pub fn earlier(&self) -> Option<AttemptToken> {
        match self {
            Self::Queued { earlier, .. } | Self::Running { earlier, .. } => *earlier,
            Self::Blocked | Self::Finished(_) => None,
        }
    }

    /// The attempt whose evaluations are the trial's result, if it has one.
    pub fn accepted(&self) -> Option<AttemptToken> {
        match self {
            Self::Finished(Finished::Succeeded(token)) => Some(*token),
            other => other.earlier(),
        }
    }

    /// This end, unless an earlier result counts: no trial loses that.
    fn or_earlier(&self, end: Finished) -> Self {
        Self::Finished(self.earlier().map_or(end, Finished::Succeeded))
    }

    /// The attempt that the state names, if any.
    pub fn token(&self) -> Option<AttemptToken> {
        match self {
            Self::Blocked => None,
            Self::Queued { lost, .. } => *lost,
            Self::Running { token, .. } => Some(*token),
            Self::Finished(finished) => finished.token(),
        }
    }
}

/// An event of a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker takes it, under a new token.
    Claim(AttemptToken),
    /// The same trial has succeeded in another sweep, under this token.
    Reuse(AttemptToken),
    /// The attempt is alive: a heartbeat or a report.
    Heartbeat(AttemptToken),
    /// The attempt reports its end.
    Complete {
        /// The attempt.
        token: AttemptToken,
        /// How it ended.
        outcome: Outcome,
        /// What the retry policy needs.
        past: FailureHistory,
    },
    /// The reaper checks its lease.
    Reap(FailureHistory),
    /// A user cancels it.
    Cancel,
    /// A user wants a trial that ended without a result to run again.
    Retry {
        /// It is a combination, which is blocked until its members have a result.
        combination: bool,
    },
    /// Its result lacks files that its sweep keeps: it runs again. The result counts until another attempt succeeds.
    Again,
    /// The members of a combination have changed.
    Members(Readiness),
}

/// Earlier failures of the trial, for the retry policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureHistory {
    /// The trial's earlier attempts that ended with the same error class since a user last asked for a retry.
    pub failures: u32,
    /// Any number; see [`RetryPolicy::delay`].
    pub jitter: u64,
    /// How often the sweep wants programs that crash to be tried again, if it says so.
    pub retries: Option<u32>,
}

/// What the store has to do besides storing the trial's new state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A new attempt begins.
    Start(AttemptToken),
    /// An attempt whose lease had expired goes on.
    Revive(AttemptToken),
    /// An attempt ends.
    End(AttemptToken, AttemptEnd),
    /// Earlier failures are no longer counted.
    ResetFailures,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// With this outcome, which it reported.
    Reported(Outcome),
    /// Its lease ran out.
    Lost,
    /// A user cancelled its trial.
    Cancelled,
}

/// What the state machine decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The trial moves to this state, and this is done besides.
    Move(State, Option<Effect>),
    /// A repeated event, or nothing to do: the state stays, and the caller gets a success.
    Stay,
}

/// An event that the trial's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token's attempt no longer has the trial.
    #[error("this attempt no longer holds its trial")]
    Stale(AttemptToken),
    /// Only queued trials can be taken.
    #[error("the trial is {0}, not queued")]
    NotQueued(StateName),
}

/// Decides what an event does to a trial. `lease` is the duration of a lease after a heartbeat or a claim.
///
/// # Errors
/// [`Refused`] when the state does not allow the event; nothing changes then.
pub fn apply(state: State, event: &Event, now: Timestamp, lease: Duration) -> Result<Decision, Refused> {
    let running = |token| State::Running { token, expires_at: now.plus(lease), earlier: state.earlier() };
    match event {
        Event::Claim(token) => match state {
            State::Queued { not_before, .. } if not_before.is_none_or(|earliest| earliest <= now) => {
                Ok(Decision::Move(running(*token), Some(Effect::Start(*token))))
            }
            other => Err(Refused::NotQueued(other.name())),
        },
        Event::Reuse(token) => match state {
            State::Blocked | State::Queued { .. } => {
                Ok(Decision::Move(State::Finished(Finished::Succeeded(*token)), None))
            }
            other => Err(Refused::NotQueued(other.name())),
        },
        Event::Heartbeat(token) => {
            // An expired lease is revived by its own token if no other attempt has started.
            let revived = matches!(state, State::Queued { .. }).then_some(Effect::Revive(*token));
            if holds(state, *token) {
                Ok(Decision::Move(running(*token), revived))
            } else {
                Err(Refused::Stale(*token))
            }
        }
        Event::Complete { token, outcome, past } => complete(state, *token, outcome, *past, now),
        Event::Reap(past) => match state {
            State::Running { token, expires_at, .. } if expires_at <= now => Ok(Decision::Move(
                after_failure(state, token, ErrorClass::Lost, *past, now),
                Some(Effect::End(token, AttemptEnd::Lost)),
            )),
            _ => Ok(Decision::Stay),
        },
        Event::Cancel => Ok(match state {
            State::Finished(_) => Decision::Stay,
            State::Blocked | State::Queued { .. } => {
                Decision::Move(state.or_earlier(Finished::Cancelled), None)
            }
            State::Running { token, .. } => Decision::Move(
                state.or_earlier(Finished::Cancelled),
                Some(Effect::End(token, AttemptEnd::Cancelled)),
            ),
        }),
        Event::Retry { combination } => Ok(match state {
            State::Finished(Finished::Diverged(_) | Finished::Failed(_) | Finished::Cancelled) => {
                let next = if *combination { State::Blocked } else { State::FRESH };
                Decision::Move(next, Some(Effect::ResetFailures))
            }
            // A trial that waits after a failure runs now.
            State::Queued { lost, not_before: Some(earliest), earlier } if earliest > now => {
                Decision::Move(State::Queued { lost, not_before: None, earlier }, Some(Effect::ResetFailures))
            }
            _ => Decision::Stay,
        }),
        Event::Again => Ok(match state {
            State::Finished(Finished::Succeeded(token)) => {
                let next = State::Queued { lost: None, not_before: None, earlier: Some(token) };
                Decision::Move(next, Some(Effect::ResetFailures))
            }
            _ => Decision::Stay,
        }),
        Event::Members(readiness) => Ok(match (state, readiness) {
            (State::Blocked, Readiness::Ready) => Decision::Move(State::FRESH, None),
            (State::Blocked, Readiness::Impossible) => {
                Decision::Move(State::Finished(Finished::Failed(None)), None)
            }
            _ => Decision::Stay,
        }),
    }
}

fn holds(state: State, by: AttemptToken) -> bool {
    !matches!(state, State::Finished(_)) && state.token() == Some(by)
}

fn after_failure(
    state: State,
    token: AttemptToken,
    class: ErrorClass,
    past: FailureHistory,
    now: Timestamp,
) -> State {
    let policy = class.policy_with(past.retries);
    if policy.exhausted(past.failures) {
        return state.or_earlier(Finished::Failed(Some(token)));
    }
    // Only a lost attempt may still report; one that reported its end must not.
    let lost = (class == ErrorClass::Lost).then_some(token);
    let delay = policy.delay(past.failures, past.jitter);
    let not_before = (!delay.is_zero()).then(|| now.plus(delay));
    State::Queued { lost, not_before, earlier: state.earlier() }
}

fn complete(
    state: State,
    token: AttemptToken,
    outcome: &Outcome,
    past: FailureHistory,
    now: Timestamp,
) -> Result<Decision, Refused> {
    if let State::Finished(finished) = state
        && finished.token() == Some(token)
    {
        return Ok(Decision::Stay);
    }
    if !holds(state, token) {
        return Err(Refused::Stale(token));
    }
    let next = match outcome {
        Outcome::Succeeded => State::Finished(Finished::Succeeded(token)),
        Outcome::Diverged { .. } => state.or_earlier(Finished::Diverged(token)),
        Outcome::Failed { class, .. } => after_failure(state, token, *class, past, now),
    };
    Ok(Decision::Move(next, Some(Effect::End(token, AttemptEnd::Reported(outcome.clone())))))
}

#[cfg(test)]
mod tests;
