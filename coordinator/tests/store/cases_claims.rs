//! Who gets which trial, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_coordinator::store::{Claim, StoreError, SubmitOptions, SweepAction, Worker};
use sortie_core::job::{ErrorClass, StateName};
use sortie_core::lease::AttemptHeartbeat;
use sortie_core::requirements::Abilities;
use sortie_core::status::SweepState;

use crate::fixture::*;

pub async fn every_trial_is_leased_once_however_many_ask(f: Fixture) {
    f.submit(SWEEP).await;
    let claims = (0..8).map(|_| f.claim(1));
    let leases: Vec<_> = futures::future::join_all(claims).await.into_iter().flatten().collect();
    let ids: BTreeSet<_> = leases.iter().map(|lease| lease.spec_hash).collect();
    assert_eq!((leases.len(), ids.len()), (4, 4));
    let nothing = f.claim_as("w1", 1).await;
    assert!(nothing.leases.is_empty() && !nothing.idle);
    let elsewhere = Claim { sweep: Some("other".into()), ..claim("w1", 1) };
    assert!(f.store.claim(elsewhere, Duration::ZERO).await.unwrap().idle);
    let stranger = f.store.claim(claim("w2", 1), Duration::ZERO).await.unwrap_err();
    assert_eq!(stranger.to_string(), "worker \"w2\" is not registered");
}

pub async fn many_tasks_that_claim_at_once_get_every_trial_once(f: Fixture) {
    f.submit(&large_sweep(75)).await;
    let store = std::sync::Arc::new(f.store);
    let tasks: Vec<_> = (0..16_u32)
        .map(|task| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                loop {
                    let claimed = store.claim(claim("w1", 1 + task % 5), Duration::ZERO).await.unwrap();
                    if claimed.leases.is_empty() {
                        return ids;
                    }
                    ids.extend(claimed.leases.iter().map(|lease| (lease.spec_hash, lease.token)));
                }
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    let trials: BTreeSet<_> = ids.iter().map(|(trial, _)| *trial).collect();
    let tokens: BTreeSet<_> = ids.iter().map(|(_, token)| *token).collect();
    assert_eq!((ids.len(), trials.len(), tokens.len()), (300, 300, 300));
}

pub async fn trials_are_assigned_in_their_order(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim(3).await;
    let place = |lease: &sortie_core::lease::Lease| {
        (lease.spec.point.held_out_label(), lease.spec.point.parameters["dropout"].as_number().unwrap())
    };
    let expected = [("photo".to_owned(), 0.0), ("sketch".to_owned(), 0.0), ("photo".to_owned(), 0.5)];
    assert_eq!(first.iter().map(place).collect::<Vec<_>>(), expected);
    assert!(first.iter().all(|lease| lease.spec.hash() == lease.spec_hash && lease.sweep == "first"));
    // One that is handed back takes its old place.
    f.fail(first[0].token, ErrorClass::Preempted).await;
    assert_eq!(place(&f.claim_one().await), expected[0]);
}

pub async fn sweeps_of_one_priority_share_fairly(f: Fixture) {
    f.submit(&large_sweep(5)).await;
    f.submit(&format!("{}seeds = 5\n", other_sweep("second", "1e-2"))).await;
    let of = |leases: &[sortie_core::lease::Lease]| {
        leases.iter().map(|lease| lease.sweep.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&f.claim(4).await), ["first", "second", "first", "second"]);
    // One catches up when the other runs more.
    let only = Claim { sweep: Some("first".into()), ..claim("w1", 4) };
    assert_eq!(of(&f.store.claim(only, Duration::ZERO).await.unwrap().leases), ["first"; 4]);
    assert_eq!(of(&f.claim(5).await), ["second", "second", "second", "second", "first"]);
    // A higher priority is served first and alone.
    f.act("second", SweepAction::Priority(3)).await;
    assert_eq!(of(&f.claim(5).await), ["second"; 5]);
    f.act("first", SweepAction::Priority(4)).await;
    assert_eq!(of(&f.claim(2).await), ["first"; 2]);
    f.act("first", SweepAction::Pause).await;
    assert_eq!(of(&f.claim(2).await), ["second"; 2]);
}

pub async fn claims_that_come_together_share_fairly_too(f: Fixture) {
    f.submit(&large_sweep(5)).await;
    f.submit(&format!("{}seeds = 5\n", other_sweep("second", "1e-2"))).await;
    let claims = futures::future::join_all((0..6).map(|_| f.claim(1))).await;
    let first = claims.iter().flatten().filter(|lease| lease.sweep == "first").count();
    assert_eq!((first, claims.iter().flatten().count()), (3, 6));
}

pub async fn only_a_worker_that_is_able_gets_a_trial(f: Fixture) {
    let able = |id: &str, tags: &[&str], gpu_memory_gib, commands| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Worker { abilities: Abilities { tags, gpu_memory_gib, commands }, ..worker(id) }
    };
    for worker in [
        able("tagged", &["a", "b"], 0.0, false),
        able("large", &[], 40.0, false),
        able("trusting", &["b"], 40.0, true),
    ] {
        f.store.register(&worker).await.unwrap();
    }
    let sweep =
        |name: &str, lr: &str, require: &str| format!("{}\n[require]\n{require}\n", other_sweep(name, lr));
    f.submit(&sweep("tags", "1e-1", "tags = ['b', 'a']")).await;
    f.submit(&sweep("memory", "1e-2", "gpu_memory_gib = 24")).await;
    f.submit("name = 'command'\n[run]\ncommand = ['true', '{x}']\n[grid]\nx = [1, 2, 3, 4]\n[require]\ntags = ['b']\n").await;
    let all = ["command", "memory"].as_slice();
    for (worker, sweeps) in
        [("w1", [].as_slice()), ("tagged", &["tags"]), ("large", &["memory"]), ("trusting", all)]
    {
        let claimed = f.claim_as(worker, if worker == "large" { 1 } else { 9 }).await;
        let mut got: Vec<String> = claimed.leases.iter().map(|lease| lease.sweep.clone()).collect();
        got.sort_unstable();
        got.dedup();
        assert_eq!(
            (got, claimed.idle),
            (sweeps.iter().map(|name| (*name).to_owned()).collect(), sweeps.is_empty()),
            "{worker}"
        );
    }
}

