//! The life of a trial as a pure state machine: `apply(state, event, now)` decides, the store writes down what it decided.
//!
//! A fencing token names one attempt and is never issued twice, so whatever an attempt says can be told from what a later one says.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::named;

/// A point in time, in milliseconds since the Unix epoch, as the coordinator's clock gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and a duration.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Names one attempt at one trial. Tokens grow and are never reissued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an attempt ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Something that may go better the next time.
    Transient,
    /// The worker was asked to stop and handed the trial back.
    Preempted,
    /// The lease expired: the worker died, hung, or lost its network.
    Lost,
    /// The device's or the machine's memory was not enough.
    OutOfMemory,
    /// The specification cannot run on this worker.
    BadConfig,
    /// The data is not there or not readable.
    BadData,
}
named!(ErrorClass, "error class", {
    Transient => "transient",
    Preempted => "preempted",
    Lost => "lost",
    OutOfMemory => "out-of-memory",
    BadConfig => "bad-config",
    BadData => "bad-data",
});

impl ErrorClass {
    /// How many attempts may end like this before the trial fails; none for what costs the trial nothing.
    pub fn attempts_max(self) -> Option<u32> {
        match self {
            Self::Preempted => None,
            // A trial that takes its worker down with it must end some day; machines that come and go must not end it.
            Self::Lost => Some(100),
            Self::Transient | Self::OutOfMemory => Some(3),
            Self::BadConfig | Self::BadData => Some(1),
        }
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
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Leased,
    /// It has a result.
    Succeeded,
    /// Its loss stopped being a number.
    Diverged,
    /// Its attempts are used up.
    Failed,
}
named!(StateName, "trial state", {
    Queued => "queued",
    Leased => "leased",
    Succeeded => "succeeded",
    Diverged => "diverged",
    Failed => "failed",
});

/// A trial's state with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker.
    Queued {
        /// The attempt whose lease expired last, if nobody has taken the trial since: it may come back.
        expired: Option<Token>,
    },
    /// An attempt has it.
    Leased {
        /// The attempt.
        token: Token,
        /// When the lease ends unless a heartbeat extends it.
        expires_at: Timestamp,
    },
    /// Nothing more will happen to it.
    Finished(Finished),
}

/// The ends of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It has a result, reported under this token.
    Succeeded(Token),
    /// Its loss stopped being a number in this attempt.
    Diverged(Token),
    /// Its attempts are used up; this was the last.
    Failed(Token),
}

impl Finished {
    fn token(self) -> Token {
        match self {
            Self::Succeeded(token) | Self::Diverged(token) | Self::Failed(token) => token,
        }
    }
}

impl State {
    /// The state's name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Queued { .. } => StateName::Queued,
            Self::Leased { .. } => StateName::Leased,
            Self::Finished(Finished::Succeeded(_)) => StateName::Succeeded,
            Self::Finished(Finished::Diverged(_)) => StateName::Diverged,
            Self::Finished(Finished::Failed(_)) => StateName::Failed,
        }
    }
}

/// What happens to a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker takes it, under a new token.
    Claim(Token),
    /// The attempt says that it is alive, or reports.
    Heartbeat(Token),
    /// The attempt says that it ended. `failures` counts the trial's earlier attempts that ended with the same error class.
    Complete {
        /// The attempt.
        token: Token,
        /// How it ended.
        outcome: Outcome,
        /// Earlier attempts that ended with the same error class.
        failures: u32,
    },
    /// The reaper looks at it. `failures` counts the trial's earlier attempts that were lost.
    Reap {
        /// Earlier attempts that were lost.
        failures: u32,
    },
}

/// What the state machine decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The trial moves to this state.
    Move(State),
    /// Said before, or nothing to do: the state stays, and whoever asked is told that all is well.
    Stay,
}

/// An event that the trial's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token's attempt no longer has the trial.
    #[error("attempt {0} no longer holds this trial")]
    Stale(Token),
    /// Only queued trials can be taken.
    #[error("the trial is {0}, not queued")]
    NotQueued(StateName),
}

/// Decides what an event does to a trial. `lease` is the time that a heartbeat or a claim buys.
///
/// # Errors
/// [`Refused`] when the state does not allow the event; nothing changes then.
pub fn apply(state: State, event: &Event, now: Timestamp, lease: Duration) -> Result<Decision, Refused> {
    let leased = |token| Decision::Move(State::Leased { token, expires_at: now.plus(lease) });
    match event {
        Event::Claim(token) => match state {
            State::Queued { .. } => Ok(leased(*token)),
            other => Err(Refused::NotQueued(other.name())),
        },
        Event::Heartbeat(token) => {
            // A lease past its expiry that nobody else got is revived by its own token.
            if holds(state, *token) { Ok(leased(*token)) } else { Err(Refused::Stale(*token)) }
        }
        Event::Complete { token, outcome, failures } => complete(state, *token, outcome, *failures),
        Event::Reap { failures } => match state {
            State::Leased { token, expires_at } if expires_at <= now => Ok(Decision::Move(if exhausted(ErrorClass::Lost, *failures) {
                State::Finished(Finished::Failed(token))
            } else {
                State::Queued { expired: Some(token) }
            })),
            _ => Ok(Decision::Stay),
        },
    }
}

fn holds(state: State, by: Token) -> bool {
    match state {
        State::Leased { token, .. } => token == by,
        State::Queued { expired } => expired == Some(by),
        State::Finished(_) => false,
    }
}

