//! One attempt: from a lease, through the process that trains and the reports that it makes, to its end.

use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_core::artifact::Artifact;
use sortie_core::code::Code;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::lease::Lease;
use sortie_core::pipe::{Event, Handshake};
use sortie_core::record::Fingerprint;
use sortie_core::trial::{PROTOCOL_VERSION, Work};
use sortie_proto::v1;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::Instrument as _;

use crate::attempt::artifacts::{ArtifactDestination, DestinationWatch};
use crate::attempt::attempt_log::{AttemptLog, LastOutput};
use crate::attempt::checkpoints::CheckpointKeeper;
use crate::attempt::device;
use crate::attempt::ending::{self, ProcessEnd};
use crate::attempt::orders;
use crate::attempt::outbox::Outbox;
use crate::attempt::program::{self, STORE_GRACE, STORE_LIMIT};
use crate::attempt::time_limits::TimeLimits;
use crate::config::AgentConfig;
use crate::connection::deliver::{Refusal, ReportClient};
use crate::connection::session::Session;
use crate::launcher::{self, Trainer};
use crate::machine::oom::OomKills;
use crate::process::child::{Child, Message};
use crate::process::launch::{self, ProgramFolder};
use crate::registry::{AttemptProgress, Entry, Order};
use crate::slots::TakenSlot;
use crate::state_dir::StateDir;

/// Reports are gathered this long.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What all attempts of an agent use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) session: Arc<Session>,
    pub(crate) state_dir: StateDir,
    pub(crate) oom_kills: OomKills,
    pub(crate) destination: DestinationWatch,
}

type Delivery = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// An attempt while it runs.
pub(crate) struct Attempt<'a> {
    shared: &'a Shared,
    taken: &'a TakenSlot,
    is_command: bool,
    place: Arc<AttemptProgress>,
    orders: watch::Receiver<Order>,
    is_ending: Arc<AtomicBool>,
    outbox: Outbox,
    delivery: Option<Delivery>,
    /// The outcome that the process reported.
    reported: Option<Outcome>,
    /// Why the agent ended it.
    stop_reason: Option<StopReason>,
    report_client: ReportClient,
    limits: TimeLimits,
    /// Stores the checkpoints of a command.
    keeper: Option<CheckpointKeeper>,
    /// The last step that was reported.
    step: u64,
    /// The coordinator accepts no more reports of it.
    refused: bool,
    /// When the worker asked it to stop.
    handed_back_at: Option<Instant>,
    /// How the trainer that waits for the next trial in this slot is started, once this one has loaded everything.
    next: Option<Command>,
    /// Its process waited for it and has not answered yet.
    waited: bool,
}

/// Why the agent ended an attempt.
#[derive(Debug)]
enum StopReason {
    /// The lease is lost, or the agent ends at once: nothing more is reported.
    Abandoned,
    /// The worker was asked to stop.
    HandedBack,
    /// Its process broke the schema, which is this outcome. Its earlier events and its output are still reported.
    Broken(Outcome),
    /// Its reports cannot be delivered; the reason in one line.
    Unreported(String),
}