pub async fn a_worker_learns_what_keeps_it_from_trials_that_wait(f: Fixture) {
    let reported = async |sweep: Option<&str>| {
        let claim = Claim { sweep: sweep.map(str::to_owned), ..claim("w1", 1) };
        f.store.claim(claim, Duration::ZERO).await.unwrap().unfit
    };
    assert_eq!(reported(None).await, "");
    assert_eq!(reported(Some("frist")).await, "there is no open sweep \"frist\"");
    f.submit("name = 'command'\n[run]\ncommand = ['true']\n[require]\ntags = ['b']\n").await;
    assert_eq!(reported(None).await, "trials of sweep command wait for workers with --allow-commands");
    f.submit(SWEEP).await;
    let got = f.claim_as("w1", 1).await;
    assert_eq!((got.leases.len(), got.unfit.as_str()), (1, ""));
}

pub async fn a_worker_that_is_registered_again_is_the_same(f: Fixture) {
    f.store.leave(secret(), "w1").await.unwrap();
    f.pass(5);
    f.store.register(&worker("w1")).await.unwrap();
    let line = f.store.workers(true).await.unwrap();
    assert_eq!((line.len(), line[0].left, line[0].seen.0), (1, false, T0 + 5_000));
}

pub async fn idle_is_who_could_get_nothing_before_a_user_acts(f: Fixture) {
    let idle = async || f.claim_as("w1", 1).await.idle;
    assert!(idle().await);
    f.submit(SWEEP).await;
    let leases = f.claim(4).await;
    // What runs may come back.
    assert!(!idle().await);
    for lease in &leases[..3] {
        f.succeed(lease.token).await;
    }
    f.fail(leases[3].token, ErrorClass::Transient).await;
    assert!(!idle().await, "a trial waits after a failure");
    f.act("first", SweepAction::Pause).await;
    assert!(idle().await, "nothing starts until a user resumes it");
    f.act("first", SweepAction::Resume).await;
    assert!(!idle().await);
    f.pass(600);
    f.finish_everything().await;
    assert!(idle().await);
}

