//! The agent's main loop: takes trials for free slots, starts attempts, and shuts down in order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keys::{AttemptToken, Incarnation};
use sortie_core::lease::Lease;
use sortie_core::packing;
use sortie_core::prerequisite::Prerequisite;
use sortie_core::trial::Work;
use sortie_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::Instrument as _;

use crate::attempt::artifacts::{self, DestinationWatch};
use crate::attempt::checkpoints;
use crate::attempt::lease;
use crate::attempt::lifecycle::{self, Shared};
use crate::config::{AgentConfig, AgentError};
use crate::connection::heartbeat;
use crate::connection::retry;
use crate::connection::session::{CallError, Session};
use crate::launcher::SlotPlan;
use crate::machine::oom::OomKills;
use crate::machine::prerequisites::Prerequisites;
use crate::registration::registration;
use crate::registry::{AttemptKey, Order, Registry};
use crate::signals::Stop;
use crate::slots::{PendingSlot, Slots, TakenSlot};
use crate::state_dir::StateDir;
use crate::time_budget::{TimeBudget, TrialRequest};

/// How long one request for trials waits at the coordinator.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// The limit of one request (worker.proto).
const LEASES_PER_REQUEST: usize = 64;
/// An empty answer that came sooner than this is followed by a pause, so that no coordinator is asked in a tight loop.
const PAUSE_AFTER_EMPTY: Duration = Duration::from_secs(1);
/// How long `--exit-when-idle` waits for a coordinator that does not answer while nothing runs.
const UNREACHABLE_MAX: Duration = Duration::from_secs(30);
/// How long reporting the ends of trials that were handed back may take, once their processes are gone.
const REPORT_GRACE: Duration = Duration::from_millis(800);
/// How long killed processes may take to exit.
const KILL_GRACE: Duration = Duration::from_millis(900);
/// How long deregistering may take.
const LEAVE_GRACE: Duration = Duration::from_millis(300);
/// How long before the end of its time, besides the grace, a worker hands its trials back.
const TIME_RESERVE: Duration = Duration::from_secs(5);

/// Works until it is asked to stop, until its time is up, or until nothing is left where that was asked for. No trial's process survives
/// it.
///
/// # Errors
/// [`AgentError`] when it cannot go on. Failures of trials are reported to the coordinator and are not errors of the agent.
pub async fn run(config: AgentConfig, stop: watch::Receiver<Stop>) -> Result<(), AgentError> {
    let ends = config.time_left.map(|left| Instant::now() + left.saturating_sub(config.grace + TIME_RESERVE));
    let session = Arc::new(Session::new(&config.coordinator, registration(&config)?));
    let state_dir = StateDir::open(&config.cache, session.worker_id());
    let state_dir = state_dir.map_err(|reason| AgentError::Cache { path: config.cache.clone(), reason })?;
    let registry = Arc::new(Registry::default());
    let mut background = JoinSet::new();
    background.spawn(heartbeat::run(Arc::clone(&session), Arc::clone(&registry)));
    let destination = DestinationWatch::default();
    background.spawn(artifacts::run(
        Arc::clone(&session),
        destination.clone(),
        config.cache.join("artifacts"),
        config.allowed_stores.clone(),
    ));
    let cache = config.cache.clone();
    // It may take long on a slow disk, and no trial needs it.
    tokio::task::spawn_blocking(move || checkpoints::clear_old(&cache));
    let slots = Slots::new(SlotPlan { slots: config.slots.clone(), by_memory: config.by_memory });
    let time = TimeBudget::new(ends, config.time_for_unknown);
    let shared = Arc::new(Shared {
        config,
        session: Arc::clone(&session),
        state_dir,
        oom_kills: OomKills::find(),
        destination,
    });
    let ending = Arc::clone(&slots);
    let mut agent = Agent {
        shared,
        registry,
        slots,
        attempts: JoinSet::new(),
        time,
        prerequisites: Prerequisites::default(),
        held_back: String::new(),
    };
    let mut stopping = stop.clone();
    let worked = tokio::select! {
        worked = agent.work() => worked,
        Some(Ok(error)) = background.join_next() => Err(error),
        // The sender lives in a task that never ends; if it did, nobody could ask for a stop any more.
        _ = stopping.wait_for(|stop| *stop >= Stop::Gracefully) => Ok(()),
        () = time_is_up(ends) => Ok(()),
    };
    ending.close();
    let ended = match worked {
        Ok(()) => agent.hand_back(stop).await,
        Err(error @ (AgentError::Incompatible(_) | AgentError::Store(_))) => {
            agent.hand_back(stop).await.and(Err(error))
        }
        Err(error) => {
            agent.abandon().await;
            Err(error)
        }
    };
    // A heartbeat after `leave` would register this worker again.
    background.shutdown().await;
    if !matches!(ended, Err(AgentError::Interrupted)) {
        session.leave(LEAVE_GRACE).await;
    }
    ended
}

