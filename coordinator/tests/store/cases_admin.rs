//! What users do to trials: cancel and retry.

use sortie_coordinator::store::{StoreError, SweepAction, TrialAction};
use sortie_core::filter::Filter;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::AttemptHeartbeat;
use sortie_core::record::TrialRecord;
use sortie_core::status::SweepState;
use sortie_core::trial::SpecHash;

use crate::fixture::*;

pub async fn a_cancelled_attempt_is_stale_and_writes_nothing(f: Fixture) {
    f.submit(SWEEP).await;
    let (runs, expired) = (f.claim_one().await, f.claim_one().await);
    f.store.report(secret(), runs.token, batch(1, vec![evaluation("sketch", 0, 1)])).await.unwrap();
    f.pass(10);
    f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(runs.token, 1)]).await.unwrap();
    assert_eq!(f.store.reap().await.unwrap(), 1);
    assert_eq!(f.cancel("").await, 4);
    assert_eq!(f.count(StateName::Cancelled).await, 4);
    for token in [runs.token, expired.token] {
        assert_eq!(
            f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(token, 2)]).await.unwrap(),
            [token]
        );
        assert!(is_stale(&f.store.report(secret(), token, batch(2, vec![evaluation("sketch", 1, 1)])).await));
        assert!(is_stale(&f.complete(token, Outcome::Succeeded).await));
        assert!(is_stale(&f.complete(token, failed(ErrorClass::Transient)).await));
    }
    let record = f.record(0).await;
    assert_eq!((record.state, record.validation.len()), (StateName::Cancelled, 0));
    let history = f.store.history(&runs.spec_hash.to_string()).await.unwrap();
    let what: Vec<&str> = history.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(what, ["started", "cancelled", "cancelled"], "{history:?}");
    // Once more it is a no-op; retried, the old attempt stays stale.
    assert_eq!(f.cancel("").await, 0);
    assert_eq!(f.retry("", None).await, 4);
    assert!(is_stale(&f.complete(runs.token, Outcome::Succeeded).await));
    assert_eq!((f.count(StateName::Queued).await, f.status("first").await.state), (4, SweepState::Open));
    assert_eq!(f.claim_one().await.spec_hash, runs.spec_hash);
}

pub async fn a_filter_and_a_state_say_which_trials_are_meant(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    assert_eq!(lease.spec.point.held_out, ["photo"]);
    let act = async |action, condition: &str, state| {
        f.store.act_on_trials("first", action, &filter(condition), state).await.unwrap()
    };
    assert_eq!(act(TrialAction::Cancel, "held_out=photo", Some(StateName::Queued)).await, 1);
    assert_eq!((f.count(StateName::Running).await, f.count(StateName::Cancelled).await), (1, 1));
    assert_eq!(act(TrialAction::Cancel, "held_out=sketch and dropout=5e-1", None).await, 1);
    assert_eq!(act(TrialAction::Cancel, "seed=7", None).await, 0);
    assert_eq!(
        f.status("first").await.state,
        SweepState::Open,
        "only what is cancelled as a whole is cancelled"
    );
    assert_eq!(act(TrialAction::Cancel, "", Some(StateName::Queued)).await, 1);
    assert_eq!(act(TrialAction::Retry, "dropout=0.5", None).await, 2);
    f.succeed(lease.token).await;
    assert_eq!(act(TrialAction::Cancel, "", None).await, 2);
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Cancelled).await), (1, 3));
    let unknown =
        f.store.act_on_trials("first", TrialAction::Cancel, &filter("steps=3"), None).await.unwrap_err();
    let axes = "\"steps\" is not an axis of this sweep; its axes are dropout, head_lr_factor, lr, weight_decay, held_out, seed, split";
    assert_eq!(unknown.to_string(), axes);
    let missing =
        f.store.act_on_trials("frist", TrialAction::Retry, &Filter::default(), None).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no sweep \"frist\"; there are: first");
}

pub async fn a_user_action_reaches_every_page(f: Fixture) {
    f.submit(&large_sweep(300)).await;
    let leases = f.claim(3).await;
    assert_eq!(f.cancel("held_out=photo").await, 600);
    assert_eq!(
        f.store
            .heartbeat(
                secret(),
                "w1",
                vec![AttemptHeartbeat::at(leases[0].token, 1), AttemptHeartbeat::at(leases[1].token, 1)]
            )
            .await
            .unwrap(),
        [leases[0].token]
    );
    assert_eq!(f.cancel("").await, 600);
    assert_eq!(f.retry("seed=299", None).await, 4);
    assert_eq!((f.count(StateName::Queued).await, f.count(StateName::Cancelled).await), (4, 1_196));
}

