//! Every event in every state, case by case and in random sequences.

use super::*;
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(10);
const NOW: Timestamp = Timestamp(1_000_000);
const OLD: AttemptToken = AttemptToken(1);
const NEW: AttemptToken = AttemptToken(2);
const RETRY: Event = Event::Retry { combination: false };

fn running(token: AttemptToken) -> State {
    State::Running { token, expires_at: NOW.plus(LEASE), earlier: None }
}

fn complete(token: AttemptToken, outcome: Outcome, failures: u32) -> Event {
    Event::Complete { token, outcome, past: FailureHistory { failures, jitter: 500, retries: None } }
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::Failed { class, message: String::new() }
}

/// The state that an event leads to.
fn after(state: State, event: &Event, now: Timestamp) -> State {
    match apply(state, event, now, LEASE) {
        Ok(Decision::Move(next, _)) => next,
        other => panic!("{event:?} on {state:?}: {other:?}"),
    }
}

#[test]
fn an_expired_lease_is_revived_by_its_own_token_until_somebody_else_has_it() {
    let later = NOW.plus(LEASE * 2);
    let queued = State::Queued { lost: Some(OLD), not_before: None, earlier: None };
    let lost = Some(Effect::End(OLD, AttemptEnd::Lost));
    assert_eq!(
        apply(running(OLD), &Event::Reap(FailureHistory::default()), later, LEASE),
        Ok(Decision::Move(queued, lost))
    );
    assert_eq!(
        apply(queued, &Event::Heartbeat(OLD), NOW, LEASE),
        Ok(Decision::Move(running(OLD), Some(Effect::Revive(OLD))))
    );
    assert_eq!(
        after(queued, &Event::Claim(NEW), later),
        State::Running { token: NEW, expires_at: later.plus(LEASE), earlier: None }
    );
    for event in [Event::Heartbeat(OLD), complete(OLD, Outcome::Succeeded, 0)] {
        assert_eq!(apply(running(NEW), &event, NOW, LEASE), Err(Refused::Stale(OLD)));
    }
}

#[test]
fn completing_twice_is_once_and_a_stale_token_never_completes() {
    let done = State::Finished(Finished::Succeeded(NEW));
    assert_eq!(after(running(NEW), &complete(NEW, Outcome::Succeeded, 0), NOW), done);
    assert_eq!(apply(done, &complete(NEW, Outcome::Succeeded, 0), NOW, LEASE), Ok(Decision::Stay));
    assert_eq!(apply(done, &complete(OLD, Outcome::Succeeded, 0), NOW, LEASE), Err(Refused::Stale(OLD)));
    assert_eq!(apply(done, &Event::Claim(NEW), NOW, LEASE), Err(Refused::NotQueued(StateName::Succeeded)));
}

#[test]
fn each_error_class_has_its_budget_and_its_wait() {
    let end = |class, failures| after(running(OLD), &complete(OLD, failed(class), failures), NOW);
    let queued = |seconds| State::Queued {
        lost: None,
        not_before: Some(NOW.plus(Duration::from_secs(seconds))),
        earlier: None,
    };
    assert_eq!(end(ErrorClass::BadConfig, 0).name(), StateName::Failed);
    for class in [ErrorClass::BadData, ErrorClass::Stalled, ErrorClass::Crashed] {
        assert_eq!((end(class, 0), end(class, 1).name()), (State::FRESH, StateName::Failed), "{class}");
    }
    // What is the machine's fault costs the trial nothing.
    for class in [ErrorClass::Machine, ErrorClass::Device] {
        assert_eq!(end(class, 1_000_000), State::FRESH, "{class}");
    }
    assert_eq!((end(ErrorClass::Transient, 0), end(ErrorClass::Transient, 1)), (queued(2), queued(4)));
    assert_eq!(end(ErrorClass::Transient, 2).name(), StateName::Failed);
    assert_eq!(end(ErrorClass::Preempted, 1_000_000), State::FRESH);
    let policy = ErrorClass::OutOfMemory.policy();
    assert!(policy.delay(0, 0) < policy.delay(0, 999) && policy.delay(40, 999) <= WAIT_MAX);
}

#[test]
fn a_trial_that_waits_is_not_assigned() {
    let waiting = State::Queued { lost: None, not_before: Some(NOW.plus(LEASE)), earlier: None };
    assert_eq!(apply(waiting, &Event::Claim(NEW), NOW, LEASE), Err(Refused::NotQueued(StateName::Queued)));
    assert_eq!(after(waiting, &RETRY, NOW), State::FRESH);
}

#[test]
fn users_cancel_what_is_not_over_and_retry_what_has_no_result() {
    let cancelled = State::Finished(Finished::Cancelled);
    let end = Some(Effect::End(OLD, AttemptEnd::Cancelled));
    assert_eq!(apply(running(OLD), &Event::Cancel, NOW, LEASE), Ok(Decision::Move(cancelled, end)));
    assert_eq!(apply(cancelled, &Event::Heartbeat(OLD), NOW, LEASE), Err(Refused::Stale(OLD)));
    let (failed, diverged) = (Finished::Failed(Some(OLD)), Finished::Diverged(OLD));
    for state in [cancelled, State::Finished(failed), State::Finished(diverged)] {
        assert_eq!(
            apply(state, &RETRY, NOW, LEASE),
            Ok(Decision::Move(State::FRESH, Some(Effect::ResetFailures)))
        );
    }
    for state in [running(OLD), State::Finished(Finished::Succeeded(OLD)), State::FRESH] {
        assert_eq!(apply(state, &RETRY, NOW, LEASE), Ok(Decision::Stay));
    }
}

