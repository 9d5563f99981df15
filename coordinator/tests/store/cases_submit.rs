//! Sweeps and their trials: stored once, completely, in order, whatever comes between.

use std::collections::BTreeSet;

use sortie_coordinator::store::{Reuse, StoreError, SubmitOptions, SweepAction};
use sortie_core::job::{Outcome, StateName};
use sortie_core::lease::Batch;
use sortie_core::spec::SpecError;
use sortie_core::status::SweepState;
use sortie_core::trial::SpecHash;

use crate::fixture::*;

/// More trials than three transactions add.
const MANY: usize = 1_550;

pub async fn submitting_again_adds_only_what_is_new_and_refuses_a_changed_fixed_value(f: Fixture) {
    let first = f.submit(SWEEP).await;
    assert_eq!((first.planned, first.added), (4, 4));
    let again = f.submit(SWEEP).await;
    assert_eq!((again.planned, again.added), (4, 0));
    let grown = f.submit(&SWEEP.replace("[0.0, 0.5]", "[0.5, 0.9]")).await;
    assert_eq!((grown.planned, grown.added), (6, 2));
    let changed = spec(&SWEEP.replace("steps = 20", "steps = 30").replace("lr = 1e-3", "lr = 1e-2"));
    let changed = f.store.submit(&changed, SubmitOptions::default()).await.unwrap_err();
    assert!(matches!(changed, StoreError::Spec(SpecError::Changed { .. })), "{changed:?}");
    for part in ["steps is 20 there and 30 here", "grid.lr is 1e-3 there and 0.01 here"] {
        assert!(changed.to_string().contains(part), "{changed}");
    }
    assert_eq!(f.submit(&SWEEP.replace("lr = 1e-3", "lr = [1e-3, 1e-2]")).await.added, 6);
    assert_eq!(f.status("first").await.planned, 12);
}

pub async fn what_was_added_later_runs_after_what_was_there(f: Fixture) {
    f.submit(SWEEP).await;
    let first: Vec<SpecHash> = ids(&f).await;
    f.submit(&SWEEP.replace("[0.0, 0.5]", "[0.5, 0.9]").replace("[\"photo\"", "[\"cartoon\", \"photo\""))
        .await;
    let grown = ids(&f).await;
    assert_eq!((grown[..4].to_vec(), grown.len()), (first, 9));
    // Held-out domains vary fastest among what is new, too.
    let held_out: Vec<String> = f
        .store
        .trials("first", None, 4)
        .await
        .unwrap()
        .rows
        .iter()
        .map(|line| line.point.held_out_label())
        .collect();
    assert_eq!(held_out, ["cartoon", "cartoon", "photo", "sketch", "cartoon"]);
}

/// Of all trials, in the order in which they run.
async fn ids(f: &Fixture) -> Vec<SpecHash> {
    let (mut ids, mut from) = (Vec::new(), Some(0));
    while let Some(position) = from {
        let page = f.store.trials("first", None, position).await.unwrap();
        ids.extend(page.rows.iter().map(|line| line.spec_hash));
        from = page.next;
    }
    ids
}

pub async fn a_grid_of_many_chunks_is_stored_completely_and_in_order(f: Fixture) {
    let text = large_sweep(MANY);
    let submitted = f.submit(&text).await;
    assert_eq!(
        (submitted.planned, submitted.expanded, submitted.added, submitted.reused),
        (6_200, 6_200, 6_200, 0)
    );
    assert_eq!(f.status("first").await.state, SweepState::Open);
    let expected: Vec<SpecHash> = spec(&text).trials().map(|trial| trial.hash()).collect();
    assert_eq!(ids(&f).await, expected);
}

pub async fn workers_lease_trials_while_a_sweep_is_still_being_stored(f: Fixture) {
    let mut progress = f.store.submit(&spec(&large_sweep(MANY)), SubmitOptions::default()).await.unwrap();
    let early = within(f.wait_for_a_trial_or_take_one()).await;
    assert!(!progress.borrow().is_done(), "a lease waited for the whole sweep");
    let mut seen: BTreeSet<SpecHash> = early.iter().copied().collect();
    let mut claims = seen.len();
    while !progress.borrow().is_done() {
        for lease in f.claim(7).await {
            seen.insert(lease.spec_hash);
            claims += 1;
        }
    }
    within(progress.changed()).await.ok();
    assert_eq!((seen.len(), f.count(StateName::Running).await), (claims, claims as u64));
    assert_eq!(f.count(StateName::Queued).await, 6_200 - claims as u64);
}

