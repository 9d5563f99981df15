//! The writer finds changes that nobody announces by looking, however busy it is. On the model, where hours pass in a moment.

use std::time::Duration;

use sortie_core::job::ErrorClass;
use sortie_core::status::SweepState;
use tokio::time::{Instant, sleep};

use crate::fixture::*;

/// More than the writer lets pass between two looks.
const SOON: Duration = Duration::from_secs(6);

async fn fixture() -> Fixture {
    Fixture::new(Database::Model(Default::default())).await
}

/// Does something every second until the future is ready.
async fn meanwhile<T>(future: impl Future<Output = T>, mut does: impl AsyncFnMut()) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return output,
            () = sleep(Duration::from_secs(1)) => does().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_writer_still_finds_a_trial_whose_time_has_come() {
    let f = fixture().await;
    f.submit(SWEEP).await;
    f.cancel("held_out=sketch").await;
    f.cancel("dropout=0.5").await;
    f.fail(f.claim_one().await.token, ErrorClass::Transient).await;
    // The next coordinator has heard of no wait.
    let f = f.restart().await;
    let waiting = f.wait_for_a_trial(false).await;
    f.pass(600);
    let before = Instant::now();
    let claimed = meanwhile(waiting, async || {
        assert_eq!(f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap(), [])
    })
    .await
    .unwrap();
    assert_eq!(claimed.leases.len(), 1);
    assert!(before.elapsed() <= SOON, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_after_a_failure_ends_when_it_ends() {
    let f = fixture().await;
    f.submit(SWEEP).await;
    f.cancel("held_out=sketch").await;
    f.cancel("dropout=0.5").await;
    f.fail(f.claim_one().await.token, ErrorClass::Transient).await;
    let due = f.store.trials("first", None, 0).await.unwrap().rows.remove(0).spec_hash;
    let due = Duration::from_millis(
        (f.store.history(&due.to_string()).await.unwrap().not_before.unwrap().0 - T0).unsigned_abs(),
    );
    let waiting = f.wait_for_a_trial(false).await;
    f.clock.pass(due);
    let before = Instant::now();
    assert_eq!(waiting.await.unwrap().leases.len(), 1);
    assert!(
        (due..due + Duration::from_millis(10)).contains(&before.elapsed()),
        "{:?} of {due:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_writer_still_ends_a_wait_in_time() {
    let f = fixture().await;
    let wait = Duration::from_millis(20_500);
    let before = Instant::now();
    let claimed = meanwhile(f.store.claim(claim("w1", 1), wait), async || {
        assert_eq!(f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap(), [])
    })
    .await;
    assert!(claimed.unwrap().leases.is_empty());
    assert!((wait..wait + Duration::from_millis(10)).contains(&before.elapsed()), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_worker_is_seen() {
    let f = fixture().await;
    let waiting = f.wait_for_a_trial(false).await;
    f.pass(30);
    meanwhile(sleep(SOON), async || assert_eq!(f.store.reap().await.unwrap(), 0)).await;
    assert_eq!(f.store.workers(true).await.unwrap()[0].seen.0, T0 + 30_000);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_whose_coordinator_ended_is_completed_by_another() {
    let f = fixture().await;
    let other = f.database.open(&f.clock).await.unwrap();
    sleep(SOON).await;
    let mut progress = f.store.submit(&spec(&large_sweep(1_550)), Default::default()).await.unwrap();
    drop(f.store);
    while progress.changed().await.is_ok() {}
    assert!(!progress.borrow().is_done(), "it was done before the coordinator could end");
    meanwhile(sleep(SOON), async || assert_eq!(other.reap().await.unwrap(), 0)).await;
    let status = other.status(Some("first")).await.unwrap().remove(0);
    assert_eq!((status.state, status.queued), (SweepState::Open, 6_200));
}
