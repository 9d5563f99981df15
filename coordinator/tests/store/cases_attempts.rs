//! What becomes of attempts: stale ones, lost ones, failed ones, and those that come back.

use std::time::Duration;

use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::AttemptHeartbeat;
use tokio::time::Instant;

use crate::fixture::*;

pub async fn a_stale_attempt_writes_nothing(f: Fixture) {
    f.submit(SWEEP).await;
    let old = f.claim(4).await.remove(0);
    f.pass(11);
    assert_eq!(f.store.reap().await.unwrap(), 4);
    let new = f.claim_one().await;
    assert_eq!(new.spec_hash, old.spec_hash);
    f.pass(1);
    assert_eq!(
        f.store
            .heartbeat(
                secret(),
                "w1",
                vec![AttemptHeartbeat::at(old.token, 5), AttemptHeartbeat::at(new.token, 1)]
            )
            .await
            .unwrap(),
        [old.token]
    );
    let late = batch(1, vec![evaluation("sketch", 0, 9)]);
    for _ in 0..2 {
        assert!(is_stale(&f.store.report(secret(), old.token, late.clone()).await));
        assert!(is_stale(&f.complete_with(old.token, late.clone(), Outcome::Succeeded).await));
        assert!(is_stale(&f.complete(old.token, failed(ErrorClass::BadData)).await));
    }
    assert_eq!(f.count(StateName::Running).await, 1);
    let reports = batch(1, vec![evaluation("sketch", 0, 2)]);
    f.complete_with(new.token, reports, Outcome::Succeeded).await.unwrap();
    assert!(is_stale(&f.complete_with(old.token, late, Outcome::Succeeded).await));
    let record = f.record(0).await;
    assert_eq!((record.state, record.validation), (StateName::Succeeded, vec![evaluation("sketch", 0, 2)]));
}

pub async fn an_expired_lease_that_nobody_took_comes_back_to_life(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    f.pass(9);
    assert_eq!(f.store.reap().await.unwrap(), 0);
    f.pass(1);
    assert_eq!(f.store.reap().await.unwrap(), 1);
    assert_eq!(f.store.reap().await.unwrap(), 0);
    assert_eq!(f.count(StateName::Running).await, 0);
    f.pass(1);
    assert!(
        f.store
            .heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(lease.token, 3)])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(f.count(StateName::Running).await, 1);
    // A revived lease is as long as any other.
    f.pass(9);
    assert_eq!(f.store.reap().await.unwrap(), 0);
    f.succeed(lease.token).await;
    assert_eq!(f.count(StateName::Succeeded).await, 1);
    let history = f.store.history(&lease.spec_hash.to_string()).await.unwrap();
    let what: Vec<&str> = history.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(what, ["started", "revived", "succeeded"]);
}

pub async fn what_comes_back_to_life_in_the_moment_of_a_claim_has_one_holder(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(4).await;
    f.pass(10);
    f.store.reap().await.unwrap();
    // They arrive together: either may come first.
    let beats = vec![AttemptHeartbeat::at(leases[0].token, 1)];
    let (lost, claimed) =
        tokio::join!(f.store.heartbeat(secret(), "w1", beats), f.store.claim(claim("w1", 4), Duration::ZERO));
    let trials: Vec<_> = claimed.unwrap().leases.iter().map(|lease| lease.spec_hash).collect();
    let kept = lost.unwrap().is_empty();
    assert_eq!((kept, trials.len()), (!trials.contains(&leases[0].spec_hash), if kept { 3 } else { 4 }));
    let end = f.complete(leases[0].token, Outcome::Succeeded).await;
    assert_eq!((end.is_ok(), is_stale(&end)), (kept, !kept));
    assert_eq!(f.count(StateName::Running).await, trials.len() as u64);
}

pub async fn a_report_revives_a_lease_and_so_does_an_end(f: Fixture) {
    f.submit(SWEEP).await;
    let (reports, ends) = (f.claim_one().await, f.claim_one().await);
    f.pass(10);
    assert_eq!(f.store.reap().await.unwrap(), 2);
    f.store.report(secret(), reports.token, batch(1, vec![evaluation("sketch", 0, 1)])).await.unwrap();
    f.complete_with(ends.token, batch(1, vec![]), Outcome::Succeeded).await.unwrap();
    assert_eq!((f.count(StateName::Running).await, f.count(StateName::Succeeded).await), (1, 1));
    // A lease that ended is no failure once its attempt has a result.
    assert_eq!(f.store.trials("first", Some(StateName::Succeeded), 0).await.unwrap().rows[0].error, "");
}