pub async fn trials_are_named_by_their_ids(f: Fixture) {
    f.submit(SWEEP).await;
    let runs = f.claim_one().await;
    f.submit(&SWEEP.replace("first", "second")).await;
    let ids: Vec<SpecHash> =
        f.store.records("first", 0).await.unwrap().rows.iter().map(|record| record.id).collect();
    let unknown: SpecHash = "00000000000000000000000000000000".parse().unwrap();
    let act = async |action, ids: &[SpecHash]| f.store.act_on_named("first", action, ids).await.unwrap();
    assert_eq!(act(TrialAction::Cancel, &[]).await, 0);
    // One that runs, one that waits twice, and one that is nowhere.
    let named = [ids[0], ids[2], ids[2], unknown];
    assert_eq!(runs.spec_hash, ids[0]);
    assert_eq!(act(TrialAction::Cancel, &named).await, 2);
    assert_eq!(act(TrialAction::Cancel, &named).await, 0);
    assert!(is_stale(&f.complete(runs.token, Outcome::Succeeded).await));
    let states = |rows: Vec<TrialRecord>| rows.iter().map(|record| record.state).collect::<Vec<_>>();
    let (waits, cancelled) = (StateName::Queued, StateName::Cancelled);
    let first = f.store.records("first", 0).await.unwrap().rows;
    assert_eq!(states(first), [cancelled, waits, cancelled, waits]);
    assert_eq!(states(f.store.records("second", 0).await.unwrap().rows), [waits; 4]);
    assert_eq!(act(TrialAction::Retry, &[ids[1], ids[2]]).await, 1);
    let first = f.store.records("first", 0).await.unwrap().rows;
    assert_eq!(states(first), [cancelled, waits, waits, waits]);
    assert_eq!(f.status("first").await.state, SweepState::Open);
    let missing = f.store.act_on_named("frist", TrialAction::Cancel, &ids).await.unwrap_err();
    assert!(missing.to_string().starts_with("there is no sweep \"frist\""), "{missing}");
    // Trials that are named are there, however many are still to come.
    let progress = f.store.submit(&spec(&large_sweep(1_550)), Default::default()).await.unwrap();
    assert_eq!(act(TrialAction::Cancel, &[ids[1]]).await, 1);
    assert!(!progress.borrow().is_done(), "it was done before anything was cancelled");
}

