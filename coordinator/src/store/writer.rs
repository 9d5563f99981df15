//! The one task that writes. Requests that arrive while a transaction runs share the next one and its flush to disk; claims that find
//! nothing wait here, without asking the database again until something changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sortie_core::job::{ErrorClass, Outcome, Timestamp};
use sortie_core::spec::SweepSpec;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::StoreError;
use super::backend::{Backend, Changes, SweepState, Transaction};
use super::combinations;
use super::desk::{Desk, Outcomes};
use super::levers::{self, Chunk, TrialsDone, TrialsRequest};
use super::request::{Answer, Op, Reply};
use super::types::{Claimed, Completion, Happening, SubmitOptions, Submitted, SweepAction, Worker};
use crate::clock::Clock;

/// Requests that one transaction serves. Larger ones save flushes, smaller ones keep leases quick.
const BATCH_MAX: usize = 256;
/// Waiting claims look at the queue this often even if nobody tells them to.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often a transaction that ran into another coordinator's is tried again.
const CONFLICTS_MAX: u32 = 5;
/// How long a transaction may take.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);
/// Trials that one transaction adds to a sweep.
const EXPAND_TRIALS: u64 = 500;
/// Combinations that wait for their members are looked at this often while trials end.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// A look that takes long is followed by a pause of this many times as long.
const SETTLE_PAUSES: u32 = 20;
/// After the database refused some, until the next try.
const EXPAND_AGAIN: Duration = Duration::from_millis(500);

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Message {
    /// Shares a transaction with others. A claim that finds nothing waits until the time, if there is one.
    Op(Op, Option<Instant>, oneshot::Sender<Answer>),
    /// Has a transaction of its own.
    Alone(Alone, oneshot::Sender<Result<Done, StoreError>>),
}

/// What has a transaction of its own.
#[derive(Debug)]
pub(crate) enum Alone {
    Register(Worker),
    /// Stores a sweep; its trials follow.
    Submit(Box<SweepSpec>, SubmitOptions),
    Act(String, SweepAction),
    /// Changes the trials of one page.
    ActOnTrials(TrialsRequest),
    /// Notes something about a trial.
    Note(i64, Happening),
    /// Gives every lease the time of one lease from now.
    Grace,
    /// Adds some trials to a sweep whose grid is not stored completely.
    Expand,
    /// Looks which combinations need not wait for their members any more.
    Settle,
}

/// What that did.
#[derive(Debug)]
pub(crate) enum Done {
    Nothing,
    Stored(i64, Submitted),
    /// A stored sweep's trials are being added.
    Submitted(watch::Receiver<Submitted>),
    Trials(TrialsDone),
    Leases(u64),
    Expanded(Option<Chunk>),
    /// How many combinations.
    Settled(u64),
}

impl Alone {
    async fn perform(
        &self,
        now: Timestamp,
        lease: Duration,
        tx: &mut dyn Transaction,
    ) -> Result<Done, StoreError> {
        Ok(match self {
            Self::Register(worker) => {
                tx.register(worker, now).await?;
                Done::Nothing
            }
            Self::Submit(spec, options) => {
                let (id, submitted) = levers::store_sweep(spec, *options, now, tx).await?;
                Done::Stored(id, submitted)
            }
            Self::Act(sweep, action) => {
                levers::act(sweep, *action, tx).await?;
                Done::Nothing
            }
            Self::ActOnTrials(request) => Done::Trials(levers::act_on_trials(request, now, lease, tx).await?),
            Self::Note(trial, happening) => {
                let happening = Happening { at_ms: now.0, ..happening.clone() };
                tx.write(&Changes { happenings: vec![(*trial, happening)], ..Changes::default() }).await?;
                Done::Nothing
            }
            Self::Grace => Done::Leases(tx.extend_leases(now.plus(lease)).await?),
            Self::Expand => Done::Expanded(levers::expand(EXPAND_TRIALS, tx).await?),
            Self::Settle => Done::Settled(combinations::settle(now, lease, tx).await?),
        })
    }
}

/// A request that shares a transaction.
struct Request {
    op: Op,
    /// How long a claim that finds nothing may wait.
    until: Option<Instant>,
    reply: oneshot::Sender<Answer>,
}

/// The writer's state.
pub(crate) struct Writer {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    desk: Desk,
    requests: mpsc::Receiver<Message>,
    parked: VecDeque<Request>,
    /// Waiting claims should look now.
    look: bool,
    /// When to look for what nobody tells of, whatever else comes before: only a time that stays where it is comes in a busy hour.
    look_at: Instant,
    /// When trials that were put back become free, the earliest first.
    free_at: Option<Instant>,
    /// Some sweep may have trials that are not stored yet.
    expanding: bool,
    /// Not before: the database may just have refused some of them.
    expand_at: Instant,
    submissions: Vec<(i64, watch::Sender<Submitted>)>,
    /// Trials ended, or combinations were added, since combinations were looked at.
    unsettled: bool,
    /// Not before.
    settle_at: Instant,
}

