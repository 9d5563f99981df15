//! The one task that writes. Requests that arrive while a transaction runs share the next one and its flush to disk; claims that find
//! nothing wait here, without asking the database again until something changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::batch_executor::BatchExecutor;
use super::command::{Command, CommandResult};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::backend::Backend;
use crate::store::request::{Answer, Op};
use crate::store::types::Submitted;

/// Requests that one transaction serves. Larger ones save flushes, smaller ones keep leases quick.
const BATCH_MAX: usize = 256;
/// Waiting claims look at the queue this often even if nothing is announced.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// Shares a transaction with others. A claim that finds nothing waits until the time, if there is one.
    Op(Op, Option<Instant>, oneshot::Sender<Answer>),
    /// Has a transaction of its own.
    Command(Command, oneshot::Sender<Result<CommandResult, StoreError>>),
}

/// A request that shares a transaction, and who waits for its answer.
pub(super) struct Request {
    pub(super) op: Op,
    /// How long a claim that finds nothing may wait.
    pub(super) until: Option<Instant>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The writer's state.
pub(crate) struct Writer {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) executor: BatchExecutor,
    pub(super) requests: mpsc::Receiver<Message>,
    pub(super) parked: VecDeque<Request>,
    /// Waiting claims should look now.
    pub(super) look: bool,
    /// When to look for changes that nobody announces. The time stays where it is, whatever comes before it: in a busy hour a time that moves
    /// would never come.
    pub(super) look_at: Instant,
    /// When trials that were put back become free, the earliest first.
    pub(super) free_at: Option<Instant>,
    /// Some sweep may have trials that are not stored yet.
    pub(super) expanding: bool,
    /// Not before: the database may just have refused some of them.
    pub(super) expand_at: Instant,
    pub(super) submissions: Vec<(i64, watch::Sender<Submitted>)>,
    /// Trials ended, or combinations were added, since combinations were looked at.
    pub(super) unsettled: bool,
    /// Not before.
    pub(super) settle_at: Instant,
}

impl Writer {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        executor: BatchExecutor,
        requests: mpsc::Receiver<Message>,
    ) -> Self {
        let (parked, submissions) = (VecDeque::new(), Vec::new());
        let expand_at = Instant::now();
        let (look_at, settle_at) = (expand_at + LOOK_INTERVAL, expand_at);
        let (look, free_at, expanding, unsettled) = (false, None, true, true);
        Self {
            backend,
            clock,
            executor,
            requests,
            parked,
            look,
            look_at,
            free_at,
            expanding,
            expand_at,
            submissions,
            unsettled,
            settle_at,
        }
    }

    /// Runs until all handles to the store are gone.
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Message> = Vec::with_capacity(BATCH_MAX);
        loop {
            let wake_at = self.wake_at();
            if !self.expands_now() && !self.settles_now() && !self.look && waiting.is_empty() {
                let backend = Arc::clone(&self.backend);
                // A failure to expand must not delay requests.
                let expand_at = if self.expanding { self.expand_at } else { wake_at };
                let settle_at = if self.unsettled { self.settle_at } else { wake_at };
                tokio::select! {
                    biased;
                    count = self.requests.recv_many(&mut waiting, BATCH_MAX) => if count == 0 { return },
                    () = sleep_until(wake_at.min(expand_at).min(settle_at)) => {}
                    () = backend.changed_elsewhere(), if !self.parked.is_empty() => self.look = true,
                }
            }
            self.look |= wake_at <= Instant::now();
            if self.look_at <= Instant::now() {
                self.look_at = Instant::now() + LOOK_INTERVAL;
                // Another coordinator may have ended before it had stored all trials of a sweep.
                (self.expanding, self.unsettled) = (true, true);
            }
            self.take_more(&mut waiting);
            if waiting.is_empty() && self.requests.is_closed() {
                return;
            }
            let mut batch = Vec::new();
            for message in waiting.drain(..) {
                match message {
                    Message::Op(op, until, reply) => batch.push(Request { op, until, reply }),
                    Message::Command(work, reply) => {
                        // Requests that came before a command are served before it.
                        self.serve(std::mem::take(&mut batch)).await;
                        // The caller may be gone.
                        let _ = reply.send(self.command(&work).await);
                    }
                }
            }
            self.serve(batch).await;
            if self.expands_now() {
                self.expand().await;
            }
            if self.settles_now() {
                self.settle().await;
            }
        }
    }

    fn take_more(&mut self, waiting: &mut Vec<Message>) {
        while waiting.len() < BATCH_MAX {
            match self.requests.try_recv() {
                Ok(message) => waiting.push(message),
                Err(_) => return,
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let mut wake_at = self.look_at;
        if !self.parked.is_empty() {
            let first = self.parked.iter().filter_map(|parked| parked.until).min().unwrap_or(wake_at);
            wake_at = wake_at.min(first).min(self.free_at.unwrap_or(wake_at));
        }
        wake_at
    }
}
