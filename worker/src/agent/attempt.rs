//! One attempt: from a lease, through the process that trains and the reports that it makes, to its end.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sortie_core::finetune::FinetuneSpec;
use sortie_core::job::{Outcome, Token};
use sortie_core::trial::{TrialId, TrialSpec};
use sortie_proto::v1;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::attempt_log::AttemptLog;
use super::backoff;
use super::child::{Child, Message};
use super::config::AgentConfig;
use super::deliver::{self, Refusal};
use super::ending;
use super::outbox::{Outbox, ROWS_PER_BATCH};
use super::registry::{Entry, Order};
use super::session::Session;
use super::slots::Slot;
use crate::trial_process::{Assignment, Event};

/// Reports are gathered this long.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL. The trial process keeps no checkpoint yet, so there is nothing to wait for.
const KILL_AFTER: Duration = Duration::from_secs(1);
/// How long an acknowledgement that is on its way may take once the attempt is to be abandoned.
const ACKNOWLEDGEMENT_GRACE: Duration = Duration::from_millis(500);

/// A lease that this worker understands.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) token: Token,
    pub(super) trial_id: TrialId,
    pub(super) sweep: String,
    pub(super) spec: FinetuneSpec,
}

/// Reads a lease.
///
/// # Errors
/// One line, when the coordinator's build and this one do not agree what a trial is.
pub(super) fn accept(lease: v1::Lease) -> Result<Accepted, String> {
    let v1::Lease { token, trial_id, sweep, spec } = lease;
    let spec = spec.ok_or_else(|| "the lease has no specification".to_owned())?;
    let spec = TrialSpec::try_from(spec).map_err(|error| error.to_string())?;
    let id = spec.id();
    // The identity covers the version of the numbers: another build's trial would be stored as what it is not.
    if id.to_string() != trial_id {
        return Err(format!("trial {trial_id} is {id} by this build's reckoning"));
    }
    let spec = spec.finetune().map_err(|error| error.to_string())?;
    Ok(Accepted { token: Token(token), trial_id: id, sweep, spec })
}

type Delivery = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// An attempt while it runs.
pub(super) struct Attempt {
    session: Arc<Session>,
    token: Token,
    step: Arc<AtomicU64>,
    orders: watch::Receiver<Order>,
    outbox: Outbox,
    delivery: Option<Delivery>,
    /// By its own account.
    said: Option<Outcome>,
    /// What ended it from our side.
    cut: Option<Cut>,
    seed: u64,
}

/// Why an attempt was ended from the agent's side.
#[derive(Debug)]
enum Cut {
    /// The lease is lost, or nobody waits: not another word about it.
    Abandoned,
    /// The worker was asked to stop.
    HandedBack,
    /// The attempt cannot go on; the reason in one line.
    Failed(String),
}

/// Runs an attempt to its end, whatever that is. Returns when its process is gone and its end is acknowledged, refused or abandoned.
pub(super) async fn run(config: &AgentConfig, session: Arc<Session>, lease: Accepted, slot: &Slot, entry: Entry) {
    let Accepted { token, trial_id, sweep, spec } = lease;
    let log_path: PathBuf = config.cache.join("logs").join(format!("{trial_id}-{token}.log"));
    let assignment = Assignment {
        spec,
        data: config.data.clone(),
        cache: config.cache.clone(),
        device: slot.inside.to_owned(),
        threads: config.threads,
        image_budget_bytes: Some(config.image_budget_bytes),
    };
    let Entry { step, orders } = entry;
    // The token differs for every attempt, so that attempts of one worker do not come back in step after an outage.
    let seed = backoff::seed(session.worker_id(), token.0);
    let mut attempt = Attempt { session, token, step, orders, outbox: Outbox::new(), delivery: None, said: None, cut: None, seed };
    let child = Child::spawn(&config.trial_program, &assignment, slot, AttemptLog::new(log_path.clone()));
    let outcome = match child {
        Ok(mut child) => {
            tracing::info!(%token, trial = %trial_id.short(), %sweep, device = %slot.device, pid = child.pid(), "trial started");
            attempt.watch(&mut child).await
        }
        Err(error) => Some(ending::transient(format!("cannot start the trial's process: {error}"))),
    };
    let Some(outcome) = outcome else {
        tracing::info!(%token, trial = %trial_id.short(), "trial abandoned");
        return;
    };
    match &outcome {
        Outcome::Succeeded => tracing::info!(%token, trial = %trial_id.short(), "trial succeeded"),
        Outcome::Diverged { step } => tracing::warn!(%token, trial = %trial_id.short(), step, "trial diverged"),
        Outcome::Failed { class, message } => {
            tracing::warn!(%token, trial = %trial_id.short(), %class, reason = %message, log = %log_path.display(), "trial failed");
        }
    }
    attempt.end(outcome).await;
}