impl Writer {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        desk: Desk,
        requests: mpsc::Receiver<Message>,
    ) -> Self {
        let (parked, submissions) = (VecDeque::new(), Vec::new());
        let expand_at = Instant::now();
        let (look_at, settle_at) = (expand_at + LOOK_INTERVAL, expand_at);
        let (look, free_at, expanding, unsettled) = (false, None, true, true);
        Self {
            backend,
            clock,
            desk,
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

    /// Works until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Message> = Vec::with_capacity(BATCH_MAX);
        loop {
            let wake_at = self.wake_at();
            if !self.expands_now() && !self.settles_now() && !self.look && waiting.is_empty() {
                let backend = Arc::clone(&self.backend);
                // A failure to expand must keep nobody else waiting.
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
                    Message::Alone(work, reply) => {
                        // What was said before is done before.
                        self.serve(std::mem::take(&mut batch)).await;
                        // Whoever asked may be gone.
                        let _ = reply.send(self.alone(&work).await);
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

    fn settles_now(&self) -> bool {
        self.unsettled && self.settle_at <= Instant::now()
    }

    /// Looks which combinations need not wait for their members any more.
    async fn settle(&mut self) {
        let begun = Instant::now();
        let settled = self.transact_alone(&Alone::Settle).await;
        // However many combinations wait, looking at them takes a small part of the writer's time.
        self.settle_at = Instant::now() + SETTLE_INTERVAL.max(begun.elapsed() * SETTLE_PAUSES);
        match settled {
            Ok(Done::Settled(count)) => {
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

    fn expands_now(&self) -> bool {
        self.expanding && self.expand_at <= Instant::now()
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

    /// Serves requests, and the claims that wait where something has changed for them. Leases are quick: claims and heartbeats come first
    /// and are not flushed to disk. One that a power cut undoes costs at most its attempt, whose token nobody will ever accept again, and
    /// nothing that was reported.
    async fn serve(&mut self, batch: Vec<Request>) {
        let now = Instant::now();
        if self.free_at.is_some_and(|free_at| free_at <= now) {
            (self.free_at, self.look) = (None, true);
        }
        let quick = |request: &Request| matches!(request.op, Op::Claim(_) | Op::Heartbeat { .. });
        let (mut leases, reports): (Vec<_>, Vec<_>) = batch.into_iter().partition(quick);
        if std::mem::take(&mut self.look) {
            leases.extend(self.parked.drain(..).filter(|parked| !parked.reply.is_closed()));
        }
        self.serve_together(leases, false).await;
        self.serve_together(reports, true).await;
    }

    /// Serves requests in one transaction if they get along.
    async fn serve_together(&mut self, mut batch: Vec<Request>, durable: bool) {
        // Trials are for those who are still there. Everything else that was said counts, whoever waits for the answer.
        batch.retain(|request| !matches!(request.op, Op::Claim(_)) || !request.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let ops: Vec<Op> = batch.iter().map(|request| request.op.clone()).collect();
        match self.transact(&ops, durable).await {
            Ok(answers) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    self.answer(request, answer).await;
                }
            }
            Err(error) => {
                if let Some(outage) = error.outage() {
                    for request in batch {
                        self.answer(request, Err(StoreError::Database(Arc::clone(outage)))).await;
                    }
                    return;
                }
                // One request that the database refuses must not take the others with it. Alone it is refused once more, and its error
                // told to whoever asked.
                tracing::warn!(%error, requests = ops.len(), "a shared transaction failed; each request gets its own");
                for request in batch {
                    let answers = self.transact(std::slice::from_ref(&request.op), durable).await;
                    let answer = answers.and_then(|mut answers| answers.pop().unwrap_or(Ok(Reply::Done)));
                    self.answer(request, answer).await;
                }
            }
        }
    }

    /// Answers, or lets a claim that got nothing wait.
    async fn answer(&mut self, request: Request, answer: Answer) {
        if let (Op::Claim(claim), Ok(Reply::Claimed(claimed)), Some(until)) =
            (&request.op, &answer, request.until)
        {
            let settled = !claimed.leases.is_empty()
                || (claimed.idle && claim.return_when_idle)
                || until <= Instant::now();
            if !settled {
                self.parked.push_back(request);
                return;
            }
        }
        // A caller that is gone has said it again elsewhere, or will: everything may be said twice, but what was handed to it waits here.
        if let Err(Ok(Reply::Claimed(claimed))) = request.reply.send(answer) {
            self.take_back(&claimed).await;
        }
    }

    /// Puts trials back whose worker went away while they were handed to it. Where that fails, their leases run out.
    async fn take_back(&mut self, claimed: &Claimed) {
        let ops = returns(claimed);
        if ops.is_empty() {
            return;
        }
        match self.transact(&ops, false).await {
            Ok(_) => tracing::debug!(
                trials = ops.len(),
                "trials came back whose worker was gone before it got them"
            ),
            Err(error) => {
                tracing::warn!(%error, "cannot put trials back whose worker was gone before it got them")
            }
        }
    }

    /// One transaction, tried again if another coordinator came between.
    async fn transact(&mut self, ops: &[Op], durable: bool) -> Result<Vec<Answer>, StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.transact_once(ops, durable)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    tracing::debug!(%error, conflicts, "a transaction is tried again");
                }
                other => return other,
            }
        }
    }

    async fn transact_once(&mut self, ops: &[Op], durable: bool) -> Result<Vec<Answer>, StoreError> {
        let mut tx = self.backend.begin(durable).await?;
        let now = tx.now(self.clock.now()).await?;
        let Outcomes { answers, free_at, ended, look_again } =
            match self.desk.serve(ops, now, tx.as_mut()).await {
                Ok((outcomes, true)) => {
                    tx.commit(outcomes.free_at.is_some() || outcomes.ended).await?;
                    outcomes
                }
                Ok((outcomes, false)) => {
                    tx.rollback().await;
                    outcomes
                }
                Err(error) => {
                    tx.rollback().await;
                    return Err(error);
                }
            };
        if let Some(free_at) = free_at {
            self.note_free(free_at, now);
        }
        self.unsettled |= ended;
        self.look |= look_again || (ended && self.parked.iter().any(waits_for_the_end));
        Ok(answers)
    }

    fn note_free(&mut self, free_at: Timestamp, now: Timestamp) {
        let wait = Duration::from_millis((free_at.0 - now.0).max(0).unsigned_abs());
        let free_at = Instant::now() + wait;
        self.free_at = Some(self.free_at.map_or(free_at, |earlier| earlier.min(free_at)));
    }

    /// Does what has a transaction of its own.
    async fn alone(&mut self, work: &Alone) -> Result<Done, StoreError> {
        let done = self.transact_alone(work).await?;
        self.look |= matches!(work, Alone::Act(..) | Alone::ActOnTrials(_));
        // A sweep that is open again may have trials that are not stored yet.
        self.expanding |= matches!(work, Alone::Act(..) | Alone::ActOnTrials(_) | Alone::Submit(..));
        self.unsettled |= matches!(work, Alone::ActOnTrials(_));
        Ok(match done {
            Done::Stored(id, submitted) => {
                let (sender, receiver) = watch::channel(submitted);
                self.submissions.push((id, sender));
                Done::Submitted(receiver)
            }
            other => other,
        })
    }

    async fn transact_alone(&self, work: &Alone) -> Result<Done, StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.transact_alone_once(work)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => conflicts += 1,
                other => return other,
            }
        }
    }

    async fn transact_alone_once(&self, work: &Alone) -> Result<Done, StoreError> {
        let mut tx = self.backend.begin(true).await?;
        let now = tx.now(self.clock.now()).await?;
        let done = work.perform(now, self.desk.settings.lease, tx.as_mut()).await;
        if matches!(done, Err(_) | Ok(Done::Expanded(None) | Done::Settled(0))) {
            tx.rollback().await;
        } else {
            tx.commit(!matches!(work, Alone::Register(_) | Alone::Grace)).await?;
        }
        done
    }

    /// Adds some trials to a sweep whose grid is not stored completely.
    async fn expand(&mut self) {
        match self.transact_alone(&Alone::Expand).await {
            Ok(Done::Expanded(Some(chunk))) => {
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
    async fn follow_submissions(&mut self) {
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
                    tracing::warn!(%error, sweep = name, "cannot tell how far a submission is");
                    open.push((id, progress));
                }
            }
        }
        self.submissions = open;
    }
}

/// A database that vanished without a word must not take the writer with it.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
    tokio::time::timeout(TRANSACTION_MAX, work).await.unwrap_or_else(|_| Err(late().into()))
}

/// What gives these leases back. It costs the trials nothing.
pub(crate) fn returns(claimed: &Claimed) -> Vec<Op> {
    let message = "whoever asked for the trial was gone before the answer came".to_owned();
    let outcome = Outcome::Failed { class: ErrorClass::Preempted, message };
    let ends = claimed.leases.iter().map(|lease| Completion {
        token: lease.token,
        batch: None,
        outcome: outcome.clone(),
    });
    ends.map(Op::Complete).collect()
}

fn waits_for_the_end(parked: &Request) -> bool {
    matches!(&parked.op, Op::Claim(claim) if claim.return_when_idle)
}
