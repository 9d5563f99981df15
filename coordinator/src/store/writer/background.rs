//! The writer's work in the background: adding trials to sweeps, and letting combinations start.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::command::{Expand, Settle};
use super::writer_task::Writer;
use crate::store::admin::Chunk;
use crate::store::backend::SweepState;
use crate::store::types::Submitted;

/// Combinations that wait for their members are looked at this often while trials end.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// A look that takes long is followed by a pause of this many times as long.
const SETTLE_PAUSES: u32 = 20;
/// After the database refused some, until the next try.
const EXPAND_AGAIN: Duration = Duration::from_millis(500);

/// Work that is done from time to time, when there is a reason for it.
#[derive(Debug)]
pub(super) struct Task {
    wanted: bool,
    /// However much it is wanted, not before this.
    not_before: Instant,
}

impl Task {
    /// One that is due at once: nothing is known of the database yet.
    pub(super) fn due_now() -> Self {
        Self { wanted: true, not_before: Instant::now() }
    }

    /// There is a reason for it.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// When it is due; none while there is no reason for it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.then_some(self.not_before)
    }

    pub(super) fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// It is done, until there is a new reason.
    fn done(&mut self) {
        self.wanted = false;
    }

    /// Not again before this much time has passed.
    fn pause(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
    }
}

/// Adding trials to sweeps whose grid is not stored completely, and who watches it.
#[derive(Debug)]
pub(super) struct Expansion {
    pub(super) task: Task,
    submissions: Vec<(i64, watch::Sender<Submitted>)>,
}

impl Expansion {
    pub(super) fn new() -> Self {
        // Another coordinator may have ended before it had stored all trials of a sweep.
        Self { task: Task::due_now(), submissions: Vec::new() }
    }

    /// A sweep was submitted; gives what shows how far it is.
    pub(super) fn follow(&mut self, sweep: i64, submitted: Submitted) -> watch::Receiver<Submitted> {
        let (sender, receiver) = watch::channel(submitted);
        self.submissions.push((sweep, sender));
        receiver
    }

    fn note(&mut self, chunk: &Chunk) {
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
}

impl Writer {
    /// Adds some trials to a sweep whose grid is not stored completely.
    pub(super) async fn expand(&mut self) {
        match self.change(&Expand).await {
            Ok(Some(chunk)) => {
                if chunk.added > 0 {
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
                self.expansion.task.pause(EXPAND_AGAIN);
            }
        }
    }

    /// Nothing is to be added here: what was submitted is complete, or cancelled, or another coordinator adds it.
    async fn follow_submissions(&mut self) {
        let mut open = Vec::new();
        for (id, progress) in std::mem::take(&mut self.expansion.submissions) {
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
        self.expansion.submissions = open;
    }

    /// Looks which combinations need not wait for their members any more.
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
}
