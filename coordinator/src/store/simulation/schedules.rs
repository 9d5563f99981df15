//! Random schedules of everything that goes wrong, and what must hold at the end of each.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::lease::AttemptHeartbeat;
use sortie_core::spec::SweepSpec;
use tokio::task::LocalSet;

use super::journal::Journal;
use super::world::Simulation;
use crate::clock::Clock;
use crate::store::types::{Claim, SweepAction, Worker};
use crate::store::{StoreError, SubmitOptions};

const SWEEP: &str = r#"
name = "simulated"
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
[train]
steps = 20
[grid]
dropout = [0.0, 0.5]
lr = 1e-3
weight_decay = 1e-4
held_out = ["photo", "sketch", "cartoon"]
"#;

/// For each domain, what is made of both rates.
const COMBINE: &str = "[[combine]]\nname = 'both'\nkind = 'ensemble'\nover = 'dropout'\n";

const WORKERS: usize = 3;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(40);
/// Far more than nine trials need when nothing goes wrong, waits after failures and a worker that was quarantined included.
const END_LIMIT: Duration = Duration::from_secs(4 * 3_600);

/// What a schedule came to.
#[derive(Debug, PartialEq, Eq)]
struct ScheduleResult {
    violations: Vec<String>,
    trace: u64,
}