/// Runs an attempt. Returns when its process has ended and its end is acknowledged, refused or abandoned. Returns how long a trial took
/// that succeeded.
pub(crate) async fn run(shared: &Shared, lease: Lease, taken: &TakenSlot, entry: Entry) -> Option<Duration> {
    let slot = taken.slot();
    let (token, spec_hash) = (lease.token, lease.spec_hash);
    let log_path = shared.config.cache.join("logs").join(format!("{spec_hash}-{token}.log"));
    let Entry { key, place, orders, ending: is_ending } = entry;
    let report_client = ReportClient {
        session: Arc::clone(&shared.session),
        attempt: key,
        #[cfg(feature = "test-hooks")]
        trial: spec_hash,
    };
    let mut attempt = Attempt {
        shared,
        taken,
        is_command: matches!(lease.spec.work, Work::Command(_)),
        place,
        orders,
        is_ending,
        outbox: Outbox::new(shared.state_dir.reports(token)),
        delivery: None,
        reported: None,
        stop_reason: None,
        report_client,
        limits: TimeLimits::of(&lease),
        keeper: None,
        step: 0,
        refused: false,
        handed_back_at: None,
        next: None,
        waited: false,
    };
    let destination = shared.destination.found().await;
    let begun = Instant::now();
    let log = AttemptLog::new(log_path.clone());
    let outcome = match attempt.start(&lease, destination.as_ref(), log).await {
        Ok(mut child) => {
            tracing::info!(device = %slot.device, pid = child.pid(), "trial started");
            let _noted = shared.state_dir.running(child.pid());
            attempt.watch(&mut child).await
        }
        Err(outcome) => Some(outcome),
    };
    let Some(outcome) = outcome else {
        tracing::info!("trial abandoned");
        return None;
    };
    let outcome = device::without_faults_of(taken, outcome);
    match &outcome {
        Outcome::Succeeded => tracing::info!("trial succeeded"),
        Outcome::Diverged { step } => tracing::warn!(step, "trial diverged"),
        Outcome::Failed { class, message } => {
            tracing::warn!(%class, reason = %message, log = %log_path.display(), "trial failed");
            shared.config.observer.failed(message);
        }
    }
    let took = (outcome == Outcome::Succeeded).then(|| begun.elapsed());
    attempt.store_last_checkpoints(&outcome).await;
    let keeper = attempt.keeper.take();
    if attempt.end(outcome).await {
        let tokens = lease.checkpoints.iter().map(|checkpoint| checkpoint.token).chain([token]);
        match (keeper, destination) {
            (Some(keeper), _) => keeper.clear(tokens).await,
            (None, Some(destination)) => destination.clear_checkpoints(spec_hash, tokens).await,
            (None, None) => {}
        }
    }
    took
}

