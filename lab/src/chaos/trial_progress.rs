//! Waiting until trials have ended.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::time::sleep;

use super::fault_injector::FaultInjector;
use crate::clock::now;
use crate::cluster::Cluster;

/// The time between two requests for the status.
pub(super) const POLL: Duration = Duration::from_millis(50);
/// If no trial ends for this long, the run fails. Trials take far less on a busy machine.
const STALL_MAX: Duration = Duration::from_secs(240);

/// The number of ended trials, and the time of its last change.
pub(super) struct TrialProgress {
    ended: u64,
    since: Instant,
}

impl TrialProgress {
    pub(super) fn new() -> Self {
        Self { ended: 0, since: now() }
    }

    /// Waits until the given number of trials has ended, and repairs faults meanwhile. Returns false at the deadline.
    pub(super) async fn wait_for(
        &mut self,
        trials: u64,
        deadline: Option<Instant>,
        cluster: &Cluster,
        injector: &mut FaultInjector,
    ) -> Result<bool> {
        loop {
            injector.repair(cluster)?;
            cluster.check()?;
            self.update(cluster).await?;
            if self.ended >= trials {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return Ok(false);
            }
            if self.since.elapsed() > STALL_MAX {
                bail!(
                    "no trial has ended for {} s: {} of {trials} have ended",
                    STALL_MAX.as_secs(),
                    self.ended
                );
            }
            sleep(POLL).await;
        }
    }

    async fn update(&mut self, cluster: &Cluster) -> Result<()> {
        let Some(status) = cluster.status().await else { return Ok(()) };
        let failed = status.failed + status.cancelled;
        ensure!(failed == 0, "{failed} trials failed");
        let ended = status.succeeded + status.diverged;
        if ended != self.ended {
            *self = Self { ended, since: now() };
        }
        Ok(())
    }
}
