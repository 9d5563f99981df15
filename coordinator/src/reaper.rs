//! Ends leases that ran out, independently of any traffic.

use std::sync::Arc;
use std::time::Duration;

use crate::grpc::Coordinator;

/// How often expired leases are looked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the task is dropped. A database that fails is tried again at the next tick.
pub(crate) async fn run(coordinator: Arc<Coordinator>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match coordinator.store.reap(coordinator.clock.now()).await {
            Ok(0) => {}
            Ok(expired) => {
                tracing::warn!(expired, "leases ran out: their trials are queued again");
                coordinator.changed.notify_waiters();
            }
            Err(error) => tracing::error!(%error, "cannot look for expired leases"),
        }
    }
}