impl Attempt<'_> {
    async fn start(
        &mut self,
        lease: &Lease,
        destination: Option<&ArtifactDestination>,
        log: AttemptLog,
    ) -> Result<Child, Outcome> {
        let (config, slot) = (&self.shared.config, self.taken.slot());
        let (trainer, folder) =
            self.prepare(lease, destination).instrument(tracing::debug_span!("preparing")).await?;
        let store = destination.map(ArtifactDestination::url);
        let mut launch = launch::prepare(config, lease, slot, store, trainer.as_ref(), folder)?;
        if let Some(fingerprint) = launch.fingerprint.take() {
            self.outbox.fingerprint(fingerprint.into());
        }
        let mut waits = None;
        if let (Work::Finetune(settings), Some(trainer)) = (&lease.spec.work, &trainer) {
            waits = self.taken.take_waiting(&launch.command);
            self.next = Some(launch::trainer_command(config, slot, trainer, settings.precision));
            self.waited = waits.is_some();
        }
        Child::spawn(launch, waits, log)
            .map_err(|error| ending::machine(format!("cannot start the trial's process: {error}")))
    }

    /// Finds what the work needs: a trainer that runs here, or the folder of a command's checkpoints.
    async fn prepare(
        &mut self,
        lease: &Lease,
        destination: Option<&ArtifactDestination>,
    ) -> Result<(Option<Trainer>, Option<ProgramFolder>), Outcome> {
        match &lease.spec.work {
            Work::Finetune(_) => {
                let found = launcher::find_in_background(&self.shared.config.launcher).await;
                Ok((Some(found.map_err(|error| ending::machine(error.to_string()))?), None))
            }
            Work::Command(settings) => {
                let (config, incarnation) = (&self.shared.config, self.report_client.attempt.incarnation);
                let (keeper, folder) =
                    program::prepare(config, settings, lease, incarnation, destination).await?;
                self.keeper = Some(keeper);
                Ok((None, Some(folder)))
            }
        }
    }

    /// Stores the checkpoints that a command left which did not come to a result: another attempt goes on from them.
    async fn store_last_checkpoints(&mut self, outcome: &Outcome) {
        let has_end = matches!(outcome, Outcome::Succeeded | Outcome::Diverged { .. });
        let Some(keeper) = self.keeper.as_mut().filter(|_| !has_end && !self.refused) else { return };
        let grace = self.shared.config.grace + STORE_GRACE;
        let limit = self.handed_back_at.map_or(STORE_LIMIT, |at| grace.saturating_sub(at.elapsed()));
        let mut orders = self.orders.clone();
        tokio::select! {
            stored = keeper.last(self.step, limit) => {
                for stored in stored {
                    self.report_checkpoint(stored);
                }
            }
            () = orders::handed_back_for(&mut orders, grace) => tracing::warn!("checkpoints were not stored: the worker stops"),
        }
    }

    /// Stores checkpoints that a command has written meanwhile, and on disk the reports that are too many for memory.
    async fn store_meanwhile(&mut self) {
        if let Some(keeper) = self.keeper.as_mut().filter(|_| self.stop_reason.is_none())
            && let Some(stored) = keeper.tick(self.step, !self.outbox.may_hold_artifacts()).await
        {
            self.report_checkpoint(stored);
        }
        self.outbox.spill();
    }

    fn report_checkpoint(&mut self, stored: Result<Artifact, String>) {
        match stored {
            Ok(artifact) => self.outbox.artifact((&artifact).into()),
            Err(line) => self.outbox.notes(vec![line]),
        }
    }

    /// Follows the process until it ends; none if nothing is to be reported.
    #[tracing::instrument(name = "running", level = "debug", skip_all)]
    async fn watch(&mut self, child: &mut Child) -> Option<Outcome> {
        let oom_kills = self.shared.oom_kills.count();
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kill_at: Option<Instant> = None;
        let mut due = false;
        self.limits.begin();
        let (status, mut last_output) = loop {
            tokio::select! {
                // An attempt that was stopped is read on, because its end comes after its last output.
                message = child.next(), if !self.outbox.is_full() || self.stop_reason.is_some() => match self.limits.saw(message) {
                    Message::Event(Event::Handshake(trainer)) => self.check_build(child, &trainer),
                    Message::Event(event) => self.note(event),
                    Message::Printed(bytes) => self.outbox.log(&bytes),
                    Message::Broken(outcome) => {
                        child.kill();
                        self.stop_reason.get_or_insert(StopReason::Broken(outcome));
                    }
                    Message::Ended(status, last_output) => break (status, last_output),
                },
                answer = answered(&mut self.delivery), if self.delivery.is_some() => {
                    self.delivery = None;
                    match answer {
                        Ok(()) => self.outbox.acknowledged(),
                        Err(Refusal::Stale) => {
                            tracing::warn!("lease lost; ending the trial's process");
                            self.stop_for(child, StopReason::Abandoned);
                        }
                        Err(Refusal::Refused(reason)) => self.stop_for(child, StopReason::Unreported(refused(&reason))),
                    }
                }
                _ = ticks.tick() => {
                    due = true;
                    self.store_meanwhile().await;
                    if self.outbox.is_full() {
                        // The process waits for its agent, not the other way round.
                        self.limits.pause();
                    } else if let Some(message) = self.limits.exceeded() && self.stop_reason.is_none() {
                        // Killed, because what hangs does not listen.
                        child.kill();
                        self.stop_reason = Some(StopReason::Broken(ending::stalled(message)));
                    }
                }
                order = orders::next(&mut self.orders) => match order {
                    Order::Run => {}
                    Order::HandBack => {
                        self.stop_reason.get_or_insert(StopReason::HandedBack);
                        child.terminate();
                        let now = *self.handed_back_at.insert(Instant::now());
                        kill_at = Some(now + self.shared.config.grace);
                    }
                    Order::Abandon => self.stop_for(child, StopReason::Abandoned),
                },
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    kill_at = None;
                    child.kill();
                }
            }
            if self.delivery.is_none() && (due || self.outbox.has_a_batch()) && !self.discards_reports() {
                due = false;
                match self.outbox.batch() {
                    Ok(batch) => self.delivery = batch.map(|batch| self.send(batch)),
                    Err(error) => self.stop_for(child, StopReason::Unreported(unreadable(&error))),
                }
            }
        };
        if !self.discards_reports() {
            self.outbox.log(&last_output.head_tail);
            self.outbox.notes(std::mem::take(&mut last_output.notes));
        }
        let oom_killed = self.shared.oom_kills.count() > oom_kills;
        self.outcome_of_end(status, last_output, oom_killed).await
    }

    /// The outcome of an ended process; none if nothing is to be reported.
    async fn outcome_of_end(
        &mut self,
        status: Option<ExitStatus>,
        last_output: LastOutput,
        oom_killed: bool,
    ) -> Option<Outcome> {
        if self.stop_reason.is_none()
            && self.reported.is_none()
            && !status.is_some_and(|status| status.success())
        {
            self.stop_reason = match orders::given_meanwhile(&mut self.orders).await {
                Some(Order::HandBack) => Some(StopReason::HandedBack),
                Some(Order::Abandon) => Some(StopReason::Abandoned),
                Some(Order::Run) | None => None,
            };
        }
        let handed_back = matches!(self.stop_reason, Some(StopReason::HandedBack));
        if handed_back {
            self.handed_back_at.get_or_insert_with(Instant::now);
        }
        match self.stop_reason.take() {
            Some(StopReason::Abandoned) => None,
            Some(StopReason::Broken(outcome)) => Some(outcome),
            Some(StopReason::Unreported(reason)) => Some(ending::transient(reason)),
            None if self.waited => Some(ending::before_it_began()),
            Some(StopReason::HandedBack) | None => {
                let end = ProcessEnd {
                    reported: self.reported.take(),
                    handed_back,
                    status,
                    last_lines: last_output.lines,
                    oom_killed,
                    lacks: last_output.lacks,
                };
                Some(if self.is_command { ending::of_command(end) } else { ending::of_trial(end) })
            }
        }
    }

    /// Whether further reports are dropped, because the coordinator would not accept them.
    fn discards_reports(&self) -> bool {
        matches!(self.stop_reason, Some(StopReason::Abandoned | StopReason::Unreported(_)))
    }

    /// Ends a trainer that was built from other sources: it might compute other numbers. Another worker gets the trial.
    fn check_build(&mut self, child: &Child, trainer: &Handshake) {
        self.waited = false;
        let config = &self.shared.config;
        if trainer.build == config.launcher.build() && trainer.protocol_version == PROTOCOL_VERSION {
            return;
        }
        let line = config.observer.found_other_build(config.launcher.build(), trainer);
        tracing::error!("{line}");
        child.kill();
        let outcome = Outcome::Failed { class: ErrorClass::Preempted, message: line };
        self.stop_reason.get_or_insert(StopReason::Broken(outcome));
    }

    fn note(&mut self, event: Event) {
        match event {
            // `watch` checks it, because it can end the process.
            Event::Handshake(_) => {}
            Event::Preparation(preparation) => {
                self.place.prepares(preparation.clone());
                self.shared.config.observer.prepares(Some(preparation));
            }
            Event::Progress(progress) => {
                self.shared.config.observer.prepares(None);
                self.place.made(progress.step);
                self.step = progress.step;
            }
            Event::Memory(memory) => self.taken.measured(memory),
            Event::Outcome(ending) => self.reported = Some(ending),
            _ if self.discards_reports() || matches!(self.stop_reason, Some(StopReason::Broken(_))) => {}
            Event::Fingerprint(fingerprint) => {
                if let Some(command) = self.next.take() {
                    self.taken.start_waiting(command, &self.shared.state_dir);
                }
                let code = Some(Box::new(Code::of_build(self.shared.config.launcher.build())));
                self.outbox.fingerprint(Fingerprint { code, ..fingerprint }.into());
            }
            Event::Resumed(resumed) => self.outbox.resumed(resumed.into()),
            Event::Artifact(artifact) => self.outbox.artifact((&artifact).into()),
            Event::Losses(losses) => self.outbox.losses(losses),
            Event::Evaluations(evaluations) => self.outbox.evaluations(&evaluations),
        }
    }

    fn stop_for(&mut self, child: &Child, reason: StopReason) {
        child.kill();
        self.delivery = None;
        self.outbox.clear();
        self.refused = true;
        self.stop_reason = Some(reason);
    }

    fn send(&self, batch: v1::Batch) -> Delivery {
        Box::pin(self.report_client.clone().report(batch))
    }

    /// Reports how the attempt ended, with the reports that are left, until that is acknowledged, refused or abandoned. Returns whether the
    /// trial has ended, so that no later attempt needs its checkpoints.
    #[tracing::instrument(name = "ending", level = "debug", skip_all)]
    async fn end(mut self, outcome: Outcome) -> bool {
        self.is_ending.store(true, Ordering::Relaxed);
        let mut orders = self.orders.clone();
        tokio::select! {
            answer = self.report_end(outcome) => match answer {
                Ok(has_end) => return has_end,
                Err(Refusal::Stale) => tracing::warn!("the lease was lost before the trial's end was reported"),
                Err(Refusal::Refused(reason)) => tracing::error!(%reason, "the coordinator refused the end of a trial"),
            },
            () = orders::abandoned_for_good(&mut orders) => tracing::warn!("the trial's end was not reported; it is free when its lease expires"),
        }
        false
    }

    async fn report_end(&mut self, mut outcome: Outcome) -> Result<bool, Refusal> {
        let last = match self.deliver_all_but_the_last().await {
            Ok(()) => self.outbox.batch().map_err(|error| unreadable(&error)),
            Err(Undelivered::Stale) => return Err(Refusal::Stale),
            Err(Undelivered::Unreported(reason)) => Err(reason),
        };
        let last = last.unwrap_or_else(|reason| {
            // A result with missing reports does not count.
            outcome = ending::transient(reason);
            self.outbox.clear();
            None
        });
        let has_end = matches!(outcome, Outcome::Succeeded | Outcome::Diverged { .. });
        self.report_client.clone().complete(last, outcome).await.map(|()| has_end)
    }

    async fn deliver_all_but_the_last(&mut self) -> Result<(), Undelivered> {
        loop {
            if let Some(delivery) = &mut self.delivery {
                let answer = delivery.as_mut().await;
                self.delivery = None;
                match answer {
                    Ok(()) => self.outbox.acknowledged(),
                    Err(Refusal::Stale) => return Err(Undelivered::Stale),
                    Err(Refusal::Refused(reason)) => return Err(Undelivered::Unreported(refused(&reason))),
                }
            }
            if !self.outbox.is_more_than_a_batch() {
                return Ok(());
            }
            let batch = self.outbox.batch().map_err(|error| Undelivered::Unreported(unreadable(&error)))?;
            self.delivery = batch.map(|batch| self.send(batch));
        }
    }
}

/// Why reports were not delivered.
enum Undelivered {
    Stale,
    Unreported(String),
}

fn refused(reason: &str) -> String {
    format!("the coordinator refused a report: {reason}")
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot read reports that were stored on disk: {error}")
}

async fn answered(delivery: &mut Option<Delivery>) -> Result<(), Refusal> {
    match delivery {
        Some(delivery) => delivery.as_mut().await,
        None => std::future::pending().await,
    }
}