impl Fixture {
    async fn wait_for_a_trial_or_take_one(&self) -> Vec<SpecHash> {
        let claimed = self.store.claim(claim("w1", 1), PATIENCE).await.unwrap();
        claimed.leases.iter().map(|lease| lease.spec_hash).collect()
    }
}

pub async fn an_expansion_goes_on_after_a_restart(f: Fixture) {
    let text = large_sweep(MANY);
    let mut progress = f.store.submit(&spec(&text), SubmitOptions::default()).await.unwrap();
    let Fixture { store, clock, database } = f;
    drop(store);
    while within(progress.changed()).await.is_ok() {}
    assert!(!progress.borrow().is_done(), "it was done before the coordinator could end");
    let store = database.open_again(&clock).await;
    let f = Fixture { store, clock, database };
    within(async {
        while f.status("first").await.state != SweepState::Open {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let expected: Vec<SpecHash> = spec(&text).trials().map(|trial| trial.hash()).collect();
    assert_eq!(ids(&f).await, expected);
}

pub async fn growing_a_sweep_that_is_still_being_stored_loses_and_repeats_nothing(f: Fixture) {
    let small = spec(&large_sweep(MANY));
    let text = large_sweep(MANY).replace("[0.0, 0.5]", "[0.0, 0.5, 0.9]");
    let first = f.store.submit(&small, SubmitOptions::default()).await.unwrap();
    let submitted = f.submit(&text).await;
    assert!(submitted.added < 9_300 && first.borrow().added > 0);
    let (mut found, mut expected): (Vec<SpecHash>, Vec<SpecHash>) =
        (ids(&f).await, spec(&text).trials().map(|trial| trial.hash()).collect());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

pub async fn results_elsewhere_are_taken_over_at_submit_and_at_lease(f: Fixture) {
    f.submit(SWEEP).await;
    let done = f.claim_one().await;
    let reported = Batch { log: b"printed".to_vec(), ..batch(1, vec![evaluation("sketch", 0, 3)]) };
    f.complete_with(done.token, reported, Outcome::Succeeded).await.unwrap();
    let running = f.claim_one().await;
    let same = SWEEP.replace("\"first\"", "\"second\"");
    let submitted = f.submit(&same).await;
    assert_eq!((submitted.added, submitted.reused), (4, 1));
    assert_eq!((f.status("second").await.succeeded, f.status("second").await.reused), (1, 1));
    // Its result comes in while the other sweep's trial waits: nobody runs it again.
    f.succeed(running.token).await;
    f.act("first", SweepAction::Pause).await;
    let next = within(f.store.claim(claim("w1", 1), PATIENCE)).await.unwrap().leases.remove(0);
    assert_eq!(
        (next.sweep.as_str(), next.spec_hash == done.spec_hash, next.spec_hash == running.spec_hash),
        ("second", false, false)
    );
    assert_eq!(f.status("second").await.reused, 2);
    let record = f.store.records("second", 0).await.unwrap().rows.remove(0);
    assert_eq!((record.id, record.validation), (done.spec_hash, vec![evaluation("sketch", 0, 3)]));
    let history = f.store.history(&format!("second/{}", running.spec_hash)).await.unwrap();
    assert_eq!((history.line.reused_from.as_deref(), history.token), (Some("first"), Some(running.token)));
    // An event is shown where it happened.
    let what: Vec<_> = history.events.iter().map(|event| (event.token, event.what.as_str())).collect();
    assert_eq!(what, ["started", "succeeded", "reused"].map(|what| (Some(running.token), what)));
    let lines = f.store.trials("second", None, 0).await.unwrap().rows;
    let done_there = lines.into_iter().find(|line| line.spec_hash == done.spec_hash).unwrap();
    let found =
        (done_there.attempts, done_there.step, done_there.worker.as_str(), done_there.reused_from.as_deref());
    assert_eq!(found, (1, 1, "host:7", Some("first")));
    let log = f.store.log(&format!("second/{}", done.spec_hash), None).await.unwrap();
    assert_eq!(
        (
            log.token,
            f.store.log_text(&format!("second/{}", done.spec_hash), None).await.unwrap().as_slice(),
            log.worker.as_str()
        ),
        (Some(done.token), b"printed".as_slice(), "host:7")
    );
    assert_eq!(f.store.log(&format!("second/{}", done.spec_hash), Some(done.token)).await.unwrap(), log);
    // What was taken over can be taken over again.
    assert_eq!(f.submit(&SWEEP.replace("\"first\"", "\"third\"")).await.reused, 2);
    assert_eq!(
        f.store.history(&format!("third/{}", done.spec_hash)).await.unwrap().line.reused_from.as_deref(),
        Some("first")
    );
}

pub async fn a_claim_that_finds_only_results_elsewhere_goes_on_looking(f: Fixture) {
    f.submit(SWEEP).await;
    let same = SWEEP.replace("\"first\"", "\"second\"");
    f.submit(&same).await;
    f.act("second", SweepAction::Pause).await;
    f.finish_everything().await;
    f.act("second", SweepAction::Resume).await;
    let waiting = f
        .store
        .claim(sortie_coordinator::store::Claim { return_when_idle: true, ..claim("w1", 2) }, PATIENCE * 10);
    let claimed = within(waiting).await.unwrap();
    assert_eq!((claimed.leases.len(), claimed.idle), (0, true));
    assert_eq!((f.status("second").await.reused, f.status("second").await.queued), (4, 0));
}

pub async fn without_reuse_everything_runs(f: Fixture) {
    f.submit(SWEEP).await;
    f.finish_everything().await;
    let options = SubmitOptions { reuse: Reuse::Never, priority: None };
    let submitted = f.submit_with(&SWEEP.replace("\"first\"", "\"second\""), options).await;
    assert_eq!((submitted.added, submitted.reused), (4, 0));
    f.finish_everything().await;
    assert_eq!((f.status("second").await.succeeded, f.status("second").await.reused), (4, 0));
}

pub async fn a_failed_trial_is_taken_over_by_nobody(f: Fixture) {
    f.submit(SWEEP).await;
    for lease in f.claim(2).await {
        f.fail(lease.token, sortie_core::job::ErrorClass::BadConfig).await;
    }
    f.complete(f.claim_one().await.token, Outcome::Diverged { step: 1 }).await.unwrap();
    assert_eq!(f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await.reused, 0);
}

pub async fn a_cancelled_sweep_takes_no_trials_until_it_is_resumed(f: Fixture) {
    f.submit(SWEEP).await;
    assert_eq!(f.cancel("").await, 4);
    let refused = f.store.submit(&spec(SWEEP), SubmitOptions::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), "sweep \"first\" is cancelled; `sortie resume first` opens it again");
    f.act("first", SweepAction::Resume).await;
    assert_eq!(f.submit(&SWEEP.replace("[0.0, 0.5]", "[0.5, 0.9]")).await.added, 2);
    assert_eq!((f.count(StateName::Cancelled).await, f.count(StateName::Queued).await), (0, 6));
}

pub async fn a_sweep_cancelled_in_the_middle_adds_nothing_more(f: Fixture) {
    let mut progress = f.store.submit(&spec(&large_sweep(MANY)), SubmitOptions::default()).await.unwrap();
    let cancelled = f.cancel("").await;
    while within(progress.changed()).await.is_ok() {}
    assert!(!progress.borrow().is_done(), "it was done before it could be cancelled");
    let status = f.status("first").await;
    assert_eq!((status.state, status.queued, status.cancelled), (SweepState::Cancelled, 0, cancelled));
    // Resumed, it is completed, and what was cancelled waits again.
    f.act("first", SweepAction::Resume).await;
    within(async {
        while f.status("first").await.state != SweepState::Open {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let status = f.status("first").await;
    assert_eq!((status.queued, status.cancelled), (6_200, 0));
}

pub async fn a_submission_changes_priority_and_requirements(f: Fixture) {
    f.submit_with(SWEEP, SubmitOptions { priority: Some(4), ..SubmitOptions::default() }).await;
    assert_eq!(f.status("first").await.priority, 4);
    assert_eq!(f.claim(1).await.len(), 1);
    f.submit(&format!("{SWEEP}\n[require]\ntags = ['night']\n")).await;
    assert_eq!(f.status("first").await.priority, 4, "none was given");
    let mine = f.claim_as("w1", 1).await;
    assert_eq!(mine.leases, [], "the new file's requirements count");
    f.submit_with(SWEEP, SubmitOptions { priority: Some(-1), ..SubmitOptions::default() }).await;
    assert_eq!((f.status("first").await.priority, f.claim(1).await.len()), (-1, 1));
}

pub async fn trials_are_added_to_the_sweep_of_the_highest_priority_first(f: Fixture) {
    let options = |priority| SubmitOptions { priority: Some(priority), ..SubmitOptions::default() };
    let low = f.store.submit(&spec(&large_sweep(MANY)), options(-1)).await.unwrap();
    // Larger, so that nothing but its priority puts it first.
    let high = large_sweep(2 * MANY).replace("\"first\"", "\"second\"").replace("1e-3", "1e-2");
    assert_eq!(f.submit_with(&high, options(1)).await.added, 12_400);
    assert!(!low.borrow().is_done(), "the sweep of lower priority was stored first");
}
