//! The writer's work in the background: adding trials to sweeps, and letting combinations start.

use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, CommandResult};
use super::writer_task::Writer;
use crate::store::backend::SweepState;

/// Combinations that wait for their members are looked at this often while trials end.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// A look that takes long is followed by a pause of this many times as long.
const SETTLE_PAUSES: u32 = 20;
/// After the database refused some, until the next try.
const EXPAND_AGAIN: Duration = Duration::from_millis(500);

impl Writer {
    pub(super) fn expands_now(&self) -> bool {
        self.expanding && self.expand_at <= Instant::now()
    }

    /// Adds some trials to a sweep whose grid is not stored completely.
    pub(super) async fn expand(&mut self) {
        match self.run_command(&Command::Expand).await {
            Ok(CommandResult::Expanded(Some(chunk))) => {
                self.look |= chunk.added > 0;
                self.unsettled |= chunk.added > 0;
                for (_, progress) in self.submissions.iter().filter(|(id, _)| *id == chunk.sweep) {
                    progress.send_modify(|submitted| {
                        submitted.planned = chunk.planned;
                        submitted.expanded = chunk.expanded;
                        submitted.added += chunk.added;
                        submitted.reused += chunk.reused;
                    });
                }
                if chunk.expanded >= chunk.planned {
                    self.submissions.retain(|(id, _)| *id != chunk.sweep);
                }
            }
            Ok(_) => {
                self.expanding = false;
                self.follow_submissions().await;
            }
            Err(error) => {
                tracing::error!(%error, "cannot add trials to a sweep; trying again");
                self.expand_at = Instant::now() + EXPAND_AGAIN;
            }
        }
    }

    /// Nothing is to be added here: what was submitted is complete, or called off, or another coordinator adds it.
    pub(super) async fn follow_submissions(&mut self) {
        let mut open = Vec::new();
        for (id, progress) in self.submissions.drain(..) {
            let name = progress.borrow().sweep.clone();
            match self.backend.sweep(&name).await {
                Ok(Some(row)) => {
                    let cancelled = row.state == SweepState::Cancelled;
                    progress.send_modify(|submitted| {
                        (submitted.planned, submitted.expanded, submitted.cancelled) =
                            (row.planned, row.expanded, cancelled);
                    });
                    if row.expanded < row.planned && !cancelled {
                        open.push((id, progress));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, sweep = name, "cannot read how far a submission is");
                    open.push((id, progress));
                }
            }
        }
        self.submissions = open;
    }

    pub(super) fn settles_now(&self) -> bool {
        self.unsettled && self.settle_at <= Instant::now()
    }

    /// Looks which combinations need not wait for their members any more.
    pub(super) async fn settle(&mut self) {
        let begun = Instant::now();
        let settled = self.run_command(&Command::Settle).await;
        // However many combinations wait, looking at them takes a small part of the writer's time.
        self.settle_at = Instant::now() + SETTLE_INTERVAL.max(begun.elapsed() * SETTLE_PAUSES);
        match settled {
            Ok(CommandResult::Settled(count)) => {
                // There may be more of them, and a combination that is called off may end its sweep.
                (self.unsettled, self.look) = (count > 0, self.look || count > 0);
                if count > 0 {
                    self.settle_at = Instant::now();
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cannot look for combinations whose members have ended; trying again")
            }
        }
    }
}