pub async fn a_claim_that_leaves_when_idle_waits_for_what_runs(f: Fixture) {
    f.submit(SWEEP).await;
    f.store.register(&worker("w2")).await.unwrap();
    let mut leases = f.claim_as("w2", 4).await.leases;
    let waiting = f.wait_for_a_trial(true).await;
    let last = leases.pop().unwrap();
    for lease in leases {
        f.succeed(lease.token).await;
    }
    f.succeed(last.token).await;
    let claimed = woken(&f, waiting).await;
    assert_eq!((claimed.leases.len(), claimed.idle), (0, true));
    // Another one that comes now gets its answer at once.
    let at_once = Claim { return_when_idle: true, ..claim("w1", 1) };
    assert!(within(f.store.claim(at_once, PATIENCE * 10)).await.unwrap().idle);
}

pub async fn a_claim_waits_as_long_as_it_may(f: Fixture) {
    let wait = Duration::from_millis(30);
    let before = tokio::time::Instant::now();
    let claimed = f.store.claim(claim("w1", 1), wait).await.unwrap();
    assert_eq!((claimed.leases.len(), claimed.idle), (0, true));
    assert!(before.elapsed() >= wait);
    if matches!(f.database, Database::Model(_)) {
        assert!(before.elapsed() < wait * 2);
    }
}

pub async fn a_waiting_claim_gets_a_trial_that_is_submitted(f: Fixture) {
    let waiting = f.wait_for_a_trial(false).await;
    f.submit(SWEEP).await;
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
}

pub async fn a_waiting_claim_gets_a_trial_that_is_put_back(f: Fixture) {
    f.submit(SWEEP).await;
    let mut leases = f.claim(4).await;
    let waiting = f.wait_for_a_trial(false).await;
    f.fail(leases.remove(2).token, ErrorClass::Preempted).await;
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
    let waiting = f.wait_for_a_trial(false).await;
    f.pass(10);
    f.store.reap().await.unwrap();
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
}

pub async fn a_waiting_claim_gets_a_trial_that_a_user_frees(f: Fixture) {
    f.submit(SWEEP).await;
    f.act("first", SweepAction::Pause).await;
    let waiting = f.wait_for_a_trial(false).await;
    f.act("first", SweepAction::Resume).await;
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
    f.cancel("").await;
    let waiting = f.wait_for_a_trial(false).await;
    assert_eq!(f.retry("held_out=photo", None).await, 2);
    assert_eq!(woken(&f, waiting).await.leases.len(), 1);
}

pub async fn two_waiting_claims_share_what_becomes_free(f: Fixture) {
    let (first, second) = (f.wait_for_a_trial(false).await, f.wait_for_a_trial(false).await);
    f.submit(SWEEP).await;
    let (first, second) = (woken(&f, first).await, woken(&f, second).await);
    assert_eq!((first.leases.len(), second.leases.len()), (1, 1));
    assert_ne!(first.leases[0].spec_hash, second.leases[0].spec_hash);
}

pub async fn a_claim_whose_caller_is_gone_takes_nothing(f: Fixture) {
    drop(f.wait_for_a_trial(false).await);
    f.submit(SWEEP).await;
    assert_eq!(f.count(StateName::Running).await, 0);
    assert_eq!(f.claim(9).await.len(), 4);
}

pub async fn a_claim_dropped_at_any_moment_keeps_no_trial(f: Fixture) {
    f.submit(SWEEP).await;
    for yields in 0..20 {
        let mut asking: LongPoll<'_> = Box::pin(f.store.claim(claim("w1", 2), PATIENCE));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(asking.as_mut().poll(cx).is_pending()));
        assert!(first.await);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        drop(asking);
        // Said after the claim, so answered after the writer has looked at it.
        f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap();
        within(async {
            while f.count(StateName::Running).await > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert_eq!(f.claim(9).await.len(), 4);
}

pub async fn a_paused_or_cancelled_sweep_assigns_nothing_and_lets_run_what_runs(f: Fixture) {
    f.submit_with(SWEEP, SubmitOptions::default()).await;
    let lease = f.claim_one().await;
    f.act("first", SweepAction::Pause).await;
    assert_eq!(f.status("first").await.state, SweepState::Paused);
    assert_eq!(f.claim(1).await, []);
    assert!(
        f.store
            .heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(lease.token, 1)])
            .await
            .unwrap()
            .is_empty()
    );
    f.succeed(lease.token).await;
    f.cancel("").await;
    assert_eq!(f.status("first").await.state, SweepState::Cancelled);
    assert_eq!(f.claim(1).await, []);
    let refused = f.store.act("first", SweepAction::Pause).await.unwrap_err();
    assert!(matches!(refused, StoreError::Cancelled(_)), "{refused}");
}
