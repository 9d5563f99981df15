//! The one task that writes. Requests that arrive while a transaction runs share the next one and its flush to disk; claims that find
//! nothing wait here, without asking the database again until something changed.

use std::sync::Arc;
use std::time::Duration;

use sortie_core::access::Caller;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::batch_executor::BatchExecutor;
use super::command::Command;
use super::step_watch::StepWatch;
use super::task::{Expansion, Task};
use super::waiting_claims::WaitingClaims;
use crate::store::backend::Backend;
use crate::store::request::Request;

/// Requests that one transaction serves. Larger ones save flushes, smaller ones keep leases quick.
const BATCH_MAX: usize = 256;
/// Waiting claims look at the queue this often even if nothing is announced.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// Shares a transaction with others.
    Request(Request),
    /// Has a transaction of its own. A caller's deed is noted with it.
    Command(Command, Option<Caller>),
}

/// The writer's state.
pub(crate) struct Writer {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) steps: StepWatch,
    pub(super) executor: BatchExecutor,
    messages: mpsc::Receiver<Message>,
    /// Where it is told that the database is lost.
    pub(super) lost: watch::Sender<Option<String>>,
    pub(super) claims: WaitingClaims,
    pub(super) expansion: Expansion,
    /// Wanted when trials ended in a sweep with combinations, or combinations were added, since combinations were looked at.
    pub(super) combinations: Task,
    /// Wanted when a sweep was deleted, and at the start: a coordinator may have ended before it had removed one.
    pub(super) removal: Task,
    /// How many trials of a deleted sweep the next transaction removes.
    pub(super) remove_trials: u64,
    /// When to look for changes that nobody announces. The time stays where it is, whatever comes before it: in a busy hour a time that moves
    /// would never come.
    look_at: Instant,
}

impl Writer {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        executor: BatchExecutor,
        messages: mpsc::Receiver<Message>,
        lost: watch::Sender<Option<String>>,
    ) -> Self {
        let (claims, expansion) = (WaitingClaims::default(), Expansion::new());
        let (combinations, removal) = (Task::due_now(), Task::due_now());
        let look_at = Instant::now() + LOOK_INTERVAL;
        let steps = StepWatch::default();
        Self {
            backend,
            steps,
            executor,
            messages,
            lost,
            claims,
            expansion,
            combinations,
            removal,
            remove_trials: 1,
            look_at,
        }
    }

    /// Runs until all handles to the store are gone.
    pub(crate) async fn run(mut self) {
        let mut messages: Vec<Message> = Vec::with_capacity(BATCH_MAX);
        loop {
            let due = self.due();
            if due > Instant::now() {
                let backend = Arc::clone(&self.backend);
                tokio::select! {
                    biased;
                    count = self.messages.recv_many(&mut messages, BATCH_MAX) => if count == 0 { return },
                    () = sleep_until(due) => {}
                    () = backend.changed_elsewhere(), if !self.claims.is_empty() => self.claims.wake(),
                }
            }
            if self.look_at <= Instant::now() {
                self.look_at = Instant::now() + LOOK_INTERVAL;
                self.claims.wake();
                // Another coordinator may have ended before it had stored all trials of a sweep.
                self.expansion.task.want();
                self.combinations.want();
                self.removal.want();
            }
            self.take_more(&mut messages);
            if messages.is_empty() && self.messages.is_closed() {
                return;
            }
            let mut batch = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Request(request) => batch.push(request),
                    Message::Command(command, caller) => {
                        // Requests that came before a command are served before it.
                        self.serve(std::mem::take(&mut batch)).await;
                        self.on_command(command, caller.as_ref()).await;
                    }
                }
            }
            self.serve(batch).await;
            if self.expansion.task.is_due() {
                self.expand().await;
            }
            if self.combinations.is_due() {
                self.settle().await;
            }
            if self.removal.is_due() {
                self.remove().await;
            }
        }
    }

    fn take_more(&mut self, messages: &mut Vec<Message>) {
        while messages.len() < BATCH_MAX {
            match self.messages.try_recv() {
                Ok(message) => messages.push(message),
                Err(_) => return,
            }
        }
    }

    /// When there is something to do even if no message comes.
    fn due(&self) -> Instant {
        let background = [self.expansion.task.due(), self.combinations.due(), self.removal.due()];
        let due = background.into_iter().chain([self.claims.due()]);
        due.flatten().fold(self.look_at, Instant::min)
    }
}
