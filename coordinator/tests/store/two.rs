//! Two coordinators on one Postgres, and a Postgres that crashes under its coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sortie_coordinator::store::{Store, StoreError, TrialAction};
use sortie_core::filter::Filter;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Completion};
use sortie_core::trial::SpecHash;
use sortie_testkit::postgres::Postgres;

use crate::fixture::*;

/// Two coordinators and what they share.
struct Two {
    stores: [Arc<Store>; 2],
    clock: Arc<MockClock>,
}

impl Two {
    async fn new() -> Option<Self> {
        let (database, clock) = (Database::postgres()?, MockClock::new());
        let stores =
            [Arc::new(database.open(&clock).await.unwrap()), Arc::new(database.open(&clock).await.unwrap())];
        stores[0].register(&worker("w1")).await.unwrap();
        Some(Self { stores, clock })
    }

    async fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        let mut from = Some(0);
        while let Some(position) = from {
            let page = self.stores[0].trials("first", None, position).await.unwrap();
            page.rows.iter().for_each(|line| *states.entry(line.state.as_str()).or_default() += 1);
            from = page.next;
        }
        states
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_hand_out_and_take_every_trial_once() {
    let Some(two) = Two::new().await else { return };
    submit(&two.stores[0], &large_sweep(60), Default::default()).await.unwrap();
    let tasks: Vec<_> = (0..12_usize)
        .map(|task| {
            let stores = two.stores.clone();
            tokio::spawn(async move {
                let mut done: Vec<(SpecHash, AttemptToken)> = Vec::new();
                loop {
                    let count_max = 1 + u32::try_from(task % 4).unwrap();
                    let claimed =
                        stores[task % 2].claim(claim("w1", count_max), Duration::ZERO).await.unwrap();
                    // The other coordinator may have had the last ones in its hands, and no more.
                    if claimed.leases.is_empty() && claimed.idle {
                        return done;
                    }
                    for lease in claimed.leases {
                        // A worker whose connection was cut repeats its report to the other one: both take it.
                        let (one, other) = tokio::join!(
                            stores[0].complete(secret(), completion(lease.token)),
                            stores[1].complete(secret(), completion(lease.token))
                        );
                        one.unwrap();
                        other.unwrap();
                        done.push((lease.spec_hash, lease.token));
                    }
                }
            })
        })
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        done.extend(within(task).await.unwrap());
    }
    let trials: BTreeSet<SpecHash> = done.iter().map(|(trial, _)| *trial).collect();
    assert_eq!((done.len(), trials.len()), (240, 240));
    let tokens: BTreeMap<SpecHash, AttemptToken> = done.into_iter().collect();
    for record in two.stores[1].records("first", 0).await.unwrap().rows {
        let expected = completion(tokens[&record.id]).batch.unwrap().evaluations;
        assert_eq!(
            (record.state, [record.validation, record.held_out].concat()),
            (StateName::Succeeded, expected)
        );
    }
}

