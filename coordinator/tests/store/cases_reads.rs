//! What users read from the store: status, pages, histories, names, workers.

use sortie_coordinator::store::{StoreError, SweepStatus};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::{AttemptHeartbeat, Lease};
use sortie_core::pipe::Preparation;
use sortie_core::record::Fingerprint;
use sortie_core::status::SweepState;

use crate::fixture::*;

pub async fn status_counts_trials_and_steps(f: Fixture) {
    f.submit(&large_sweep(3)).await;
    f.submit(&other_sweep("second", "1e-2")).await;
    let leases = f.claim_as("w1", 24).await.leases;
    let mut first = leases.iter().filter(|lease| lease.sweep == "first").map(|lease| lease.token);
    f.pass(4);
    f.succeed(first.next().unwrap()).await;
    f.complete(first.next().unwrap(), Outcome::Diverged { step: 2 }).await.unwrap();
    f.fail(first.next().unwrap(), ErrorClass::BadConfig).await;
    f.fail(first.next().unwrap(), ErrorClass::Transient).await;
    f.store
        .heartbeat(
            secret(),
            "w1",
            vec![
                AttemptHeartbeat::at(first.next().unwrap(), 7),
                AttemptHeartbeat::at(first.next().unwrap(), 5),
            ],
        )
        .await
        .unwrap();
    f.cancel("seed=2").await;
    let expected = SweepStatus {
        sweep: "first".to_owned(),

        planned: 12,
        queued: 1,
        delayed: true,
        running: 4,
        succeeded: 1,
        diverged: 1,
        failed: 1,
        cancelled: 4,
        // Twenty-one updates a trial.
        steps_done: 7 * 21 + 12,
        steps_planned: 12 * 21,
        running_ms: 4_000,
        finished_attempts: 1,
        ..SweepStatus::empty("first".to_owned(), SweepState::Open)
    };
    assert_eq!(f.status("first").await, expected);
    f.pass(600);
    assert!(!f.status("first").await.delayed, "its wait is over");
    let all = f.store.status(None).await.unwrap();
    assert_eq!(all.iter().map(|status| status.sweep.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!((all[1].running, all[1].planned), (4, 4));
}

pub async fn progress_never_goes_backwards(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    for (reported, expected) in [(5, 5), (9, 9), (3, 9)] {
        f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(lease.token, reported)]).await.unwrap();
        assert_eq!(f.store.trials("first", None, 0).await.unwrap().rows[0].step, expected);
    }
    // Reports bring it too, for a short attempt may end before its first heartbeat.
    f.store.report(secret(), lease.token, batch(1, vec![evaluation("sketch", 12, 3)])).await.unwrap();
    assert_eq!(f.store.trials("first", None, 0).await.unwrap().rows[0].step, 12);
}

pub async fn what_comes_before_the_first_step_is_shown(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(2).await;
    let prepares = |lease: &Lease, done| {
        let preparation = Some(Preparation { what: "decoding\n".to_owned(), done, total: 1_244 });
        AttemptHeartbeat { preparation, ..AttemptHeartbeat::at(lease.token, 0) }
    };
    let shown = async || {
        let status = f.status("first").await;
        (status.running, status.preparing, status.preparation)
    };
    assert_eq!(shown().await, (2, 0, None));
    f.store
        .heartbeat(secret(), "w1", vec![prepares(&leases[0], 4), prepares(&leases[1], 300)])
        .await
        .unwrap();
    // Of several, the first by its text.
    assert_eq!(shown().await, (2, 2, Some("decoding , 300 of 1244 images".to_owned())));
    let history = f.store.history(&leases[0].spec_hash.to_string()).await.unwrap();
    assert!(history.events[0].detail.ends_with(", decoding , 4 of 1244 images"), "{:?}", history.events);
    f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(leases[1].token, 1)]).await.unwrap();
    assert_eq!(shown().await, (2, 1, Some("decoding , 4 of 1244 images".to_owned())));
    f.complete(leases[0].token, Outcome::Succeeded).await.unwrap();
    assert_eq!(shown().await, (1, 0, None));
}

pub async fn long_answers_come_in_pages(f: Fixture) {
    f.submit(&large_sweep(260)).await;
    for lease in f.claim(3).await {
        f.complete_with(lease.token, batch(1, vec![evaluation("cartoon", 1, 2)]), Outcome::Succeeded)
            .await
            .unwrap();
    }
    let (mut trials, mut from, mut pages) = (Vec::new(), Some(0), Vec::new());
    while let Some(position) = from {
        let page = f.store.trials("first", None, position).await.unwrap();
        pages.push(page.rows.len());
        trials.extend(page.rows.into_iter().map(|line| line.spec_hash));
        from = page.next;
    }
    assert_eq!(pages, [500, 500, 40]);
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(position) = from {
        let page = f.store.records("first", position).await.unwrap();
        records.extend(page.rows);
        from = page.next;
    }
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), trials);
    assert_eq!(records.iter().filter(|record| record.validation.len() == 1).count(), 3);
    let succeeded = f.store.trials("first", Some(StateName::Succeeded), 0).await.unwrap();
    assert_eq!((succeeded.rows.len(), succeeded.next), (3, None));
    let queued = f.store.trials("first", Some(StateName::Queued), 0).await.unwrap();
    assert_eq!((queued.rows.len(), queued.next), (500, Some(503)));
}