impl Attempt {
    /// Follows the process until it is gone; none if there is nothing to say about it.
    async fn watch(&mut self, child: &mut Child) -> Option<Outcome> {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kill_at: Option<Instant> = None;
        let mut due = false;
        let (status, last_lines) = loop {
            tokio::select! {
                // An attempt that was cut reads on, so that its end is seen behind whatever it still said.
                message = child.next(), if !self.outbox.is_full() || self.cut.is_some() => match message {
                    Message::Event(event) => self.note(event),
                    Message::Broken(reason) => self.cut_off(child, Cut::Failed(reason)),
                    Message::Ended { status, last_lines } => break (status, last_lines),
                },
                answer = answered(&mut self.delivery), if self.delivery.is_some() => {
                    self.delivery = None;
                    match answer {
                        Ok(()) => self.outbox.acknowledged(),
                        Err(Refusal::Stale) => self.cut_off(child, Cut::Abandoned),
                        Err(Refusal::Refused(reason)) => {
                            self.cut_off(child, Cut::Failed(format!("the coordinator refused a report: {reason}")));
                        }
                    }
                }
                _ = ticks.tick() => due = true,
                order = next_order(&mut self.orders) => match order {
                    Order::Run => {}
                    Order::HandBack => {
                        self.cut.get_or_insert(Cut::HandedBack);
                        child.terminate();
                        kill_at = Some(Instant::now() + KILL_AFTER);
                    }
                    Order::Abandon => self.cut_off(child, Cut::Abandoned),
                },
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    kill_at = None;
                    child.kill();
                }
            }
            if self.delivery.is_none() && (due || self.outbox.waiting() >= ROWS_PER_BATCH) && !matches!(self.cut, Some(Cut::Abandoned)) {
                due = false;
                self.delivery = self.outbox.batch().map(|batch| self.send(batch));
            }
        };
        match self.cut.take() {
            Some(Cut::Abandoned) => None,
            Some(Cut::Failed(reason)) => Some(ending::transient(reason)),
            Some(Cut::HandedBack) => Some(ending::outcome(self.said.take(), true, status, &last_lines)),
            None => Some(ending::outcome(self.said.take(), false, status, &last_lines)),
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => self.step.store(progress.step, Ordering::Relaxed),
            Event::Outcome(ending) => self.said = Some(ending),
            // What would still be reported of an attempt that failed here or lost its lease is worth nothing to anybody.
            _ if matches!(self.cut, Some(Cut::Abandoned | Cut::Failed(_))) => {}
            Event::Fingerprint(fingerprint) => self.outbox.fingerprint(fingerprint.into()),
            Event::Losses(losses) => self.outbox.losses(losses),
            Event::Evaluations(evaluations) => self.outbox.evaluations(&evaluations),
        }
    }

    fn cut_off(&mut self, child: &Child, cut: Cut) {
        child.kill();
        self.delivery = None;
        self.outbox.clear();
        self.cut = Some(cut);
    }

    fn send(&self, batch: v1::Batch) -> Delivery {
        Box::pin(deliver::report(Arc::clone(&self.session), self.token, batch, self.seed))
    }

    /// Says how the attempt ended, with whatever was not reported yet, until that is acknowledged or refused or nobody waits any more.
    async fn end(mut self, outcome: Outcome) {
        let mut orders = self.orders.clone();
        let token = self.token;
        tokio::select! {
            answer = self.tell_end(outcome) => match answer {
                Ok(()) => {}
                Err(Refusal::Stale) => tracing::warn!(%token, "the lease was lost before the trial's end was told"),
                Err(Refusal::Refused(reason)) => tracing::error!(%token, %reason, "the coordinator refused the end of a trial"),
            },
            () = abandoned(&mut orders) => tracing::warn!(%token, "the trial's end was not told; it is free when its lease expires"),
        }
    }

    async fn tell_end(&mut self, mut outcome: Outcome) -> Result<(), Refusal> {
        let delivered = self.deliver_all_but_the_last().await;
        match delivered {
            Ok(()) => {}
            Err(Refusal::Stale) => return Err(Refusal::Stale),
            Err(Refusal::Refused(reason)) => {
                self.outbox.clear();
                outcome = ending::transient(format!("the coordinator refused a report: {reason}"));
            }
        }
        deliver::complete(Arc::clone(&self.session), self.token, self.outbox.batch(), outcome, self.seed).await
    }

    async fn deliver_all_but_the_last(&mut self) -> Result<(), Refusal> {
        loop {
            if let Some(delivery) = &mut self.delivery {
                let answer = delivery.as_mut().await;
                self.delivery = None;
                answer?;
                self.outbox.acknowledged();
            }
            if self.outbox.waiting() <= ROWS_PER_BATCH {
                return Ok(());
            }
            self.delivery = self.outbox.batch().map(|batch| self.send(batch));
        }
    }
}

async fn answered(delivery: &mut Option<Delivery>) -> Result<(), Refusal> {
    match delivery {
        Some(delivery) => delivery.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn next_order(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.changed().await {
        Ok(()) => *orders.borrow_and_update(),
        // The registry is gone: so is the agent.
        Err(_) => Order::Abandon,
    }
}

async fn abandoned(orders: &mut watch::Receiver<Order>) {
    // An error means that the registry is gone, and the agent with it.
    let _ = orders.wait_for(|order| *order == Order::Abandon).await;
    // A heartbeat that crosses the acknowledgement of an end on its way is answered that the trial is no longer held: give it time.
    sleep(ACKNOWLEDGEMENT_GRACE).await;
}