#[tokio::test]
async fn a_claim_that_waits_at_one_is_woken_by_the_other() {
    let Some(two) = Two::new().await else { return };
    let [one, other] = &two.stores;
    let before = tokio::time::Instant::now();
    let rounds = 6;
    let mut held: Option<AttemptToken> = None;
    for round in 0..rounds {
        let claim = claim("w1", 1);
        let waiting = one.claim(claim, PATIENCE);
        let frees = async {
            // Long enough for the claim to be waiting, mostly; where it is not, it has nothing to be woken from.
            tokio::time::sleep(Duration::from_millis(50)).await;
            match held {
                None => drop(submit(other, SWEEP, Default::default()).await.unwrap()),
                Some(token) => {
                    let outcome = Outcome::Failed { class: ErrorClass::Preempted, message: String::new() };
                    other.complete(secret(), Completion { token, batch: None, outcome }).await.unwrap();
                }
            }
        };
        let (claimed, ()) = tokio::join!(waiting, frees);
        held = Some(claimed.unwrap().leases.remove(0).token);
        if round == 0 {
            // What is left would end every wait.
            other
                .act_on_trials("first", TrialAction::Cancel, &Filter::default(), Some(StateName::Queued))
                .await
                .unwrap();
        }
    }
    // Without an announcement, each round lasts the five seconds between two looks.
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_submission_is_followed_to_its_end_wherever_its_trials_are_added() {
    let Some(two) = Two::new().await else { return };
    let text = large_sweep(1_000);
    let first = two.stores[0].submit(&spec(&text), Default::default()).await.unwrap();
    // Repeated at the other coordinator while the first one adds trials: both report the end.
    let followed = submit(&two.stores[1], &text, Default::default()).await.unwrap();
    assert_eq!((followed.planned, followed.expanded), (4_000, 4_000));
    let mut first = first;
    within(async { while first.changed().await.is_ok() {} }).await;
    assert!(first.borrow().is_done(), "{:?}", first.borrow());
    assert_eq!(two.states().await.values().sum::<usize>(), 4_000);
}

/// What a task of the next test does, over and over.
async fn interfere(stores: [Arc<Store>; 2], clock: Arc<MockClock>, task: usize) -> Vec<StoreError> {
    let mut errors = Vec::new();
    let mut tokens: Vec<AttemptToken> = Vec::new();
    for round in 0..25_usize {
        let store = &stores[(task + round / 3) % 2];
        let mut note = |error: StoreError| {
            if !matches!(error, StoreError::Refused(_)) {
                errors.push(error);
            }
        };
        match store.claim(claim("w1", 3), Duration::ZERO).await {
            Ok(claimed) => tokens.extend(claimed.leases.iter().map(|lease| lease.token)),
            Err(error) => note(error),
        }
        // In another order everywhere.
        tokens.reverse();
        let attempts = tokens.iter().map(|token| AttemptHeartbeat::at(*token, round as u64)).collect();
        match store.heartbeat(secret(), "w1", attempts).await {
            Ok(lost) => tokens.retain(|token| !lost.contains(token)),
            Err(error) => note(error),
        }
        let (condition, state) = (filter(["held_out=photo", "dropout=0.5"][task % 2]), None);
        match task % 4 {
            0 => drop(
                store.act_on_trials("first", TrialAction::Cancel, &condition, state).await.map_err(&mut note),
            ),
            1 => drop(
                store.act_on_trials("first", TrialAction::Retry, &condition, state).await.map_err(&mut note),
            ),
            2 => {
                clock.pass(Duration::from_secs(4));
                let _reaped = store.reap().await.map_err(&mut note).unwrap_or_default();
            }
            _ => drop(store.grant_grace().await.map_err(&mut note)),
        }
        if let Some(token) = tokens.pop() {
            let outcome = if round % 3 == 0 { failed(ErrorClass::Preempted) } else { Outcome::Succeeded };
            let end = Completion { token, batch: Some(batch(1, vec![])), outcome };
            let (one, other) =
                tokio::join!(stores[0].complete(secret(), end.clone()), stores[1].complete(secret(), end));
            [one, other].into_iter().filter_map(Result::err).for_each(&mut note);
        }
    }
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_get_along_under_load() {
    let Some(two) = Two::new().await else { return };
    submit(&two.stores[0], &large_sweep(15), Default::default()).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| tokio::spawn(interfere(two.stores.clone(), Arc::clone(&two.clock), task)))
        .collect();
    for task in tasks {
        let errors = within(task).await.unwrap();
        assert!(errors.is_empty(), "{errors:?}");
    }
    // Whatever happened, every trial is in one state, and what is counted is what is there.
    let states = two.states().await;
    assert_eq!(states.values().sum::<usize>(), 60, "{states:?}");
    let status = two.stores[1].status(Some("first")).await.unwrap().remove(0);
    let of = |state: StateName| states.get(state.as_str()).copied().unwrap_or(0) as u64;
    assert_eq!((status.queued, status.running), (of(StateName::Queued), of(StateName::Running)));
    assert_eq!((status.succeeded, status.cancelled), (of(StateName::Succeeded), of(StateName::Cancelled)));
}

/// Asks until it is answered, as a worker does.
async fn at_last<T>(mut ask: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    within(async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(StoreError::Database(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_has_what_was_acknowledged() {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return;
    }
    let mut server = Postgres::start().unwrap();
    let (database, clock) = (Database::Postgres(server.url("postgres")), MockClock::new());
    let store = Arc::new(database.open(&clock).await.unwrap());
    store.register(&worker("w1")).await.unwrap();
    submit(&store, &large_sweep(200), Default::default()).await.unwrap();
    let held = store.claim(claim("w1", 1), Duration::ZERO).await.unwrap().leases.remove(0);
    store.report(secret(), held.token, batch(1, vec![evaluation("sketch", 0, 7)])).await.unwrap();

    // A worker that is in the middle of things, and writes down what was acknowledged.
    let (journal, busy) = tokio::sync::mpsc::unbounded_channel::<SpecHash>();
    let worker = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            loop {
                let lease = store.claim(claim("w1", 1), Duration::ZERO).await?.leases.remove(0);
                store.complete(secret(), completion(lease.token)).await?;
                journal.send(lease.spec_hash).ok();
            }
            #[expect(unreachable_code, reason = "it names the type of the error")]
            Ok::<(), StoreError>(())
        }
    });
    let mut busy = busy;
    let mut acknowledged = vec![within(busy.recv()).await.unwrap()];
    while acknowledged.len() < 20 {
        acknowledged.push(within(busy.recv()).await.unwrap());
    }
    server.kill().unwrap();
    let error = within(worker).await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error:?}");
    while let Some(trial) = busy.recv().await {
        acknowledged.push(trial);
    }

    // Meanwhile everything is refused in one line, and nobody hangs.
    let (report, claimed, status) = tokio::join!(
        store.report(secret(), held.token, batch(2, vec![])),
        store.claim(claim("w1", 1), PATIENCE),
        store.status(None)
    );
    for error in [report.unwrap_err(), claimed.unwrap_err(), status.unwrap_err()] {
        assert!(matches!(error, StoreError::Database(_)) && !error.to_string().contains('\n'), "{error:?}");
    }
    clock.pass(LEASE * 10);
    server.restart().unwrap();

    // Nobody could extend a lease: they get the time of one.
    let running = at_last(async || store.grant_grace().await).await;
    assert!((1..=2).contains(&running), "{running}");
    assert_eq!(store.reap().await.unwrap(), 0);
    at_last(async || {
        store
            .complete(
                secret(),
                Completion { token: held.token, batch: Some(batch(2, vec![])), outcome: Outcome::Succeeded },
            )
            .await
    })
    .await;
    let succeeded = succeeded_trials(&store).await;
    assert!(
        acknowledged.iter().chain([&held.spec_hash]).all(|trial| succeeded.contains(trial)),
        "an acknowledged result is gone"
    );
    let next = at_last(async || store.claim(claim("w1", 1), Duration::ZERO).await).await.leases.remove(0);
    assert!(next.token > held.token && !succeeded.contains(&next.spec_hash));
}

/// The trials of the sweep that have a result, each with its one evaluation.
async fn succeeded_trials(store: &Store) -> BTreeSet<SpecHash> {
    let (mut succeeded, mut from) = (BTreeSet::new(), Some(0));
    while let Some(position) = from {
        let page = at_last(async || store.records("first", position).await).await;
        for record in page.rows.iter().filter(|record| record.state == StateName::Succeeded) {
            assert_eq!(record.validation.len() + record.held_out.len(), 1);
            succeeded.insert(record.id);
        }
        from = page.next;
    }
    succeeded
}