#[test]
fn a_trial_that_runs_again_for_its_files_never_loses_its_result() {
    let done = |token| State::Finished(Finished::Succeeded(token));
    let queued = State::Queued { lost: None, not_before: None, earlier: Some(OLD) };
    let held = State::Running { token: NEW, expires_at: NOW.plus(LEASE), earlier: Some(OLD) };
    assert_eq!(
        apply(done(OLD), &Event::Again, NOW, LEASE),
        Ok(Decision::Move(queued, Some(Effect::ResetFailures)))
    );
    assert_eq!(after(queued, &Event::Claim(NEW), NOW), held);
    assert_eq!(after(held, &Event::Heartbeat(NEW), NOW), held);
    for (state, accepted) in [(done(OLD), OLD), (queued, OLD), (held, OLD), (done(NEW), NEW)] {
        assert_eq!(state.accepted(), Some(accepted));
    }
    // Whatever becomes of the attempt: one that succeeds gives the result, and any other end leaves the earlier one.
    assert_eq!(after(held, &complete(NEW, Outcome::Succeeded, 0), NOW), done(NEW));
    let diverged = complete(NEW, Outcome::Diverged { step: 3 }, 0);
    let failed_for_good = complete(NEW, failed(ErrorClass::BadConfig), 0);
    for event in [&diverged, &failed_for_good, &Event::Cancel] {
        assert_eq!(after(held, event, NOW), done(OLD));
    }
    assert_eq!(after(queued, &Event::Cancel, NOW), done(OLD));
    assert_eq!(after(queued, &Event::Reuse(NEW), NOW), done(NEW));
    // Tries in between keep it, too.
    let again = after(held, &complete(NEW, failed(ErrorClass::Transient), 0), NOW);
    assert_eq!((again.name(), again.accepted()), (StateName::Queued, Some(OLD)));
    assert_eq!(after(again, &RETRY, NOW), queued);
    let lost = after(held, &Event::Reap(FailureHistory::default()), NOW.plus(LEASE));
    assert_eq!(lost, State::Queued { lost: Some(NEW), not_before: None, earlier: Some(OLD) });
    assert_eq!(after(lost, &Event::Heartbeat(NEW), NOW), held);
    // Only a result can lack files.
    for state in [State::FRESH, held, State::Blocked, State::Finished(Finished::Failed(None))] {
        assert_eq!(apply(state, &Event::Again, NOW, LEASE), Ok(Decision::Stay));
    }
}

#[test]
fn the_reaper_leaves_live_leases_alone() {
    assert_eq!(apply(running(OLD), &Event::Reap(FailureHistory::default()), NOW, LEASE), Ok(Decision::Stay));
}

fn any_event() -> impl Strategy<Value = (u8, i64, u8)> {
    (0..6_u8, 1..4_i64, 0..30_u8)
}

#[test]
fn a_combination_waits_for_its_members_whatever_a_user_says() {
    let members = |readiness| apply(State::Blocked, &Event::Members(readiness), NOW, LEASE);
    assert_eq!(
        apply(State::Blocked, &Event::Claim(NEW), NOW, LEASE),
        Err(Refused::NotQueued(StateName::Blocked))
    );
    assert_eq!(apply(State::Blocked, &RETRY, NOW, LEASE), Ok(Decision::Stay));
    assert_eq!(members(Readiness::Waits), Ok(Decision::Stay));
    assert_eq!(members(Readiness::Ready), Ok(Decision::Move(State::FRESH, None)));
    let hopeless = State::Finished(Finished::Failed(None));
    assert_eq!(members(Readiness::Impossible), Ok(Decision::Move(hopeless, None)));
    assert_eq!(after(hopeless, &Event::Retry { combination: true }, NOW), State::Blocked);
    // One that runs, or waits after a failure of its own, is past that.
    for state in [running(OLD), State::FRESH, State::Finished(Finished::Succeeded(OLD))] {
        assert_eq!(apply(state, &Event::Members(Readiness::Impossible), NOW, LEASE), Ok(Decision::Stay));
    }
}

proptest! {
    /// Whatever is reported in whatever order, a finished trial stays finished, and only the token that held the trial finishes it.
    #[test]
    fn a_finished_trial_never_moves(events in proptest::collection::vec(any_event(), 1..60)) {
        let (mut state, mut now, mut issued) = (State::FRESH, NOW, 0);
        for (kind, token, seconds) in events {
            now = now.plus(Duration::from_secs(u64::from(seconds)));
            let event = match kind {
                0 => { issued += 1; Event::Claim(AttemptToken(issued)) }
                1 => Event::Heartbeat(AttemptToken(token)),
                2 => complete(AttemptToken(token), Outcome::Succeeded, 0),
                3 => complete(AttemptToken(token), failed(ErrorClass::Transient), 0),
                4 => Event::Cancel,
                _ => Event::Reap(FailureHistory::default()),
            };
            let Ok(Decision::Move(next, _)) = apply(state, &event, now, LEASE) else { continue };
            prop_assert!(!matches!(state, State::Finished(_)), "{state:?} moved to {next:?} by {event:?}");
            if let State::Finished(Finished::Succeeded(token)) = next {
                prop_assert!(holds(state, token));
            }
            state = next;
        }
    }
}