pub async fn conditions_that_would_miss_trials_are_refused(f: Fixture) {
    let refused = async |action, condition: &str, state| {
        f.store.act_on_trials("first", action, &filter(condition), state).await.unwrap_err()
    };
    let progress = f.store.submit(&spec(&large_sweep(1_550)), Default::default()).await.unwrap();
    let error = refused(TrialAction::Cancel, "held_out=photo", None).await;
    let text =
        "sweep \"first\" is not stored completely, so conditions would miss trials: repeat it in a while";
    assert!(matches!(error, StoreError::Incomplete { .. }) && error.to_string() == text, "{error}");
    refused(TrialAction::Cancel, "", Some(StateName::Queued)).await;
    // What is not stored yet has not failed: nothing is missed.
    assert_eq!(f.retry("held_out=photo", None).await, 0);
    let cancelled = f.cancel("").await;
    assert!(!progress.borrow().is_done(), "it was done before it could be cancelled");
    let error = refused(TrialAction::Retry, "held_out=photo", None).await.to_string();
    assert!(error.ends_with("it was cancelled meanwhile; `sortie resume first` stores the rest"), "{error}");
    assert_eq!((f.status("first").await.state, f.count(StateName::Queued).await), (SweepState::Cancelled, 0));
    // As a whole it is open again, with all that was cancelled.
    assert_eq!(f.retry("", None).await, cancelled);
    within(async {
        while f.status("first").await.state != SweepState::Open {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(f.count(StateName::Queued).await, 6_200);
}

pub async fn retry_runs_what_ended_without_a_result_and_forgives(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(3).await;
    f.fail(leases[0].token, ErrorClass::BadConfig).await;
    f.complete(leases[1].token, Outcome::Diverged { step: 3 }).await.unwrap();
    f.succeed(leases[2].token).await;
    f.cancel("held_out=sketch and dropout=0.5").await;
    assert_eq!(f.retry("", Some(StateName::Diverged)).await, 1);
    assert_eq!((f.count(StateName::Queued).await, f.count(StateName::Failed).await), (1, 1));
    assert_eq!(f.retry("", None).await, 2);
    assert_eq!((f.count(StateName::Queued).await, f.count(StateName::Succeeded).await), (3, 1));
    // Nothing is left of the budget that was used up.
    let again = f.claim_one().await;
    assert_eq!(again.spec_hash, leases[0].spec_hash);
    for failures in 1..=3 {
        let expected = if failures < 3 { StateName::Queued } else { StateName::Failed };
        let token = if failures == 1 { again.token } else { f.claim_one().await.token };
        f.fail(token, ErrorClass::Transient).await;
        assert_eq!(f.record(0).await.state, expected);
        f.pass(60);
    }
    let history = f.store.history(&again.spec_hash.to_string()).await.unwrap();
    assert_eq!(
        (history.line.attempts, history.line.error.as_str()),
        (4, "transient: two lines (one machine only)")
    );
}

pub async fn resume_undoes_the_cancellation_of_a_sweep_and_nothing_else(f: Fixture) {
    // More trials than one page has, and combinations over them.
    let combine = "[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"dropout\"\n";
    f.submit(&format!("{}{combine}", large_sweep(300))).await;
    let leases = f.claim(3).await;
    f.succeed(leases[0].token).await;
    f.fail(leases[1].token, ErrorClass::BadConfig).await;
    let counts = async || {
        let status = f.status("first").await;
        [status.blocked, status.queued, status.cancelled, status.succeeded, status.failed]
    };
    let are = async |expected| {
        while counts().await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    // The combination of the trial that failed has failed with it.
    within(are([599, 1_197, 0, 1, 2])).await;
    assert_eq!(f.cancel("").await, 1_797);
    assert_eq!(counts().await, [0, 0, 1_797, 1, 2]);
    assert_eq!(f.store.act("first", SweepAction::Resume).await.unwrap(), 1_797);
    assert_eq!((f.status("first").await.state, counts().await), (SweepState::Open, [599, 1_198, 0, 1, 2]));
    assert!(is_stale(&f.complete(leases[2].token, Outcome::Succeeded).await));
    // What was cancelled by itself stays so, and a sweep that is open has nothing to undo.
    assert_eq!(f.cancel("seed=7").await, 6);
    assert_eq!(f.store.act("first", SweepAction::Resume).await.unwrap(), 0);
    f.act("first", SweepAction::Pause).await;
    assert_eq!(f.store.act("first", SweepAction::Resume).await.unwrap(), 0);
    assert_eq!(f.count(StateName::Cancelled).await, 6);
}

pub async fn retry_ends_the_wait_after_a_failure(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    for _ in 0..2 {
        f.fail(
            if f.count(StateName::Running).await == 1 { lease.token } else { f.claim_one().await.token },
            ErrorClass::Transient,
        )
        .await;
        assert_eq!(f.retry("", None).await, 1);
    }
    // Both failures are forgiven: two more are allowed.
    for _ in 0..2 {
        let again = f.claim_one().await;
        assert_eq!(again.spec_hash, lease.spec_hash);
        f.fail(again.token, ErrorClass::Transient).await;
        assert_eq!(f.record(0).await.state, StateName::Queued);
        f.pass(60);
    }
}

pub async fn a_retried_attempt_that_was_lost_may_still_come_back_until_somebody_has_the_trial(f: Fixture) {
    f.submit(SWEEP).await;
    let lost = f.claim_one().await;
    f.pass(10);
    f.store.reap().await.unwrap();
    assert_eq!(f.retry("", None).await, 0, "it waits for nothing");
    f.succeed(lost.token).await;
    assert_eq!(f.count(StateName::Succeeded).await, 1);
}

pub async fn an_unknown_sweep_is_named_with_those_that_exist(f: Fixture) {
    let none = f.store.status(Some("first")).await.unwrap_err();
    assert_eq!(none.to_string(), "there is no sweep \"first\"; none was submitted yet");
    f.submit(SWEEP).await;
    let expected = "there is no sweep \"frist\"; there are: first";
    let errors: [StoreError; 5] = [
        f.store.status(Some("frist")).await.unwrap_err(),
        f.store.act("frist", SweepAction::Pause).await.unwrap_err(),
        f.store.work("frist").await.unwrap_err(),
        f.store.records("frist", 0).await.unwrap_err(),
        f.store.trials("frist", None, 0).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.to_string(), expected);
    }
}
