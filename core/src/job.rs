//! The states of a trial as a pure state machine: `apply(state, event, now)` decides, and the store writes the decision.
//!
//! A fencing token names one attempt and is never issued twice, so the reports of one attempt are never taken for those of a later one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::combine::Readiness;
use crate::keys::AttemptToken;
use crate::named;

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

/// Why an attempt ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Something that may not fail the next time.
    Transient,
    /// The worker was asked to stop and gave the trial back.
    Preempted,
    /// The lease expired: the worker died, hung, or lost its network.
    Lost,
    /// The device's or the machine's memory was not enough.
    OutOfMemory,
    /// The specification cannot run anywhere.
    BadConfig,
    /// The data cannot be understood.
    BadData,
    /// This machine lacks something that others may have: a library, a program, a path, room on a disk, a permission.
    Machine,
    /// One of this machine's devices does not work any more.
    Device,
    /// The attempt made no progress for longer than its sweep allows.
    Stalled,
    /// A sweep's own program ended by itself with an error.
    Crashed,
}
named!(ErrorClass, "error class", {
    Transient => "transient",
    Preempted => "preempted",
    Lost => "lost",
    OutOfMemory => "out-of-memory",
    BadConfig => "bad-config",
    BadData => "bad-data",
    Machine => "machine",
    Device => "device",
    Stalled => "stalled",
    Crashed => "crashed",
});

/// Where the cause of a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// In the trial: it is the same everywhere.
    Trial,
    /// In the machine, for the trial's kind of work. It costs the trial nothing.
    Machine,
    /// In the machine's devices. It costs the trial nothing.
    Device,
    /// In the trial on this device: a larger one may run it.
    TrialOnDevice,
    /// Unknown: it counts against both.
    Unknown,
    /// Nowhere: nothing is wrong with either.
    Nobody,
}

/// When a failed attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts may end like this before the trial fails; none if such attempts do not count.
    pub attempts_max: Option<u32>,
    /// The wait before the second attempt; it doubles with every further failure of the class.
    pub first_delay: Duration,
}

/// No failed trial waits nominally longer than this.
const DELAY_MAX: Duration = Duration::from_secs(600);
/// No failed trial waits longer than this.
pub const WAIT_MAX: Duration = Duration::from_secs(900);

impl ErrorClass {
    /// What the class does to a trial.
    pub fn policy(self) -> RetryPolicy {
        let policy =
            |attempts_max, seconds| RetryPolicy { attempts_max, first_delay: Duration::from_secs(seconds) };
        match self {
            Self::Preempted => policy(None, 0),
            // A trial that crashes its workers must end at some time; lost machines must not end it.
            Self::Lost => policy(Some(100), 0),
            Self::Transient => policy(Some(3), 2),
            // Other processes may have freed memory by then.
            Self::OutOfMemory => policy(Some(3), 20),
            Self::BadConfig => policy(Some(1), 0),
            // Once more, on another machine if there is one.
            Self::BadData | Self::Stalled | Self::Crashed => policy(Some(2), 0),
            Self::Machine | Self::Device => policy(None, 0),
        }
    }

    /// What the class does to a trial whose sweep may say how often programs that crash are tried again.
    pub fn policy_with(self, retries: Option<u32>) -> RetryPolicy {
        match (self, retries) {
            (Self::Crashed, Some(retries)) => {
                RetryPolicy { attempts_max: Some(retries.saturating_add(1)), ..self.policy() }
            }
            _ => self.policy(),
        }
    }

    /// Where the cause of an attempt's end like this lies.
    pub fn blame(self) -> Blame {
        match self {
            Self::BadConfig => Blame::Trial,
            Self::Machine => Blame::Machine,
            Self::Device => Blame::Device,
            Self::OutOfMemory => Blame::TrialOnDevice,
            Self::Transient | Self::BadData | Self::Stalled | Self::Crashed => Blame::Unknown,
            Self::Preempted | Self::Lost => Blame::Nobody,
        }
    }
}

impl RetryPolicy {
    /// Whether a trial that failed so often before ends with another failure of the class.
    pub fn exhausted(self, failures: u32) -> bool {
        self.attempts_max.is_some_and(|max| failures.saturating_add(1) >= max)
    }

    /// The wait after this many earlier failures, between half and one and a half times its nominal length: trials that failed together
    /// are not retried together. `jitter` is any number.
    pub fn delay(self, failures: u32, jitter: u64) -> Duration {
        let nominal =
            self.first_delay.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(1)).min(DELAY_MAX);
        nominal.mul_f64(0.5 + (jitter % 1_000) as f64 / 1_000.0)
    }
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
    },
    /// An attempt has it.
    Running {
        /// The attempt.
        token: AttemptToken,
        /// When the lease ends unless a heartbeat extends it.
        expires_at: Timestamp,
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
    pub const FRESH: Self = Self::Queued { lost: None, not_before: None };

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
    let running = |token| State::Running { token, expires_at: now.plus(lease) };
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
            State::Running { token, expires_at } if expires_at <= now => Ok(Decision::Move(
                after_failure(token, ErrorClass::Lost, *past, now),
                Some(Effect::End(token, AttemptEnd::Lost)),
            )),
            _ => Ok(Decision::Stay),
        },
        Event::Cancel => Ok(match state {
            State::Finished(_) => Decision::Stay,
            State::Blocked | State::Queued { .. } => {
                Decision::Move(State::Finished(Finished::Cancelled), None)
            }
            State::Running { token, .. } => Decision::Move(
                State::Finished(Finished::Cancelled),
                Some(Effect::End(token, AttemptEnd::Cancelled)),
            ),
        }),
        Event::Retry { combination } => Ok(match state {
            State::Finished(Finished::Diverged(_) | Finished::Failed(_) | Finished::Cancelled) => {
                let next = if *combination { State::Blocked } else { State::FRESH };
                Decision::Move(next, Some(Effect::ResetFailures))
            }
            // A trial that waits after a failure runs now.
            State::Queued { lost, not_before: Some(earliest) } if earliest > now => {
                Decision::Move(State::Queued { lost, not_before: None }, Some(Effect::ResetFailures))
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

fn after_failure(token: AttemptToken, class: ErrorClass, past: FailureHistory, now: Timestamp) -> State {
    let policy = class.policy_with(past.retries);
    if policy.exhausted(past.failures) {
        return State::Finished(Finished::Failed(Some(token)));
    }
    // Only a lost attempt may still report; one that reported its end must not.
    let lost = (class == ErrorClass::Lost).then_some(token);
    let delay = policy.delay(past.failures, past.jitter);
    State::Queued { lost, not_before: (!delay.is_zero()).then(|| now.plus(delay)) }
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
        Outcome::Diverged { .. } => State::Finished(Finished::Diverged(token)),
        Outcome::Failed { class, .. } => after_failure(token, *class, past, now),
    };
    Ok(Decision::Move(next, Some(Effect::End(token, AttemptEnd::Reported(outcome.clone())))))
}

#[cfg(test)]
mod tests;
