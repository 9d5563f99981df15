//! Ends leases that ran out, independently of any traffic.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Store, StoreError};

/// How often expired leases are looked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the task is dropped. A database that fails is tried again at the next tick.
///
/// If no look succeeded for half a lease - the database was away, or this process was stopped - workers could not extend their leases
/// either: they get one lease of time before any of them is ended. That is decided when a look gets its turn, for it may have waited for
/// the database to come back.
pub(crate) async fn run(store: Arc<Store>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        ticks.tick().await;
        match store.reap_by(looked + INTERVAL + store.settings().lease / 2).await {
            Ok(Some(expired)) => {
                looked = Instant::now();
                if expired > 0 {
                    tracing::warn!(expired, "leases ran out: their trials are queued again");
                }
            }
            Ok(None) => match store.grant_grace().await {
                Ok(leases) => {
                    looked = Instant::now();
                    tracing::warn!(leases, "nothing was heard for a while; leases get time to be extended");
                }
                Err(StoreError::Lost(_)) => return,
                Err(error) => tracing::error!(%error, "cannot extend leases"),
            },
            // The server ends, and says why.
            Err(StoreError::Lost(_)) => return,
            Err(error) => tracing::error!(%error, "cannot look for expired leases"),
        }
    }
}