fn exhausted(class: ErrorClass, failures: u32) -> bool {
    class.attempts_max().is_some_and(|max| failures.saturating_add(1) >= max)
}

fn complete(state: State, token: Token, outcome: &Outcome, failures: u32) -> Result<Decision, Refused> {
    if let State::Finished(finished) = state
        && finished.token() == token
    {
        return Ok(Decision::Stay);
    }
    if !holds(state, token) {
        return Err(Refused::Stale(token));
    }
    Ok(Decision::Move(match outcome {
        Outcome::Succeeded => State::Finished(Finished::Succeeded(token)),
        Outcome::Diverged { .. } => State::Finished(Finished::Diverged(token)),
        Outcome::Failed { class, .. } if exhausted(*class, failures) => State::Finished(Finished::Failed(token)),
        // The attempt is over: it must not come back as an expired one could.
        Outcome::Failed { .. } => State::Queued { expired: None },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(10);
    const NOW: Timestamp = Timestamp(1_000_000);
    const OLD: Token = Token(1);
    const NEW: Token = Token(2);

    fn leased(token: Token) -> State {
        State::Leased { token, expires_at: NOW.plus(LEASE) }
    }

    fn complete(token: Token, outcome: Outcome, failures: u32) -> Event {
        Event::Complete { token, outcome, failures }
    }

    fn failed(class: ErrorClass) -> Outcome {
        Outcome::Failed { class, message: String::new() }
    }

    #[test]
    fn an_expired_lease_is_revived_by_its_own_token_until_somebody_else_has_it() {
        let later = NOW.plus(LEASE * 2);
        let expired = apply(leased(OLD), &Event::Reap { failures: 0 }, later, LEASE);
        assert_eq!(expired, Ok(Decision::Move(State::Queued { expired: Some(OLD) })));
        let queued = State::Queued { expired: Some(OLD) };
        assert_eq!(apply(queued, &Event::Heartbeat(OLD), NOW, LEASE), Ok(Decision::Move(leased(OLD))));
        assert_eq!(apply(queued, &Event::Claim(NEW), NOW, LEASE), Ok(Decision::Move(leased(NEW))));
        for event in [Event::Heartbeat(OLD), complete(OLD, Outcome::Succeeded, 0)] {
            assert_eq!(apply(leased(NEW), &event, NOW, LEASE), Err(Refused::Stale(OLD)));
        }
    }

    #[test]
    fn completing_twice_is_once_and_a_stale_token_never_completes() {
        let done = State::Finished(Finished::Succeeded(NEW));
        assert_eq!(apply(leased(NEW), &complete(NEW, Outcome::Succeeded, 0), NOW, LEASE), Ok(Decision::Move(done)));
        assert_eq!(apply(done, &complete(NEW, Outcome::Succeeded, 0), NOW, LEASE), Ok(Decision::Stay));
        assert_eq!(apply(done, &complete(OLD, Outcome::Succeeded, 0), NOW, LEASE), Err(Refused::Stale(OLD)));
        assert_eq!(apply(done, &Event::Claim(NEW), NOW, LEASE), Err(Refused::NotQueued(StateName::Succeeded)));
    }

    #[test]
    fn each_error_class_has_its_budget() {
        let end = |class, failures| match apply(leased(OLD), &complete(OLD, failed(class), failures), NOW, LEASE) {
            Ok(Decision::Move(state)) => state.name(),
            other => panic!("{other:?}"),
        };
        assert_eq!(end(ErrorClass::BadData, 0), StateName::Failed);
        assert_eq!(end(ErrorClass::Transient, 1), StateName::Queued);
        assert_eq!(end(ErrorClass::Transient, 2), StateName::Failed);
        assert_eq!(end(ErrorClass::Preempted, 1_000_000), StateName::Queued);
    }

    #[test]
    fn the_reaper_leaves_live_leases_alone() {
        assert_eq!(apply(leased(OLD), &Event::Reap { failures: 0 }, NOW, LEASE), Ok(Decision::Stay));
    }

    fn any_event() -> impl Strategy<Value = (u8, i64, u8)> {
        (0..5_u8, 1..4_i64, 0..30_u8)
    }

    proptest! {
        /// Whatever is said in whatever order, a finished trial stays finished, and only the token that held the trial finishes it.
        #[test]
        fn a_finished_trial_never_moves(events in proptest::collection::vec(any_event(), 1..60)) {
            let (mut state, mut now, mut issued) = (State::Queued { expired: None }, NOW, 0);
            for (kind, token, seconds) in events {
                now = now.plus(Duration::from_secs(u64::from(seconds)));
                let event = match kind {
                    0 => { issued += 1; Event::Claim(Token(issued)) }
                    1 => Event::Heartbeat(Token(token)),
                    2 => complete(Token(token), Outcome::Succeeded, 0),
                    3 => complete(Token(token), failed(ErrorClass::Transient), 0),
                    _ => Event::Reap { failures: 0 },
                };
                let Ok(Decision::Move(next)) = apply(state, &event, now, LEASE) else { continue };
                prop_assert!(!matches!(state, State::Finished(_)), "{state:?} moved to {next:?} by {event:?}");
                if let State::Finished(finished) = next {
                    prop_assert!(holds(state, finished.token()));
                }
                state = next;
            }
        }
    }
}