fn run(seed: u64, ignores_tokens: bool) -> ScheduleResult {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let world = Simulation::new(seed, ignores_tokens);
        world.start().await;
        let spec = SweepSpec::parse(&format!("{SWEEP}{COMBINE}"), None).unwrap();
        drop(world.store().unwrap().submit(&spec, SubmitOptions::default()).await.unwrap());
        for worker in 0..WORKERS {
            tokio::task::spawn_local(std::rc::Rc::clone(&world).agent(worker));
        }
        let trouble = tokio::task::spawn_local(std::rc::Rc::clone(&world).trouble(WORKERS));
        tokio::time::sleep(TROUBLE).await;
        trouble.abort();
        world.heal().await;
        let store = world.store().unwrap();
        store.act("simulated", SweepAction::Resume).await.unwrap();
        let ended = tokio::time::timeout(END_LIMIT, async {
            loop {
                let status = store.status(None).await.unwrap().remove(0);
                if status.blocked + status.queued + status.running == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        // What has not ended by then is found by its state.
        drop(ended.await);
        // What the network still holds arrives.
        tokio::time::sleep(super::world::DELAY_MAX).await;
        let mut journal = world.journal.replace(Journal::new(super::world::LEASE));
        journal.check(&store, world.clock.now()).await.unwrap();
        journal.check_combinations(&spec, &store, world.clock.now()).await.unwrap();
        ScheduleResult { trace: journal.trace(), violations: journal.violations }
    })
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Runs schedules on all processors; gives those that went wrong.
fn run_all(seeds: std::ops::Range<u64>, ignores_tokens: bool) -> Vec<(u64, Vec<String>)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let run_some = |first: u64| {
            let seeds = seeds.clone().skip(first as usize).step_by(threads as usize);
            seeds
                .map(|seed| (seed, run(seed, ignores_tokens).violations))
                .filter(|(_, violations)| !violations.is_empty())
                .collect()
        };
        let tasks: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || -> Vec<_> { run_some(first) })).collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    })
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_is_done_twice() {
    let first = setting("SORTIE_TEST_SEED", 0);
    let wrong = run_all(first..first + setting("SORTIE_TEST_CASES", 700), false);
    assert!(wrong.is_empty(), "{} schedules went wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(3)]);
}

#[test]
fn a_store_that_ends_attempts_by_id_only_is_found_out() {
    let wrong = run_all(0..100, true);
    assert!(wrong.len() >= 10, "{} schedules found it", wrong.len());
    let found: String = wrong.iter().flat_map(|(_, violations)| violations.clone()).collect();
    for rule in ["is stale and ended", "is stale and reported", "is stale and was accepted"] {
        assert!(found.contains(rule), "nothing was found {rule:?}");
    }
}

#[test]
fn a_schedule_comes_again_with_its_seed() {
    for seed in 0..20 {
        assert_eq!(run(seed, false), run(seed, false));
    }
    assert_ne!(run(1, false).trace, run(2, false).trace);
}

/// The reaper's own part in an outage: workers that could not extend their leases lose nothing.
#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_a_lease_costs_nobody_a_trial() {
    let world = Simulation::new(0, false);
    world.start().await;
    let store = world.store().unwrap();
    let worker = Worker { id: "w1".to_owned(), ..Worker::default() };
    store.register(&worker).await.unwrap();
    drop(store.submit(&SweepSpec::parse(SWEEP, None).unwrap(), SubmitOptions::default()).await.unwrap());
    let claim = Claim { worker_id: "w1".to_owned(), count_max: 1, ..Claim::default() };
    let token = store.claim(claim, Duration::from_secs(5)).await.unwrap().leases.remove(0).token;
    for outage in [4, 30, 300] {
        world.faults.lock().unwrap().refused = 100;
        tokio::time::sleep(Duration::from_secs(outage)).await;
        assert!(matches!(
            store.heartbeat(TokenDigest::default(), "w1", vec![AttemptHeartbeat::at(token, 1)]).await,
            Err(StoreError::Database(_))
        ));
        world.faults.lock().unwrap().refused = 0;
        // The worker comes back late, but within a lease.
        tokio::time::sleep(super::world::LEASE * 4 / 10).await;
        assert_eq!(
            store
                .heartbeat(TokenDigest::default(), "w1", vec![AttemptHeartbeat::at(token, 1)])
                .await
                .unwrap(),
            []
        );
        assert_eq!(store.status(None).await.unwrap()[0].running, 1);
    }
    let name = store.trials("simulated", None, 0).await.unwrap().rows.remove(0).spec_hash.to_string();
    assert_eq!(store.history(&name).await.unwrap().events.len(), 1, "it was lost meanwhile, and came back");
    // One that never comes back is noticed all the same.
    tokio::time::sleep(super::world::LEASE + Duration::from_secs(1)).await;
    assert_eq!(store.status(None).await.unwrap()[0].running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_takes_no_trials_keeps_nobody_waiting() {
    let world = Simulation::new(0, false);
    world.start().await;
    let store = world.store().unwrap();
    store.register(&Worker { id: "w1".to_owned(), ..Worker::default() }).await.unwrap();
    world.faults.lock().unwrap().adds_nothing = true;
    drop(store.submit(&SweepSpec::parse(SWEEP, None).unwrap(), SubmitOptions::default()).await.unwrap());
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(90)).await;
        let before = tokio::time::Instant::now();
        store.heartbeat(TokenDigest::default(), "w1", Vec::new()).await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
    assert_eq!(store.status(None).await.unwrap()[0].queued, 0);
    world.faults.lock().unwrap().adds_nothing = false;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.status(None).await.unwrap()[0].queued, 6);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_never_answers_is_given_up_after_a_minute() {
    let world = Simulation::new(0, false);
    world.start().await;
    let store = world.store().unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.faults.lock().unwrap().hangs = true;
    let before = tokio::time::Instant::now();
    let error = store.heartbeat(TokenDigest::default(), "w1", Vec::new()).await.unwrap_err();
    // Another request may have been before it.
    let minutes = before.elapsed().as_secs_f64() / 60.0;
    assert!((1.0..=2.1).contains(&minutes), "{minutes}");
    assert!(matches!(error, StoreError::NoAnswer(limit) if limit == Duration::from_secs(60)), "{error}");
    world.faults.lock().unwrap().hangs = false;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let before = tokio::time::Instant::now();
    store.heartbeat(TokenDigest::default(), "w1", Vec::new()).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}