async fn time_is_up(ends: Option<Instant>) {
    match ends {
        Some(ends) => {
            sleep_until(ends).await;
            tracing::info!("this worker's time is nearly up");
        }
        None => std::future::pending().await,
    }
}

/// An answer, the incarnation that its leases belong to, and when it was asked for.
type Answer = Result<(v1::LeaseResponse, Incarnation, Instant), CallError>;
type Poll = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A sweep, and how long a trial of it took that succeeded.
type Finished = Option<(String, Duration)>;

/// What to do after an answer of the coordinator.
enum PollResult {
    /// Trials, or something to look for before the next request.
    Something,
    /// No trials, or some that may not run here.
    Nothing,
    /// No trial is left that this worker could get.
    Idle,
}

struct Agent {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    slots: Arc<Slots>,
    attempts: JoinSet<Finished>,
    time: TimeBudget,
    /// What to look for before each request for trials.
    prerequisites: Prerequisites,
    /// Why the coordinator gives this worker no trials; empty if it does give some.
    held_back: String,
}

impl Agent {
    /// Takes trials and runs them until nothing is left (where that was asked for) or until it cannot go on.
    async fn work(&mut self) -> Result<(), AgentError> {
        let mut delays = retry::DELAYS.build();
        let mut unreachable_since: Option<Instant> = None;
        let mut poll: Option<Poll> = None;
        let mut not_before = Instant::now();
        let mut slots_change = self.slots.changes();
        loop {
            let free = self.slots.wanted();
            if let (true, Some(reason)) = (self.attempts.is_empty(), self.slots.all_lost()) {
                return Err(AgentError::DevicesLost(reason));
            }
            if let Some(line) = self.shared.config.observer.other_build() {
                poll = None;
                if self.attempts.is_empty() {
                    return Err(AgentError::OtherBuild(line));
                }
            } else if poll.is_none() && free > 0 {
                poll = self.ask(free, not_before);
                if poll.is_none() && self.attempts.is_empty() {
                    tracing::info!("what is left of this worker's time is too short for another trial");
                    return Ok(());
                }
            }
            let answer = tokio::select! {
                answer = next_answer(&mut poll) => answer,
                Some(ended) = self.attempts.join_next() => {
                    match ended {
                        Ok(Some((sweep, took))) => self.time.finished(sweep, took),
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "an attempt ended with a panic"),
                    }
                    continue;
                }
                Ok(()) = slots_change.changed() => continue,
            };
            poll = None;
            match answer {
                Ok((response, incarnation, asked)) => {
                    unreachable_since = None;
                    delays = retry::DELAYS.build();
                    match self.take(response, incarnation).await? {
                        PollResult::Something => {}
                        PollResult::Nothing => not_before = asked + PAUSE_AFTER_EMPTY,
                        PollResult::Idle => return Ok(()),
                    }
                }
                Err(CallError::Version(reason)) => return Err(AgentError::Version(reason)),
                Err(CallError::Unavailable(reason)) => {
                    let since = *unreachable_since.get_or_insert_with(Instant::now);
                    if self.shared.config.exit_when_idle
                        && self.attempts.is_empty()
                        && since.elapsed() >= UNREACHABLE_MAX
                    {
                        let (url, seconds) =
                            (self.shared.session.url().to_owned(), since.elapsed().as_secs());
                        return Err(AgentError::Unreachable { url, seconds, reason });
                    }
                    not_before = Instant::now() + delays.next().unwrap_or(PAUSE_AFTER_EMPTY);
                }
                Err(CallError::Refused(reason)) => {
                    tracing::warn!(%reason, "request for trials refused; registering this worker again");
                    self.shared.session.forget_registration().await;
                    not_before = Instant::now() + delays.next().unwrap_or(PAUSE_AFTER_EMPTY);
                }
                Err(CallError::Stale) => {
                    not_before = Instant::now() + delays.next().unwrap_or(PAUSE_AFTER_EMPTY)
                }
            }
        }
    }

    /// Starts the trials of an answer.
    async fn take(
        &mut self,
        response: v1::LeaseResponse,
        incarnation: Incarnation,
    ) -> Result<PollResult, AgentError> {
        let v1::LeaseResponse { leases, idle, quarantined, unfit, look_for } = response;
        let look_for = look_for.into_iter().map(Prerequisite::try_from).collect::<Result<_, _>>();
        let look_for = look_for.map_err(|error| AgentError::Incompatible(error.to_string()))?;
        let looks = self.prerequisites.add(look_for);
        self.note_held_back(if quarantined.is_empty() { unfit } else { quarantined.clone() });
        if leases.is_empty()
            && idle
            && !looks
            && self.shared.config.exit_when_idle
            && self.attempts.is_empty()
        {
            if !quarantined.is_empty() {
                return Err(AgentError::HeldBack(quarantined));
            }
            tracing::info!("nothing is left to do");
            return Ok(PollResult::Idle);
        }
        let mut taken = if leases.is_empty() && !looks { PollResult::Nothing } else { PollResult::Something };
        for lease in leases {
            if !self.start(lease, incarnation).await? {
                taken = PollResult::Nothing;
            }
        }
        Ok(taken)
    }

    /// Asks for trials; none if none could finish in time.
    fn ask(&self, free: usize, not_before: Instant) -> Option<Poll> {
        let config = &self.shared.config;
        let (sweep, wait_max) = match self.time.ask(Instant::now(), config.sweep.as_deref()) {
            TrialRequest::Any(wait_max) => (config.sweep.clone().unwrap_or_default(), wait_max),
            TrialRequest::Only(sweep, wait_max) => (sweep, Some(wait_max)),
            TrialRequest::Nothing => return None,
        };
        let session = Arc::clone(&self.shared.session);
        let wait = wait_max.map_or(LEASE_WAIT, |wait_max| wait_max.min(LEASE_WAIT));
        let (shared, prerequisites) = (Arc::clone(&self.shared), self.prerequisites.clone());
        let request = v1::LeaseRequest {
            count_max: u32::try_from(free.min(LEASES_PER_REQUEST)).unwrap_or(1),
            sweep,
            return_when_idle: config.exit_when_idle,
            ..v1::LeaseRequest::default()
        };
        Some(Box::pin(async move {
            sleep_until(not_before).await;
            let asked = Instant::now();
            let look = tokio::task::spawn_blocking(move || prerequisites.look(&shared.config));
            let findings = look.await.map_err(|error| CallError::Unavailable(error.to_string()))?;
            let request = v1::LeaseRequest { findings: Some(findings.into()), ..request };
            let (response, incarnation) = session.lease(request, wait).await?;
            Ok((response, incarnation, asked))
        }))
    }

    /// Logs, once, why this worker gets no trials although some wait.
    fn note_held_back(&mut self, reason: String) {
        if reason != self.held_back {
            if reason.is_empty() {
                tracing::info!("the coordinator gives this worker trials again");
            } else {
                tracing::warn!(%reason, "the coordinator has no trials for this worker");
            }
            self.shared.config.observer.held_back(&reason);
            self.held_back = reason;
        }
    }

    /// Starts a trial; false if it was handed back because it may not run here.
    async fn start(&mut self, lease: v1::Lease, incarnation: Incarnation) -> Result<bool, AgentError> {
        let key = AttemptKey { incarnation, token: AttemptToken(lease.token) };
        let lease = match lease::read_lease(lease) {
            Ok(lease) => lease,
            Err(reason) => {
                self.give_back(key, format!("the worker's build differs: {reason}")).await;
                return Err(AgentError::Incompatible(reason));
            }
        };
        if matches!(lease.spec.work, Work::Command(_)) && self.shared.config.command_guard.is_none() {
            tracing::error!(token = %key.token, sweep = %lease.sweep, "the coordinator sent a command, which this worker was not allowed to run");
            self.give_back(key, "this worker may not run commands; --allow-commands lets it".to_owned())
                .await;
            return Ok(false);
        }
        let shape = packing::shape(&lease.spec);
        match self.slots.take(&shape) {
            Some(taken) => self.run(lease, key, Ok(taken)),
            None if self.slots.may_wait() => self.run(lease, key, Err(self.slots.pending(shape))),
            // More than was asked for.
            None => self.give_back(key, "the worker has no free slot".to_owned()).await,
        }
        Ok(true)
    }

    /// Runs a trial in its slot, or in the one that it waits for.
    fn run(&mut self, lease: Lease, key: AttemptKey, slot: Result<TakenSlot, PendingSlot>) {
        let token = key.token;
        // Registered before its task first runs, so that it misses no order.
        let mut entry = self.registry.add(key);
        let guard = AttemptGuard { registry: Arc::clone(&self.registry), key };
        let shared = Arc::clone(&self.shared);
        // Every level shows this span: lines within it do not name their trial themselves.
        let span = tracing::error_span!("attempt", trial = %lease.spec_hash.short(), sweep = %lease.sweep, attempt = lease.attempt, %token);
        let attempt = async move {
            let sweep = lease.sweep.clone();
            let taken = match slot {
                Ok(taken) => Ok(taken),
                Err(pending) => wait_for_slot(pending, &mut entry.orders).await,
            };
            let took = match &taken {
                Ok(taken) => lifecycle::run(&shared, lease, taken, entry).await,
                Err(reason) => {
                    if let Some(reason) = reason {
                        give_back(&shared.session, key, (*reason).to_owned()).await;
                    }
                    None
                }
            };
            // Moved into the task: the slot becomes free when the attempt is over, or when its task is dropped.
            drop((guard, taken));
            took.map(|took| (sweep, took))
        };
        self.attempts.spawn(attempt.instrument(span));
    }

    async fn give_back(&self, key: AttemptKey, message: String) {
        give_back(&self.shared.session, key, message).await;
    }

    /// Ends all attempts and hands their trials back, within the grace and two seconds.
    async fn hand_back(mut self, mut stop: watch::Receiver<Stop>) -> Result<(), AgentError> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        tracing::info!(trials = self.attempts.len(), "stopping; handing trials back");
        let limit = Instant::now() + self.shared.config.grace + REPORT_GRACE;
        self.registry.order_all(Order::HandBack);
        let in_time = tokio::select! {
            ended = timeout_at(limit, self.attempts_end()) => Ok(ended.is_ok()),
            _ = stop.wait_for(|stop| *stop == Stop::Now) => Err(AgentError::Interrupted),
        };
        if !matches!(in_time, Ok(true)) {
            self.abandon().await;
        }
        in_time.map(|_| ())
    }

    /// Kills all attempts' processes.
    async fn abandon(mut self) {
        self.registry.order_all(Order::Abandon);
        // Processes that are left then are killed when their handles are dropped, and by their own watchdogs.
        let _ = timeout(KILL_GRACE, self.attempts_end()).await;
    }

    async fn attempts_end(&mut self) {
        while self.attempts.join_next().await.is_some() {}
    }
}