pub async fn a_trial_is_found_by_a_prefix_that_means_only_it(f: Fixture) {
    f.submit(&large_sweep(10)).await;
    f.submit(&large_sweep(10).replace("\"first\"", "\"second\"")).await;
    let line = f.store.trials("first", None, 0).await.unwrap().rows.remove(0);
    let id = line.spec_hash.to_string();
    let found =
        async |name: &str| f.store.history(name).await.map(|history| (history.sweep, history.line.spec_hash));
    assert_eq!(found(&format!("first/{id}")).await.unwrap(), ("first".to_owned(), line.spec_hash));
    assert_eq!(found(&format!("second/{}", &id[..9])).await.unwrap(), ("second".to_owned(), line.spec_hash));
    assert_eq!(found(&format!("second/{}", id.to_uppercase())).await.unwrap().0, "second");
    // Both sweeps have it.
    for (name, found_there) in [
        (
            id.as_str(),
            format!("the same trial in several sweeps (first/{0}, second/{0}): write SWEEP/PREFIX", &id[..8])
                .as_str(),
        ),
        (&format!("first/{id}0"), "no trial"),
        ("first/", "no trial: ids are hexadecimal digits"),
        ("", "no trial: ids are hexadecimal digits"),
        ("xyz", "no trial: ids are hexadecimal digits"),
        ("%", "no trial: ids are hexadecimal digits"),
        (&format!("{id}0"), "no trial"),
    ] {
        let error = found(name).await.unwrap_err();
        assert!(matches!(error, StoreError::Trial { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{name:?} names {found_there}"));
    }
    // Eighty trials share sixteen first digits.
    let error = found("").await.unwrap_err().to_string();
    assert!(!error.contains('('), "{error}");
    let many = f.store.trials("first", None, 0).await.unwrap().rows;
    let many = (0..16)
        .map(|digit| format!("{digit:x}"))
        .max_by_key(|digit| many.iter().filter(|line| line.spec_hash.to_string().starts_with(digit)).count());
    let error = found(&many.unwrap()).await.unwrap_err().to_string();
    assert!(
        error.contains("several trials (first/") && error.contains(", ...): write more digits"),
        "{error}"
    );
    let error = found(&format!("third/{id}")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no sweep \"third\"; there are: second, first");
}

pub async fn a_trials_history_has_everything_in_order(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    let name = first.spec_hash.to_string();
    let fingerprint = Fingerprint { device: "GPU of 1990".into(), ..Fingerprint::default() };
    let reported =
        sortie_core::lease::Batch { sequence: 1, fingerprint: Some(fingerprint), ..Default::default() };
    f.store.report(secret(), first.token, reported).await.unwrap();
    f.pass(2);
    f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(first.token, 6)]).await.unwrap();
    f.fail(first.token, ErrorClass::Transient).await;
    f.pass(1);
    f.retry("", None).await;
    f.pass(1);
    let second = f.claim_one().await;
    f.pass(10);
    f.store.reap().await.unwrap();
    f.pass(1);
    let third = f.claim_one().await;
    f.pass(1);
    f.complete(third.token, Outcome::Diverged { step: 0 }).await.unwrap();
    let history = f.store.history(&name).await.unwrap();
    let reported: Vec<_> = history
        .events
        .iter()
        .map(|h| ((h.at_ms - T0) / 1_000, h.token, h.what.as_str(), h.detail.as_str()))
        .collect();
    let expected = [
        (0, Some(first.token), "started", "on host:7, GPU of 1990"),
        (2, Some(first.token), "failed", "at step 6, transient: two lines"),
        (3, None, "retried", "by a user"),
        (4, Some(second.token), "started", "on host:7"),
        (14, Some(second.token), "lost", "at step 0: the worker was not heard from until its lease ended"),
        (15, Some(third.token), "started", "on host:7"),
        (16, Some(third.token), "diverged", "at step 0: the training loss was no number at step 0"),
    ];
    assert_eq!(reported, expected);
    assert_eq!(
        (history.token, history.line.reused_from, history.not_before),
        (Some(third.token), None, None)
    );
    assert_eq!((history.line.state, history.line.attempts), (StateName::Diverged, 3));
}

pub async fn workers_are_listed_with_what_they_run(f: Fixture) {
    f.submit(SWEEP).await;
    f.store.register(&worker("w2")).await.unwrap();
    f.pass(3_000);
    let lease = f.claim_as("w2", 1).await.leases.remove(0);
    f.claim_as("w2", 1).await;
    f.pass(700);
    f.store.register(&worker("w3")).await.unwrap();
    f.store.leave(secret(), "w3").await.unwrap();
    let lately = f.store.workers(false).await.unwrap();
    assert_eq!(lately.iter().map(|line| line.worker.id.as_str()).collect::<Vec<_>>(), ["w2", "w3"]);
    assert_eq!(
        (lately[0].worker.clone(), lately[0].seen.0, lately[0].left),
        (worker("w2"), T0 + 3_000_000, false)
    );
    assert_eq!(lately[0].trials.len(), 2);
    assert_eq!(lately[0].trials[0], format!("first/{}", lease.spec_hash.short()));
    assert!(lately[1].left && lately[1].trials.is_empty());
    assert_eq!(f.store.workers(true).await.unwrap().len(), 3);
}

pub async fn what_a_sweep_runs_is_described(f: Fixture) {
    f.submit(SWEEP).await;
    assert_eq!(f.store.work("first").await.unwrap(), spec(SWEEP).work);
}