pub async fn an_end_reported_again_is_stored_once(f: Fixture) {
    f.submit(SWEEP).await;
    let outcomes = [
        Outcome::Succeeded,
        Outcome::Diverged { step: 4 },
        failed(ErrorClass::BadConfig),
        failed(ErrorClass::Preempted),
    ];
    for (outcome, end) in outcomes.into_iter().zip(["succeeded", "diverged", "failed", "queued"]) {
        let lease = f.claim_one().await;
        let last = batch(1, vec![evaluation("sketch", 20, 2)]);
        for _ in 0..3 {
            f.complete_with(lease.token, last.clone(), outcome.clone()).await.unwrap();
        }
        let line = f.store.history(&lease.spec_hash.to_string()).await.unwrap();
        assert_eq!((line.line.state.as_str(), line.events.len()), (end, 2), "{outcome:?}");
        // Only an end may be repeated: every other report comes too late.
        assert!(is_stale(&f.store.report(secret(), lease.token, batch(2, vec![])).await), "{outcome:?}");
        assert_eq!(
            f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(lease.token, 9)]).await.unwrap(),
            [lease.token]
        );
    }
}

pub async fn an_end_reported_again_is_accepted_when_somebody_else_has_the_trial(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    assert_eq!(second.spec_hash, first.spec_hash);
    f.fail(first.token, ErrorClass::Preempted).await;
    // Not even as another end.
    f.succeed(first.token).await;
    assert_eq!((f.count(StateName::Running).await, f.count(StateName::Succeeded).await), (1, 0));
    f.succeed(second.token).await;
    let history = f.store.history(&second.spec_hash.to_string()).await.unwrap();
    assert_eq!((history.token, history.line.attempts), (Some(second.token), 2));
}

pub async fn an_attempt_that_was_lost_ends_late_but_once(f: Fixture) {
    f.submit(SWEEP).await;
    let late = f.claim_one().await;
    f.pass(10);
    f.store.reap().await.unwrap();
    for _ in 0..2 {
        f.complete_with(
            late.token,
            batch(1, vec![evaluation("sketch", 0, 1)]),
            Outcome::Diverged { step: 3 },
        )
        .await
        .unwrap();
    }
    assert_eq!(f.count(StateName::Diverged).await, 1);
    assert_eq!(f.store.trials("first", None, 0).await.unwrap().rows[0].attempts, 1);
}

pub async fn failures_use_up_their_budget_and_say_why_in_one_line(f: Fixture) {
    f.submit(SWEEP).await;
    f.cancel("held_out=sketch").await;
    f.cancel("dropout=0.5").await;
    for expected in [StateName::Queued, StateName::Queued, StateName::Failed] {
        let lease = f.claim_one().await;
        f.fail(lease.token, ErrorClass::Transient).await;
        assert_eq!(f.record(0).await.state, expected);
        // Said again by a worker that did not hear the answer: no second failure is counted.
        f.fail(lease.token, ErrorClass::Transient).await;
        f.pass(600);
    }
    let line = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!(
        (line.error.as_str(), line.attempts, line.worker.as_str()),
        ("transient: two lines (one machine only)", 3, "host:7")
    );
}

pub async fn each_class_has_a_budget_of_its_own(f: Fixture) {
    f.submit(SWEEP).await;
    for (class, budget) in
        [(ErrorClass::OutOfMemory, 3), (ErrorClass::BadConfig, 1), (ErrorClass::BadData, 2)]
    {
        // Other classes before cost it nothing.
        let mut lease = f.claim_one().await;
        let trial = lease.spec_hash;
        for other in [ErrorClass::Preempted, ErrorClass::Transient, ErrorClass::Transient] {
            f.fail(lease.token, other).await;
            f.pass(600);
            lease = f.claim_one().await;
            assert_eq!(lease.spec_hash, trial);
        }
        for attempt in 1..=budget {
            f.fail(lease.token, class).await;
            let state = f.store.history(&trial.to_string()).await.unwrap().line.state;
            assert_eq!(
                state,
                if attempt < budget { StateName::Queued } else { StateName::Failed },
                "{class}"
            );
            f.pass(1_200);
            if attempt < budget {
                lease = f.claim_one().await;
            }
        }
    }
}

