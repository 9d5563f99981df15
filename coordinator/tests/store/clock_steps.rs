//! Clocks that are set, forwards and backwards: no lease ends early, and none more than one term late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_coordinator::store::{OpenOptions, Settings, Store};
use sortie_core::job::{ErrorClass, Outcome, StateName, Timestamp};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::AttemptHeartbeat;
use sqlx::{Connection as _, Executor as _, PgConnection, SqlSafeStr as _};
use tokio::time::Instant;

use crate::fixture::*;

const HOUR: i64 = 3_600_000;
/// Milliseconds.
const STEPS: [i64; 3] = [HOUR, -HOUR, -24 * HOUR];

/// On every store: while no coordinator runs.
pub async fn a_clock_that_is_set_before_a_restart_ends_no_lease_early_and_none_late(mut f: Fixture) {
    f.submit(&large_sweep(3)).await;
    for step in STEPS {
        let [alive, dead, failed] = [f.claim_one().await, f.claim_one().await, f.claim_one().await];
        f.fail(failed.token, ErrorClass::Transient).await;
        f.clock.step(step);
        f = f.restart().await;
        f.pass(9);
        assert_eq!(f.store.reap().await.unwrap(), 0, "{step}");
        assert!(
            f.store
                .heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(alive.token, 1)])
                .await
                .unwrap()
                .is_empty(),
            "{step}"
        );
        f.pass(2);
        assert_eq!(f.store.reap().await.unwrap(), 1, "{step}");
        assert_eq!(
            f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(dead.token, 1)]).await.unwrap(),
            [],
            "{step}: it comes back"
        );
        f.succeed(alive.token).await;
        f.succeed(dead.token).await;
        // A wait after a failure is at most a quarter of an hour, whatever the clock said when it began.
        f.pass(900);
        f.succeed(f.claim_one().await.token).await;
    }
    assert_eq!(f.count(StateName::Succeeded).await, 9);
}

/// A worker that sends heartbeats; it ends with the tokens that it was told to give up.
fn beat(
    store: &Arc<Store>,
    token: AttemptToken,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Vec<AttemptToken>> {
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    tokio::spawn(async move {
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            lost.extend(store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(token, 1)]).await.unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        lost
    })
}

/// A server whose clock a test can set: its own functions stand before the system's.
async fn settable_clock(url: &str) -> PgConnection {
    let mut admin = PgConnection::connect(url).await.unwrap();
    let statements = "
        CREATE SCHEMA settable;
        CREATE TABLE settable.step (ms BIGINT NOT NULL);
        INSERT INTO settable.step VALUES (0);
        CREATE FUNCTION settable.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE SQL VOLATILE AS
            'SELECT pg_catalog.clock_timestamp() + (SELECT ms FROM settable.step) * INTERVAL ''1 millisecond''';
        DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET search_path = public, settable, pg_catalog'', current_database()); END';";
    admin.execute(statements.into_sql_str()).await.unwrap();
    admin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_is_set_while_trials_run_ends_no_lease_early_and_none_late() {
    const TERM: Duration = Duration::from_secs(5);
    let Some(database) = Database::postgres() else { return };
    let mut admin = settable_clock(&database.url()).await;
    let settings = Settings::new(TERM);
    let store =
        Store::open(&database.url().parse().unwrap(), &OpenOptions::default(), settings).await.unwrap();
    let store = Arc::new(store);
    store.register(&worker("w1")).await.unwrap();
    submit(&store, &large_sweep(2), Default::default()).await.unwrap();
    for (index, step) in STEPS.into_iter().enumerate() {
        let mut leases = store.claim(claim("w1", 2), Duration::ZERO).await.unwrap().leases;
        let (alive, dead) = (leases.remove(0), leases.remove(0));
        let stop = Arc::new(AtomicBool::new(false));
        let beats = beat(&store, alive.token, &stop);
        tokio::time::sleep(TERM / 4).await;
        let total: i64 = STEPS[..=index].iter().sum();
        sqlx::query("UPDATE settable.step SET ms = $1").bind(total).execute(&mut admin).await.unwrap();
        let set = Instant::now();
        let mut reaped = 0;
        while reaped == 0 {
            assert!(set.elapsed() < TERM * 5, "{step}: a worker that is gone still has its trial");
            tokio::time::sleep(Duration::from_millis(50)).await;
            reaped = store.reap().await.unwrap();
        }
        let after = set.elapsed();
        assert!(reaped == 1 && after > TERM / 2, "{step}: {reaped} leases ended after {after:?}");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(within(beats).await.unwrap(), [], "{step}: a worker that is well lost its trial");
        for token in [alive.token, dead.token] {
            store.complete(secret(), completion(token)).await.unwrap();
        }
    }
    let history = store.history(&format!("first/{}", first_trial(&store).await)).await.unwrap();
    assert!(history.events.iter().all(|event| history.ago(event) < Duration::from_secs(26 * 3_600)));
    let done = store.status(Some("first")).await.unwrap()[0].succeeded;
    assert_eq!(done, 2 * STEPS.len() as u64);
}

async fn first_trial(store: &Store) -> String {
    store.trials("first", Some(StateName::Succeeded), 0).await.unwrap().rows[0].spec_hash.to_string()
}

/// The time of a SQLite file goes on from where it was, also when the machine's clock was set back meanwhile.
#[tokio::test]
async fn the_time_of_a_file_never_goes_back() {
    let database = Database::sqlite();
    let clock = MockClock::new();
    // 2100-01-01, further than any machine's clock.
    clock.step(4_102_444_800_000);
    let far = Timestamp(T0 + 4_102_444_800_000);
    let store = database.open(&clock).await.unwrap();
    store.register(&worker("w1")).await.unwrap();
    submit(&store, SWEEP, Default::default()).await.unwrap();
    let lease = store.claim(claim("w1", 1), Duration::ZERO).await.unwrap().leases.remove(0);
    clock.pass(Duration::from_secs(5));
    let failed = Outcome::Failed { class: ErrorClass::Preempted, message: String::new() };
    store
        .complete(
            secret(),
            sortie_core::lease::Completion { token: lease.token, batch: None, outcome: failed },
        )
        .await
        .unwrap();
    drop(store);
    // Opened by the machine's own clock.
    let reopen = async {
        loop {
            if let Ok(store) =
                Store::open(&database.url().parse().unwrap(), &OpenOptions::default(), SETTINGS).await
            {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let store = within(reopen).await;
    let read_at = store.workers(true).await.unwrap()[0].read_at;
    let from = far.plus(Duration::from_secs(5));
    assert!(from <= read_at && read_at < from.plus(Duration::from_secs(100)), "{read_at:?}");
}