async fn next_answer(poll: &mut Option<Poll>) -> Answer {
    match poll {
        Some(poll) => poll.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits for the slot of a trial that needs a device with more room than one has now.
///
/// # Errors
/// Why it is handed back; nothing if it is to be abandoned.
async fn wait_for_slot(
    pending: PendingSlot,
    orders: &mut watch::Receiver<Order>,
) -> Result<TakenSlot, Option<&'static str>> {
    tracing::info!("waiting for a device with room for this trial");
    tokio::select! {
        taken = pending.taken() => taken.ok_or(Some("no device of this worker works any more")),
        order = async { orders.wait_for(|order| *order != Order::Run).await.map(|order| *order) } => match order {
            Ok(Order::HandBack) => Err(Some("the worker was asked to stop")),
            // An error means that the registry was dropped, so the agent ends.
            _ => Err(None),
        },
    }
}

/// Returns a trial that never started. Its lease expires if this does not arrive.
async fn give_back(session: &Session, key: AttemptKey, message: String) {
    let outcome = Outcome::Failed { class: ErrorClass::Preempted, message };
    if let Err(error) = session.complete(key, None, &outcome).await {
        tracing::warn!(token = %key.token, ?error, "a trial was not handed back");
    }
}

/// An attempt's entry in the registry, which ends with it, however it ends.
struct AttemptGuard {
    registry: Arc<Registry>,
    key: AttemptKey,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        self.registry.remove(self.key);
    }
}
