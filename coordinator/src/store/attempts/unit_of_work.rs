//! The attempts that one transaction concerns, and their changes. Pure: rows in, changes out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::inputs::{Input, Pins};
use sortie_core::job::{
    self, AttemptEnd, Blame, Decision, Effect, ErrorClass, Event, FailureHistory, Outcome, Refused, State,
    Timestamp,
};
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey};
use sortie_core::lease::{AttemptHeartbeat, Batch, Completion};
use sortie_core::machine::WorkKind;
use sortie_core::trial::Work;

use super::sweep_cache::SweepInfo;
use crate::store::backend::{AttemptRow, AttemptState, Changes, Move, Progress};
use crate::store::request::{Request, WorkerName};
use crate::store::types::TrialEvent;
use crate::store::{Limits, Settings, StoreError};

/// What follows the reason of a trial that ended after failures on one machine only.
const ONE_MACHINE: &str = " (one machine only)";
/// The last step that a command may report: the largest integer of the databases.
pub(super) const STEP_MAX: u64 = (1 << 63) - 1;
/// How much of a failure's message is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// See the module.
pub(crate) struct UnitOfWork {
    pub(crate) now: Timestamp,
    pub(crate) lease: Duration,
    pub(super) limits: Limits,
    pub(crate) changes: Changes,
    /// When the earliest trial that was put back becomes free.
    pub(crate) free_at: Option<Timestamp>,
    /// Whether a trial ended.
    pub(crate) ended: bool,
    /// Whether a trial ended that a combination may wait for.
    pub(crate) member_ended: bool,
    /// Attempts that gave a result, or diverged, at trials that were tried before: their reports can be compared now.
    pub(crate) to_compare: Vec<AttemptToken>,
    /// What ended attempts say about machines, in their order.
    pub(crate) machine_outcomes: Vec<MachineOutcome>,
    /// Whether a report decided which of several digests counts: trials that were held may start.
    pub(crate) resolved: bool,
    pub(super) attempts: BTreeMap<AttemptToken, AttemptRow>,
    sweeps: BTreeMap<SweepKey, Arc<SweepInfo>>,
    expired: Vec<AttemptToken>,
    failures: HashMap<(TrialKey, ErrorClass), u32>,
    /// The machines on which earlier attempts failed.
    failed_on: HashMap<TrialKey, BTreeSet<String>>,
    /// The digests of the inputs that are compared, as they are by now.
    pub(super) pins: BTreeMap<Input, Pins>,
    /// Attempts that end because their machine has another input than others, and which.
    pub(super) odd: HashMap<AttemptToken, WorkKind>,
}

/// What the end of an attempt says about its machine.
#[derive(Debug)]
pub(crate) struct MachineOutcome {
    pub(crate) machine: String,
    pub(crate) sweep: SweepKey,
    /// What it did there; the first is what a failure without a closer description is about.
    pub(crate) kinds: Vec<WorkKind>,
    /// Whose fault a failure is, and its message; none for a result.
    pub(crate) failure: Option<(Blame, String)>,
}

impl UnitOfWork {
    pub(crate) fn new(
        attempts: Vec<AttemptRow>,
        sweeps: BTreeMap<SweepKey, Arc<SweepInfo>>,
        expired: Vec<AttemptToken>,
        now: Timestamp,
        settings: Settings,
    ) -> Self {
        Self {
            now,
            lease: settings.lease,
            limits: settings.limits,
            changes: Changes::default(),
            free_at: None,
            ended: false,
            member_ended: false,
            to_compare: Vec::new(),
            machine_outcomes: Vec::new(),
            resolved: false,
            attempts: attempts.into_iter().map(|row| (row.token, row)).collect(),
            sweeps,
            expired,
            failures: HashMap::new(),
            failed_on: HashMap::new(),
            pins: BTreeMap::new(),
            odd: HashMap::new(),
        }
    }

