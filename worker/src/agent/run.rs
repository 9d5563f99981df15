//! Wiring: takes trials for free slots, starts attempts, and ends in an orderly way.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_core::job::{ErrorClass, Outcome, Token};
use sortie_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::attempt;
use super::backoff::{self, Backoff};
use super::config::{AgentConfig, AgentError};
use super::heartbeat;
use super::registry::{Order, Registry};
use super::session::{CallError, Session};
use super::signals::Stop;

/// How long one request for trials waits at the coordinator.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// The contract's limit of one request.
const LEASES_PER_REQUEST: usize = 64;
/// An empty answer that came sooner than this is followed by a pause, so that no coordinator is asked in a tight loop.
const PAUSE_AFTER_EMPTY: Duration = Duration::from_secs(1);
/// How long `--exit-when-idle` waits for a coordinator that does not answer while nothing runs.
const UNREACHABLE_MAX: Duration = Duration::from_secs(30);
/// How long handing trials back may take.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long killed processes may take to go.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Works until it is asked to stop, or until nothing is left where that was asked for. No trial's process survives it.
///
/// # Errors
/// [`AgentError`] when it cannot go on. Failures of trials are told to the coordinator and are not errors of the agent.
pub async fn run(config: AgentConfig, stop: watch::Receiver<Stop>) -> Result<(), AgentError> {
    let session = Arc::new(Session::new(&config.coordinator, introduction(&config)));
    let registry = Arc::new(Registry::default());
    let mut background = JoinSet::new();
    background.spawn(heartbeat::run(Arc::clone(&session), Arc::clone(&registry)));
    let free = Arc::new(Mutex::new((0..config.slots.len()).collect()));
    let mut agent = Agent { config: Arc::new(config), session, registry, free, attempts: JoinSet::new() };
    let mut stopping = stop.clone();
    let worked = tokio::select! {
        worked = agent.work() => worked,
        Some(Ok(error)) = background.join_next() => Err(error),
        // The sender lives in a task that never ends; if it did, nobody could ask for a stop any more.
        _ = stopping.wait_for(|stop| *stop >= Stop::Gracefully) => Ok(()),
    };
    match worked {
        Ok(()) => agent.hand_back(stop).await,
        Err(error @ AgentError::Incompatible(_)) => {
            agent.hand_back(stop).await?;
            Err(error)
        }
        Err(error) => {
            agent.abandon().await;
            Err(error)
        }
    }
}

fn introduction(config: &AgentConfig) -> v1::RegisterRequest {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = std::process::id();
    // Hosts may share a name and containers a process id. The id is a name and no number of any trial.
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let unique: String = unique.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let devices: BTreeSet<&str> = config.slots.iter().map(|slot| slot.device.as_str()).collect();
    v1::RegisterRequest {
        version: Some(v1::Version::ours("sortie-worker")),
        worker_id: format!("{host}-{pid}-{unique}"),
        host,
        pid,
        devices: devices.into_iter().map(str::to_owned).collect(),
        slots: u32::try_from(config.slots.len()).unwrap_or(u32::MAX),
        ..v1::RegisterRequest::default()
    }
}

/// An answer, and when it was asked for.
type Answer = Result<(v1::LeaseResponse, Instant), CallError>;
type Poll = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct Agent {
    config: Arc<AgentConfig>,
    session: Arc<Session>,
    registry: Arc<Registry>,
    free: Arc<Mutex<BTreeSet<usize>>>,
    attempts: JoinSet<()>,
}

