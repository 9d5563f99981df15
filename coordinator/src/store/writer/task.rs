//! Work in the background that knows when it is due.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::admin::Chunk;
use crate::store::types::Submitted;
use sortie_core::keys::SweepKey;

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
    pub(super) fn done(&mut self) {
        self.wanted = false;
    }

    /// Not again before this much time has passed.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
    }
}

/// Adding trials to sweeps whose grid is not stored completely, and who watches it.
#[derive(Debug)]
pub(super) struct Expansion {
    pub(super) task: Task,
    pub(super) submissions: Vec<(SweepKey, watch::Sender<Submitted>)>,
}

impl Expansion {
    pub(super) fn new() -> Self {
        // Another coordinator may have ended before it had stored all trials of a sweep.
        Self { task: Task::due_now(), submissions: Vec::new() }
    }

    /// A sweep was submitted; gives what shows how far it is.
    pub(super) fn follow(&mut self, sweep: SweepKey, submitted: Submitted) -> watch::Receiver<Submitted> {
        let (sender, receiver) = watch::channel(submitted);
        self.submissions.push((sweep, sender));
        receiver
    }

    /// A sweep has another name.
    pub(super) fn rename(&self, old: &str, new: &str) {
        for (_, progress) in &self.submissions {
            progress.send_if_modified(|submitted| {
                let is_meant = submitted.sweep == old;
                if is_meant {
                    submitted.sweep = new.to_owned();
                }
                is_meant
            });
        }
    }

    pub(super) fn note(&mut self, chunk: &Chunk) {
        for (_, progress) in self.submissions.iter().filter(|(id, _)| *id == chunk.sweep) {
            progress.send_modify(|submitted| {
                submitted.planned = chunk.planned;
                submitted.expanded = chunk.expanded;
                submitted.added += chunk.added;
                submitted.reused += chunk.reused;
                submitted.lacking.add(chunk.lacking);
            });
        }
        if chunk.expanded >= chunk.planned {
            self.submissions.retain(|(id, _)| *id != chunk.sweep);
        }
    }
}
