//! The writer's work in the background: adding trials to sweeps, letting combinations start, and removing deleted sweeps.

use std::time::Duration;

use tokio::time::Instant;

use super::command::{Expand, Remove, Settle};
use super::writer_task::Writer;
use crate::store::backend::StoredSweepState;

/// Combinations that wait for their members are looked at this often while trials end.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// A look that takes long is followed by a pause of this many times as long.
const SETTLE_PAUSES: u32 = 20;
/// Trials that one transaction removes at most.
const REMOVE_TRIALS_MAX: u64 = 50;
/// A removal that takes longer is followed by a smaller one.
const REMOVE_TIME: Duration = Duration::from_millis(200);
/// A removal is followed by a pause of this many times as long.
const REMOVE_PAUSES: u32 = 4;
/// After the database refused some, until the next try.
const AGAIN: Duration = Duration::from_millis(500);

impl Writer {
    /// Adds some trials to a sweep whose grid is not stored completely.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) async fn expand(&mut self) {
        match self.change(&Expand).await {
            Ok(Some(chunk)) => {
                if chunk.added > 0 || chunk.lacking.trials > 0 {
                    self.claims.wake();
                    self.combinations.want();
                }
                self.expansion.note(&chunk);
            }
            Ok(None) => {
                self.expansion.task.done();
                self.follow_submissions().await;
            }
            Err(error) => {
                tracing::error!(%error, "cannot add trials to a sweep; trying again");
                self.expansion.task.pause(AGAIN);
            }
        }
    }

    /// Nothing is to be added here: what was submitted is complete, or cancelled, or another coordinator adds it.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn follow_submissions(&mut self) {
        let mut open = Vec::new();
        for (id, progress) in std::mem::take(&mut self.expansion.submissions) {
            let name = progress.borrow().sweep.clone();
            match self.backend.sweep(&name).await {
                Ok(Some(row)) => {
                    let cancelled = row.state == StoredSweepState::Cancelled;
                    progress.send_modify(|submitted| {
                        (submitted.planned, submitted.expanded, submitted.cancelled) =
                            (row.planned, row.expanded, cancelled);
                    });
                    if row.expanded < row.planned && !cancelled {
                        open.push((id, progress));
                    }
                }
                Ok(None) => progress.send_modify(|submitted| submitted.cancelled = true),
                Err(error) => {
                    tracing::warn!(%error, sweep = name, "cannot read how far a submission is");
                    open.push((id, progress));
                }
            }
        }
        self.expansion.submissions = open;
    }

    /// Looks which combinations need not wait for their members any more.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) async fn settle(&mut self) {
        let begun = Instant::now();
        let settled = self.change(&Settle).await;
        // However many combinations wait, looking at them takes a small part of the writer's time.
        self.combinations.pause(SETTLE_INTERVAL.max(begun.elapsed() * SETTLE_PAUSES));
        match settled {
            Ok(0) => self.combinations.done(),
            Ok(_) => {
                // There may be more of them, and a combination that is cancelled may end its sweep.
                self.combinations.pause(Duration::ZERO);
                self.claims.wake();
            }
            Err(error) => {
                tracing::error!(%error, "cannot look for combinations whose members have ended; trying again")
            }
        }
    }

    /// Removes some trials of a sweep that a user deleted.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(super) async fn remove(&mut self) {
        let begun = Instant::now();
        let removed = self.change(&Remove { trials_max: self.remove_trials }).await;
        // A trial may have a million rows: what was slow is done in smaller parts, and others have their turn in between.
        let took = begun.elapsed();
        let is_slow = removed.is_err() || took > REMOVE_TIME;
        self.remove_trials =
            if is_slow { self.remove_trials / 4 } else { self.remove_trials * 2 }.clamp(1, REMOVE_TRIALS_MAX);
        self.removal.pause(took * REMOVE_PAUSES);
        match removed {
            Ok(Some(_)) => {}
            Ok(None) => self.removal.done(),
            Err(error) => {
                tracing::error!(%error, "cannot remove the rows of a deleted sweep; trying again");
                self.removal.pause(AGAIN);
            }
        }
    }
}