impl Agent {
    /// Takes trials and runs them until nothing is left (where that was asked for) or until it cannot go on.
    async fn work(&mut self) -> Result<(), AgentError> {
        let mut backoff = Backoff::new(backoff::seed(self.session.worker_id(), 0));
        let mut unreachable_since: Option<Instant> = None;
        let mut poll: Option<Poll> = None;
        let mut not_before = Instant::now();
        loop {
            let free = lock(&self.free).len();
            if poll.is_none() && free > 0 {
                poll = Some(self.ask(free, not_before));
            }
            let answer = tokio::select! {
                answer = next_answer(&mut poll) => answer,
                Some(ended) = self.attempts.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an attempt broke off");
                    }
                    continue;
                }
            };
            poll = None;
            match answer {
                Ok((response, asked)) => {
                    unreachable_since = None;
                    backoff.reset();
                    if response.leases.is_empty() {
                        if response.idle && self.config.exit_when_idle && self.attempts.is_empty() {
                            tracing::info!("nothing is left to do");
                            return Ok(());
                        }
                        not_before = asked + PAUSE_AFTER_EMPTY;
                    }
                    for lease in response.leases {
                        self.start(lease).await?;
                    }
                }
                Err(CallError::Version(reason)) => return Err(AgentError::Version(reason)),
                Err(CallError::Unavailable(reason)) => {
                    let since = *unreachable_since.get_or_insert_with(Instant::now);
                    if self.config.exit_when_idle && self.attempts.is_empty() && since.elapsed() >= UNREACHABLE_MAX {
                        let (url, seconds) = (self.session.url().to_owned(), since.elapsed().as_secs());
                        return Err(AgentError::Unreachable { url, seconds, reason });
                    }
                    not_before = Instant::now() + backoff.next();
                }
                Err(CallError::Refused(reason)) => {
                    tracing::warn!(%reason, "request for trials refused; introducing this worker again");
                    self.session.forget_registration().await;
                    not_before = Instant::now() + backoff.next();
                }
                Err(CallError::Stale) => not_before = Instant::now() + backoff.next(),
            }
        }
    }

    fn ask(&self, free: usize, not_before: Instant) -> Poll {
        let session = Arc::clone(&self.session);
        let request = v1::LeaseRequest {
            count_max: u32::try_from(free.min(LEASES_PER_REQUEST)).unwrap_or(1),
            sweep: self.config.sweep.clone().unwrap_or_default(),
            return_when_idle: self.config.exit_when_idle,
            ..v1::LeaseRequest::default()
        };
        Box::pin(async move {
            sleep_until(not_before).await;
            let asked = Instant::now();
            session.lease(request, LEASE_WAIT).await.map(|response| (response, asked))
        })
    }

    async fn start(&mut self, lease: v1::Lease) -> Result<(), AgentError> {
        let token = Token(lease.token);
        let lease = match attempt::accept(lease) {
            Ok(lease) => lease,
            Err(reason) => {
                self.give_back(token, format!("the worker's build differs: {reason}")).await;
                return Err(AgentError::Incompatible(reason));
            }
        };
        let index = lock(&self.free).pop_first();
        let Some(index) = index else {
            // More than was asked for.
            self.give_back(token, "the worker has no free slot".to_owned()).await;
            return Ok(());
        };
        // Known before its task first runs, so that no order passes it by.
        let entry = self.registry.add(token);
        let occupied = Occupied { free: Arc::clone(&self.free), registry: Arc::clone(&self.registry), index, token };
        let (config, session) = (Arc::clone(&self.config), Arc::clone(&self.session));
        self.attempts.spawn(async move {
            attempt::run(&config, session, lease, &config.slots[index], entry).await;
            // Named here, so that the task owns it: the slot is free when the attempt is over, or when its task is dropped.
            drop(occupied);
        });
        Ok(())
    }

    /// Returns a trial that never started. Its lease expires if this does not arrive.
    async fn give_back(&self, token: Token, message: String) {
        let outcome = Outcome::Failed { class: ErrorClass::Preempted, message };
        if let Err(error) = self.session.complete(token, None, &outcome).await {
            tracing::warn!(%token, ?error, "a trial was not handed back");
        }
    }

    /// Ends all attempts and hands their trials back, within a few seconds.
    async fn hand_back(mut self, mut stop: watch::Receiver<Stop>) -> Result<(), AgentError> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        tracing::info!(trials = self.attempts.len(), "stopping; handing trials back");
        self.registry.order_all(Order::HandBack);
        let in_time = tokio::select! {
            () = self.attempts_end() => Ok(true),
            () = sleep(STOP_GRACE) => Ok(false),
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
        // Whatever is left then is killed with its handle, and by its own watchdog.
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

/// A slot while an attempt has it. Freed however the attempt ends.
struct Occupied {
    free: Arc<Mutex<BTreeSet<usize>>>,
    registry: Arc<Registry>,
    index: usize,
    token: Token,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.registry.remove(self.token);
        lock(&self.free).insert(self.index);
    }
}

/// A panic of another holder cannot leave the set half changed: every change is one call.
fn lock(free: &Mutex<BTreeSet<usize>>) -> MutexGuard<'_, BTreeSet<usize>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}