    /// Trials whose earlier failures decide what becomes of them.
    pub(crate) fn trials_that_may_fail(&self, requests: &[Request]) -> Vec<TrialKey> {
        let reported = requests
            .iter()
            .filter_map(Request::outcome)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }));
        let tokens = reported.map(|(token, _)| token).chain(self.expired.iter().copied());
        let mut trials: Vec<TrialKey> =
            tokens.filter_map(|token| Some(self.attempts.get(&token)?.trial)).collect();
        trials.sort_unstable();
        trials.dedup();
        trials
    }

    pub(crate) fn note_failures(&mut self, failures: Vec<(TrialKey, ErrorClass, u32)>) {
        self.failures.extend(failures.into_iter().map(|(trial, class, count)| ((trial, class), count)));
    }

    pub(crate) fn note_machines(&mut self, failed_on: Vec<(TrialKey, String)>) {
        for (trial, machine) in failed_on {
            self.failed_on.entry(trial).or_default().insert(machine);
        }
    }

    /// Notes that a trial ended of a sweep with combinations, or of one without.
    pub(crate) fn note_end(&mut self, combines: bool) {
        (self.ended, self.member_ended) = (true, self.member_ended || combines);
    }

    /// The state of a trial as it is by now, if this transaction moved it.
    pub(crate) fn moved(&self, trial: TrialKey) -> Option<State> {
        self.changes.moves.get(&trial).map(|moved| moved.to)
    }

    /// Extends leases; gives the tokens that no longer hold their trial.
    pub(crate) fn on_heartbeat(
        &mut self,
        worker: &WorkerName,
        attempts: &[AttemptHeartbeat],
    ) -> Result<Vec<AttemptToken>, StoreError> {
        for attempt in attempts {
            self.check_owner(attempt.token, &worker.1)?;
        }
        self.changes.seen.insert(worker.clone(), self.now);
        let mut lost = Vec::new();
        for &AttemptHeartbeat { token, step, ref preparation } in attempts {
            let Ok(row) = self.held(token) else {
                lost.push(token);
                continue;
            };
            // No attempt is further than its trial's last step, whatever it reports.
            let last = self.work(&row).ok().and_then(|work| work.steps()).unwrap_or(STEP_MAX);
            let step = row.progress.step.max(step.min(last));
            if self.apply_event(token, &Event::Heartbeat(token)).is_err() {
                lost.push(token);
                continue;
            }
            let preparation = preparation.as_ref().map(|preparation| one_line(&preparation.to_string()));
            self.advance(token, |now| {
                now.step = step;
                now.preparation = preparation;
            });
        }
        Ok(lost)
    }

    /// Refuses what another worker than the attempt's own says about it.
    fn check_owner(&self, token: AttemptToken, secret: &TokenDigest) -> Result<(), StoreError> {
        match self.attempts.get(&token) {
            Some(row) if row.secret != *secret => Err(StoreError::NotYours(token)),
            _ => Ok(()),
        }
    }

    /// Stores a batch. A report is a sign of life.
    pub(crate) fn on_report(
        &mut self,
        secret: &TokenDigest,
        token: AttemptToken,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        self.check_owner(token, secret)?;
        let row = self.held(token)?;
        let new = self.check_batch(&row, batch)?;
        self.apply_event(token, &Event::Heartbeat(token))?;
        if !new {
            return Ok(());
        }
        self.store_batch(&row, batch);
        if let Some(end) = self.compare_digests(token, false) {
            self.finish(token, end)?;
            return Err(Refused::Stale(token).into());
        }
        Ok(())
    }

    /// Ends an attempt. Repeated, it changes nothing.
    pub(crate) fn on_complete(
        &mut self,
        secret: &TokenDigest,
        completion: &Completion,
    ) -> Result<(), StoreError> {
        let Completion { token, batch, outcome } = completion;
        self.check_owner(*token, secret)?;
        let row = self.attempts.get(token).ok_or(StoreError::UnknownToken(*token))?;
        match (row.progress.state, row.progress.class) {
            (AttemptState::Running, _) | (AttemptState::Failed, Some(ErrorClass::Lost)) => {}
            (AttemptState::Cancelled, _) => return Err(Refused::Stale(*token).into()),
            // Its last batch was stored with its first report of the end.
            _ => return Ok(()),
        }
        let row = self.held(*token)?;
        if let Some(batch) = batch
            && self.check_batch(&row, batch)?
        {
            self.store_batch(&row, batch);
        }
        let succeeded = *outcome == Outcome::Succeeded;
        let end = self.compare_digests(*token, succeeded).filter(|_| succeeded);
        self.finish(*token, end.unwrap_or_else(|| outcome.clone()))
    }

    /// Notes that a worker ends.
    pub(crate) fn on_leave(&mut self, worker: &WorkerName) {
        self.changes.left.insert(worker.clone(), self.now);
    }

    /// Ends the leases that ran out; gives how many.
    pub(crate) fn on_reap(&mut self) -> Result<u64, StoreError> {
        let mut reaped = 0;
        for token in std::mem::take(&mut self.expired) {
            // The attempt may have reported in this very transaction.
            let Ok(row) = self.held(token) else { continue };
            let event = Event::Reap(self.past(row.trial, ErrorClass::Lost, token));
            reaped += u64::from(self.apply_event(token, &event)?);
        }
        Ok(reaped)
    }

    /// The unit with nothing left to read.
    pub(crate) fn into_changes(mut self) -> Self {
        // A worker that fails and succeeds in one transaction is as it is at the end of it; one whose attempts succeed is not failing.
        self.changes.progress.retain(|_, (before, after)| before != after);
        self
    }

    fn finish(&mut self, token: AttemptToken, outcome: Outcome) -> Result<(), StoreError> {
        let row = self.held(token)?;
        let outcome = match outcome {
            Outcome::Failed { class, message } => {
                let mut message = one_line(&message);
                if self.ends_on_one_machine(&row, class) {
                    message.push_str(ONE_MACHINE);
                }
                Outcome::Failed { class, message }
            }
            other => other,
        };
        let class = if let Outcome::Failed { class, .. } = &outcome { *class } else { ErrorClass::Transient };
        let event = Event::Complete { token, past: self.past(row.trial, class, token), outcome };
        self.apply_event(token, &event)?;
        Ok(())
    }

    /// Whether a trial ends by this failure without having been tried on another machine, for a reason that may be the machine's.
    fn ends_on_one_machine(&self, row: &AttemptRow, class: ErrorClass) -> bool {
        let failures = self.failures.get(&(row.trial, class)).copied().unwrap_or(0);
        let elsewhere = |machines: &BTreeSet<String>| machines.iter().any(|machine| *machine != row.machine);
        matches!(class.blame(), Blame::Unknown | Blame::TrialOnDevice)
            && class.policy_with(self.retries(row)).exhausted(failures)
            && !self.failed_on.get(&row.trial).is_some_and(elsewhere)
    }

    fn past(&self, trial: TrialKey, class: ErrorClass, token: AttemptToken) -> FailureHistory {
        let failures = self.failures.get(&(trial, class)).copied().unwrap_or(0);
        // Any number will do, as long as trials that fail together get different ones.
        let jitter = token.0.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        // A user waits for a trial whose first attempt kills itself: it is queued again without a random delay.
        let row = self.attempts.get(&token);
        let hurries = row.is_some_and(|row| self.info(row).is_ok_and(|info| info.kill_at.is_some()));
        let retries = row.and_then(|row| self.retries(row));
        FailureHistory { failures, jitter: if hurries { 0 } else { jitter }, retries }
    }

    /// How often the sweep wants programs that crash to be tried again.
    fn retries(&self, row: &AttemptRow) -> Option<u32> {
        self.info(row).ok().and_then(|info| info.limits.retries)
    }

    /// The attempt's row, if it still holds its trial.
    fn held(&self, token: AttemptToken) -> Result<AttemptRow, StoreError> {
        let row = self.attempts.get(&token).ok_or(StoreError::UnknownToken(token))?;
        job::apply(row.state, &Event::Heartbeat(token), self.now, self.lease)?;
        Ok(row.clone())
    }

    /// Applies an event to an attempt's trial and notes everything that follows; false if nothing did.
    fn apply_event(&mut self, token: AttemptToken, event: &Event) -> Result<bool, StoreError> {
        let row = self.attempts.get(&token).ok_or(StoreError::UnknownToken(token))?;
        let (trial, combines) = (row.trial, self.info(row).is_ok_and(|info| !info.combine.is_empty()));
        let Decision::Move(next, effect) = job::apply(row.state, event, self.now, self.lease)? else {
            return Ok(false);
        };
        let before = row.state;
        let moved =
            self.changes.moves.entry(trial).or_insert(Move { from: before, to: next, forgive: false });
        moved.to = next;
        // Two attempts at one trial can stand in one transaction: both must see where it is.
        for row in self.attempts.values_mut().filter(|row| row.trial == trial) {
            row.state = next;
        }
        match next {
            State::Queued { not_before, .. } => {
                let free_at = not_before.unwrap_or(self.now);
                self.free_at = Some(self.free_at.map_or(free_at, |earlier| earlier.min(free_at)));
            }
            State::Finished(_) => self.note_end(combines),
            State::Blocked | State::Running { .. } => {}
        }
        match effect {
            Some(Effect::Revive(token)) => self.revive(trial, token),
            Some(Effect::End(token, end)) => self.end(token, end),
            Some(Effect::Start(_) | Effect::ResetFailures) | None => {}
        }
        Ok(true)
    }

    pub(super) fn advance(&mut self, token: AttemptToken, change: impl FnOnce(&mut Progress)) {
        let Some(row) = self.attempts.get_mut(&token) else { return };
        let (_, after) = self
            .changes
            .progress
            .entry(token)
            .or_insert_with(|| (row.progress.clone(), row.progress.clone()));
        change(after);
        row.progress = after.clone();
    }

    fn revive(&mut self, trial: TrialKey, token: AttemptToken) {
        self.advance(token, |progress| {
            let Progress { sequence, step, log, reported, .. } = *progress;
            *progress = Progress { sequence, step, log, reported, ..Progress::BEGUN };
        });
        let detail = "its worker reported before another attempt started".to_owned();
        let event = TrialEvent { at_ms: self.now.0, token: Some(token), what: "revived".to_owned(), detail };
        self.changes.events.push((trial, event));
    }

    fn end(&mut self, token: AttemptToken, end: AttemptEnd) {
        let now = self.now;
        let has_result = matches!(end, AttemptEnd::Reported(Outcome::Succeeded | Outcome::Diverged { .. }));
        if has_result && self.attempts.get(&token).is_some_and(|row| row.repeated) {
            self.to_compare.push(token);
        }
        let (state, class, message) = match end {
            AttemptEnd::Lost => {
                let message = "the worker was not heard from until its lease ended".to_owned();
                (AttemptState::Failed, Some(ErrorClass::Lost), Some(message))
            }
            AttemptEnd::Cancelled => (AttemptState::Cancelled, None, None),
            AttemptEnd::Reported(Outcome::Succeeded) => (AttemptState::Succeeded, None, None),
            AttemptEnd::Reported(Outcome::Diverged { step }) => {
                let message = format!("the training loss was no number at step {step}");
                (AttemptState::Diverged, None, Some(message))
            }
            AttemptEnd::Reported(Outcome::Failed { class, message }) => {
                (AttemptState::Failed, Some(class), Some(message))
            }
        };
        if let Some(row) = self.attempts.get(&token) {
            let (machine, sweep) = (row.machine.clone(), row.sweep);
            let mut kinds = self.work(row).map(|work| WorkKind::of(&work)).unwrap_or_default();
            if let Some(odd) = self.odd.get(&token).filter(|odd| kinds.contains(odd)) {
                kinds.insert(0, odd.clone());
            }
            match class.map(ErrorClass::blame) {
                Some(Blame::Trial | Blame::Nobody) => {}
                Some(blame) => {
                    let message = message.clone().unwrap_or_default();
                    let failure = Some((blame, message));
                    self.machine_outcomes.push(MachineOutcome { machine, sweep, kinds, failure });
                }
                // A result shows that the machine is fit. It may have been blamed in this very transaction.
                None if has_result && (row.suspect || !self.machine_outcomes.is_empty()) => {
                    self.machine_outcomes.push(MachineOutcome { machine, sweep, kinds, failure: None });
                }
                None => {}
            }
        }
        self.advance(token, |progress| {
            *progress = Progress { state, class, message, ended: Some(now), preparation: None, ..*progress };
        });
    }

    pub(super) fn info(&self, row: &AttemptRow) -> Result<&SweepInfo, StoreError> {
        let missing = || StoreError::Corrupt {
            table: "trials",
            column: "sweep_id",
            reason: format!("there is no sweep {}", row.sweep),
        };
        self.sweeps.get(&row.sweep).map(Arc::as_ref).ok_or_else(missing)
    }

    /// What its trial runs.
    pub(super) fn work(&self, row: &AttemptRow) -> Result<Cow<'_, Work>, StoreError> {
        Ok(self.info(row)?.work.at(&row.parameters))
    }
}

pub(crate) fn one_line(message: &str) -> String {
    message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].replace(|c: char| c.is_control(), " ")
}