pub async fn a_trial_that_takes_its_workers_down_ends_some_day(f: Fixture) {
    f.submit(SWEEP).await;
    f.cancel("held_out=sketch").await;
    f.cancel("dropout=0.5").await;
    for attempt in 1..=100_u32 {
        f.claim_one().await;
        f.pass(10);
        assert_eq!(f.store.reap().await.unwrap(), 1);
        let expected = if attempt < 100 { StateName::Queued } else { StateName::Failed };
        assert_eq!(f.record(0).await.state, expected, "after {attempt}");
    }
    let line = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!(
        (line.attempts, line.error.as_str()),
        (100, "lost: the worker was not heard from until its lease ended")
    );
}

pub async fn a_trial_that_failed_is_not_assigned_before_its_time(f: Fixture) {
    f.submit(SWEEP).await;
    f.cancel("held_out=sketch").await;
    f.cancel("dropout=0.5").await;
    let lease = f.claim_one().await;
    f.fail(lease.token, ErrorClass::Transient).await;
    let due = f.store.history(&lease.spec_hash.to_string()).await.unwrap().not_before.unwrap().0;
    // Between half and one and a half times two seconds.
    assert!((T0 + 1_000..T0 + 3_000).contains(&due), "{due}");
    let early = f.claim_as("w1", 1).await;
    assert!(early.leases.is_empty() && !early.idle, "{early:?}");
    f.clock.pass(Duration::from_millis((due - T0 - 1).unsigned_abs()));
    assert!(f.claim(1).await.is_empty());
    f.clock.pass(Duration::from_millis(1));
    assert_eq!(f.claim_one().await.spec_hash, lease.spec_hash);
}

pub async fn a_restarted_coordinator_knows_everything_and_gives_attempts_time_to_come_back(f: Fixture) {
    f.submit(SWEEP).await;
    let (writes, dies) = (f.claim_one().await, f.claim_one().await);
    f.pass(3_600);
    let f = f.restart().await;
    f.pass(1);
    assert_eq!(f.store.reap().await.unwrap(), 0);
    f.store.report(secret(), writes.token, batch(1, vec![evaluation("sketch", 0, 1)])).await.unwrap();
    f.pass(9);
    assert_eq!(f.store.reap().await.unwrap(), 1, "one lease of time, no more");
    f.succeed(writes.token).await;
    assert_eq!(f.record(0).await.validation, [evaluation("sketch", 0, 1)]);
    let next = f.claim_one().await;
    assert_eq!(next.spec_hash, dies.spec_hash);
    assert!(next.token > dies.token && dies.token > writes.token);
}

pub async fn no_token_is_issued_twice_whatever_restarts(f: Fixture) {
    f.submit(SWEEP).await;
    let mut f = f;
    let mut tokens: Vec<AttemptToken> = Vec::new();
    for _ in 0..3 {
        for lease in f.claim(4).await {
            tokens.push(lease.token);
            f.fail(lease.token, ErrorClass::Preempted).await;
        }
        f = f.restart().await;
    }
    assert_eq!(tokens.len(), 12);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

pub async fn after_an_outage_every_lease_gets_time(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    f.pass(60);
    // A look that comes too late ends nothing.
    assert_eq!(f.store.reap_by(Instant::now() - Duration::from_millis(1)).await.unwrap(), None);
    assert_eq!(f.count(StateName::Running).await, 1);
    assert_eq!(f.store.grant_grace().await.unwrap(), 1);
    assert_eq!(f.store.reap_by(Instant::now() + Duration::from_secs(600)).await.unwrap(), Some(0));
    f.pass(9);
    f.succeed(lease.token).await;
    // A lease that lasts longer than that is not shortened.
    f.claim_one().await;
    assert_eq!(f.store.grant_grace().await.unwrap(), 0);
    f.pass(11);
    assert_eq!(f.store.reap_by(Instant::now() + Duration::from_secs(600)).await.unwrap(), Some(1));
}
