//! The model: what a database must do, in the plainest terms. Tests run the same contract against it and the real ones, and simulations
//! run the whole coordinator on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sortie_core::job::{ErrorClass, Finished, State, StateName, Timestamp, Token};
use sortie_core::metrics::{Evaluation, Method, SplitName, TrainingLoss};
use sortie_core::record::{Fingerprint, TrialRecord};
use sortie_core::trial::{Point, TrialId};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::StoreError;
use super::backend::{
    AttemptRow, AttemptState, Backend, Changes, NewTrial, OpenSweep, Progress, SweepRow, SweepState, Transaction, TrialRow, WaitingTrial,
    WorkerRow,
};
use super::story;
use super::types::{Happening, Log, Page, Story, SweepStatus, TrialLine, Worker, WorkerLine};

/// Rows of one page.
const PAGE_ROWS: usize = 500;

type EvaluationKey = (Token, Method, u64, String, SplitName);

/// A database in memory. Clones share it, so it outlives the store that was opened on it, as a file does.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Tables>>);

#[derive(Clone, Debug, Default)]
struct Tables {
    epoch: i64,
    sweeps: BTreeMap<i64, SweepRow>,
    trials: BTreeMap<i64, Trial>,
    /// The trials by id and sweep: each is there once.
    by_id: BTreeMap<(TrialId, i64), i64>,
    workers: BTreeMap<i64, WorkerLine>,
    failures_in_row: HashMap<i64, u32>,
    attempts: BTreeMap<Token, Attempt>,
    validation: BTreeMap<EvaluationKey, Evaluation>,
    held_out: BTreeMap<EvaluationKey, Evaluation>,
    losses: BTreeMap<(Token, u64), TrainingLoss>,
    logs: BTreeMap<(Token, u64), Vec<u8>>,
    happenings: Vec<(i64, Happening)>,
    digests: HashMap<(String, String), String>,
}

#[derive(Clone, Debug)]
struct Trial {
    sweep: i64,
    trial_id: TrialId,
    position: i64,
    point: Point,
    state: State,
    forgiven: Token,
    linked: bool,
}

#[derive(Clone, Debug)]
struct Attempt {
    trial: i64,
    worker: i64,
    started: Timestamp,
    progress: Progress,
    fingerprint: Fingerprint,
}

#[cfg(test)]
impl Memory {
    /// A copy of its own, as a disk has one.
    pub(super) async fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().await.clone())))
    }

    /// Forgets everything that the other one does not know.
    pub(super) async fn fall_back_to(&self, other: &Self) {
        let tables = other.0.lock().await.clone();
        *self.0.lock().await = tables;
    }
}

/// A transaction holds the whole database. It is checked as a whole before anything changes, so there is nothing to roll back.
struct MemoryTransaction(OwnedMutexGuard<Tables>);

fn guard(statement: &'static str) -> StoreError {
    StoreError::Guard { statement, rows: 0, expected: 1 }
}

fn missing(table: &'static str) -> StoreError {
    StoreError::Corrupt { table, column: "id", reason: "no such row".to_owned() }
}

impl Tables {
    fn in_sweep(&self, sweep: i64) -> impl Iterator<Item = (i64, &Trial)> {
        let mut trials: Vec<(i64, &Trial)> =
            self.trials.iter().filter(|(_, trial)| trial.sweep == sweep).map(|(id, trial)| (*id, trial)).collect();
        trials.sort_by_key(|(_, trial)| trial.position);
        trials.into_iter()
    }

    fn queued(&self, sweep: i64, now: Timestamp) -> impl Iterator<Item = (i64, &Trial)> {
        self.in_sweep(sweep).filter(move |(_, trial)| matches!(trial.state, State::Queued { not_before, .. } if not_before <= now))
    }

    fn count(&self, sweep: i64, state: StateName) -> u64 {
        self.in_sweep(sweep).filter(|(_, trial)| trial.state.name() == state).count() as u64
    }

    fn twin(&self, trial_id: TrialId, sweep: i64) -> Option<Token> {
        let same = self.by_id.range((trial_id, i64::MIN)..=(trial_id, i64::MAX)).filter(|((_, other), _)| *other != sweep);
        let trials = same.filter_map(|(_, id)| self.trials.get(id));
        // Any would do; the newest, as the databases say.
        trials.filter(|trial| trial.state.name() == StateName::Succeeded).filter_map(|trial| trial.state.token()).max()
    }

    fn attempts_of(&self, trial: i64) -> impl DoubleEndedIterator<Item = (&Token, &Attempt)> {
        self.attempts.iter().filter(move |(_, attempt)| attempt.trial == trial)
    }

    fn place(&self, worker: i64) -> String {
        self.workers.get(&worker).map(|line| format!("{}:{}", line.worker.host, line.worker.pid)).unwrap_or_default()
    }

    fn line(&self, id: i64, trial: &Trial) -> TrialLine {
        let newest = self.attempts_of(id).next_back();
        let failed = self.attempts_of(id).rev().find(|(_, attempt)| attempt.progress.state == AttemptState::Failed);
        let class = |progress: &Progress| progress.class.map_or("", ErrorClass::as_str);
        TrialLine {
            trial_id: trial.trial_id,
            point: trial.point.clone(),
            state: trial.state.name(),
            attempts: u32::try_from(self.attempts_of(id).count()).unwrap_or(u32::MAX),
            step: newest.map_or(0, |(_, attempt)| attempt.progress.step),
            worker: newest.map(|(_, attempt)| self.place(attempt.worker)).unwrap_or_default(),
            error: failed.map(|(_, attempt)| format!("{}: {}", class(&attempt.progress), attempt.progress.message)).unwrap_or_default(),
        }
    }

    fn evaluations(table: &BTreeMap<EvaluationKey, Evaluation>, token: Option<Token>) -> Vec<Evaluation> {
        let mut rows: Vec<Evaluation> =
            table.iter().filter(|(key, _)| Some(key.0) == token).map(|(_, evaluation)| evaluation.clone()).collect();
        // In the order of the databases, which compare names.
        rows.sort_by(|a, b| {
            let key = |row: &Evaluation| (row.method.as_str(), row.step, row.domain.clone(), row.split.as_str());
            key(a).cmp(&key(b))
        });
        rows
    }

    /// Everything that a write refers to is as it was read.
    fn check(&self, changes: &Changes) -> Result<(), StoreError> {
        for (id, moved) in &changes.moves {
            let trial = self.trials.get(id).ok_or_else(|| guard("move of trials"))?;
            if trial.state.name() != moved.from.name() || trial.state.token() != moved.from.token() {
                return Err(guard("move of trials"));
            }
        }
        for new in &changes.new_attempts {
            if self.attempts.contains_key(&new.token) {
                return Err(guard("insert of attempts"));
            }
        }
        for (token, (before, _)) in &changes.progress {
            let attempt = self.attempts.get(token).ok_or_else(|| guard("advance of attempts"))?;
            if attempt.progress.state != before.state || attempt.progress.sequence != before.sequence {
                return Err(guard("advance of attempts"));
            }
        }
        for (kind, name, _) in &changes.pins {
            if self.digests.contains_key(&((*kind).to_owned(), name.clone())) {
                return Err(guard("pin of a digest"));
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) {
        for (id, moved) in &changes.moves {
            let newest = self.attempts_of(*id).next_back().map_or(Token(0), |(token, _)| *token);
            if let Some(trial) = self.trials.get_mut(id) {
                (trial.state, trial.linked) = (moved.to, moved.linked);
                trial.forgiven = if moved.forgive { newest } else { trial.forgiven };
            }
        }
        for new in &changes.new_attempts {
            let (state, ended) = (AttemptState::Running, Timestamp(0));
            let progress = Progress { state, class: None, message: String::new(), ended, sequence: 0, step: 0 };
            let (trial, worker, started) = (new.trial, new.worker, new.started);
            self.attempts.insert(new.token, Attempt { trial, worker, started, progress, fingerprint: Fingerprint::default() });
        }
        for (token, (_, after)) in &changes.progress {
            self.attempts.entry(*token).and_modify(|attempt| attempt.progress = after.clone());
        }
        for (token, fingerprint) in &changes.fingerprints {
            self.attempts.entry(*token).and_modify(|attempt| attempt.fingerprint = fingerprint.clone());
        }
        for (table, rows) in [(&mut self.validation, &changes.validation), (&mut self.held_out, &changes.held_out)] {
            for (token, row) in rows {
                table.entry((*token, row.method, row.step, row.domain.clone(), row.split)).or_insert_with(|| row.clone());
            }
        }
        for (token, loss) in &changes.losses {
            self.losses.entry((*token, loss.step)).or_insert(*loss);
        }
        for (token, sequence, text) in &changes.logs {
            self.logs.entry((*token, *sequence)).or_insert_with(|| text.clone());
        }
        self.happenings.extend(changes.happenings.iter().cloned());
        for (kind, name, digest) in &changes.pins {
            self.digests.insert(((*kind).to_owned(), name.clone()), digest.clone());
        }
        self.apply_to_workers(changes);
    }

    fn apply_to_workers(&mut self, changes: &Changes) {
        for (id, change) in &changes.workers {
            self.failures_in_row.insert(*id, change.failures_in_row);
            if let Some(line) = self.workers.get_mut(id) {
                (line.aside_until_ms, line.aside_reason) = (change.aside_until.0, change.aside_reason.clone());
            }
        }
        for line in self.workers.values_mut() {
            if let Some(at) = changes.seen.get(&line.worker.id) {
                line.seen_ms = at.0;
            }
            line.left |= changes.left.contains_key(&line.worker.id);
        }
    }
}

#[tonic::async_trait]
impl Transaction for MemoryTransaction {
    async fn now(&mut self, local: Timestamp) -> Result<Timestamp, StoreError> {
        Ok(local)
    }

    async fn new_epoch(&mut self, _: Timestamp) -> Result<i64, StoreError> {
        self.0.epoch += 1;
        Ok(self.0.epoch)
    }

    async fn extend_leases(&mut self, until: Timestamp) -> Result<u64, StoreError> {
        let mut extended = 0;
        for trial in self.0.trials.values_mut() {
            if let State::Leased { expires_at, .. } = &mut trial.state
                && *expires_at < until
            {
                *expires_at = until;
                extended += 1;
            }
        }
        Ok(extended)
    }

    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError> {
        if let Some(line) = self.0.workers.values_mut().find(|line| line.worker.id == worker.id) {
            (line.seen_ms, line.left) = (now.0, false);
            return Ok(());
        }
        let id = self.0.workers.len() as i64 + 1;
        let (aside_reason, trials) = (String::new(), Vec::new());
        let line = WorkerLine { worker: worker.clone(), seen_ms: now.0, left: false, aside_until_ms: 0, aside_reason, trials };
        self.0.workers.insert(id, line);
        Ok(())
    }

    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError> {
        let tables = &self.0;
        let row = |(id, line): (&i64, &WorkerLine)| WorkerRow {
            id: *id,
            name: line.worker.id.clone(),
            abilities: line.worker.abilities.clone(),
            seen: Timestamp(line.seen_ms),
            failures_in_row: tables.failures_in_row.get(id).copied().unwrap_or(0),
            aside_until: Timestamp(line.aside_until_ms),
            aside_reason: line.aside_reason.clone(),
        };
        Ok(tables.workers.iter().filter(|(_, line)| names.contains(&line.worker.id.as_str())).map(row).collect())
    }

    async fn fit_workers(&mut self, since: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let fit = |line: &&WorkerLine| line.seen_ms >= since.0 && line.aside_until_ms <= now.0 && !line.left;
        Ok(self.0.workers.values().filter(fit).count() as u64)
    }

    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError> {
        let tables = &self.0;
        let open = |sweep: &SweepRow| OpenSweep {
            id: sweep.id,
            name: sweep.spec.name.clone(),
            revision: sweep.revision,
            priority: sweep.priority,
            running: tables.count(sweep.id, StateName::Leased),
            waiting: (tables.queued(sweep.id, now).count() as u64).min(count_max),
            unfinished: sweep.expanded < sweep.planned || tables.count(sweep.id, StateName::Queued) > 0,
        };
        Ok(tables.sweeps.values().filter(|sweep| sweep.state == SweepState::Open).map(open).collect())
    }

    async fn waiting(&mut self, sweep: i64, count_max: u64, now: Timestamp) -> Result<Vec<WaitingTrial>, StoreError> {
        let tables = &self.0;
        let waiting = |(id, trial): (i64, &Trial)| {
            let twin = tables.twin(trial.trial_id, trial.sweep);
            WaitingTrial { id, trial_id: trial.trial_id, point: trial.point.clone(), state: trial.state, twin }
        };
        Ok(tables.queued(sweep, now).take(usize::try_from(count_max).unwrap_or(usize::MAX)).map(waiting).collect())
    }

    async fn attempts(&mut self, tokens: &[Token]) -> Result<Vec<AttemptRow>, StoreError> {
        let tables = &self.0;
        let mut rows = Vec::new();
        for token in tokens {
            let Some(attempt) = tables.attempts.get(token) else { continue };
            let trial = tables.trials.get(&attempt.trial).ok_or_else(|| missing("trials"))?;
            rows.push(AttemptRow {
                token: *token,
                worker: attempt.worker,
                worker_failures_in_row: tables.failures_in_row.get(&attempt.worker).copied().unwrap_or(0),
                trial: attempt.trial,
                sweep: trial.sweep,
                held_out: trial.point.held_out_label(),
                state: trial.state,
                progress: attempt.progress.clone(),
                dataset_digest: attempt.fingerprint.dataset_digest.clone(),
                weights_digest: attempt.fingerprint.weights_digest.clone(),
            });
        }
        Ok(rows)
    }

    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<Token>, StoreError> {
        let expired = |trial: &Trial| match trial.state {
            State::Leased { token, expires_at } if expires_at <= now => Some(token),
            _ => None,
        };
        Ok(self.0.trials.values().filter_map(expired).take(usize::try_from(count_max).unwrap_or(usize::MAX)).collect())
    }

    async fn failures(&mut self, trials: &[i64]) -> Result<Vec<(i64, ErrorClass, u32)>, StoreError> {
        let mut counts: BTreeMap<(i64, &'static str), (ErrorClass, u32)> = BTreeMap::new();
        for id in trials {
            let trial = self.0.trials.get(id).ok_or_else(|| missing("trials"))?;
            for (token, attempt) in self.0.attempts_of(*id) {
                if let (AttemptState::Failed, Some(class)) = (attempt.progress.state, attempt.progress.class)
                    && *token > trial.forgiven
                {
                    counts.entry((*id, class.as_str())).or_insert((class, 0)).1 += 1;
                }
            }
        }
        Ok(counts.into_iter().map(|((id, _), (class, count))| (id, class, count)).collect())
    }

    async fn pinned(&mut self, kind: &str, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.0.digests.get(&(kind.to_owned(), name.to_owned())).cloned())
    }

    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.0.sweeps.values().find(|sweep| sweep.spec.name == name).cloned())
    }

    async fn sweep_by_id(&mut self, id: i64) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.0.sweeps.get(&id).cloned())
    }

    async fn insert_sweep(&mut self, sweep: &SweepRow, _: Timestamp) -> Result<i64, StoreError> {
        let id = self.0.sweeps.len() as i64 + 1;
        self.0.sweeps.insert(id, SweepRow { id, ..sweep.clone() });
        Ok(id)
    }

    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError> {
        match self.0.sweeps.get_mut(&sweep.id) {
            Some(row) if row.revision == sweep.revision => {
                *row = SweepRow { revision: sweep.revision + 1, ..sweep.clone() };
                Ok(())
            }
            _ => Err(guard("update of a sweep")),
        }
    }

    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError> {
        let expanding = |sweep: &&SweepRow| sweep.expanded < sweep.planned && sweep.state != SweepState::Cancelled;
        Ok(self.0.sweeps.values().find(expanding).cloned())
    }

    async fn next_position(&mut self, sweep: i64) -> Result<i64, StoreError> {
        Ok(self.0.in_sweep(sweep).last().map_or(0, |(_, trial)| trial.position + 1))
    }

    async fn insert_trials(&mut self, sweep: i64, trials: &[NewTrial], reuse: bool) -> Result<(u64, u64), StoreError> {
        let (mut added, mut linked) = (0, 0);
        for NewTrial { trial_id, position, point } in trials {
            if self.0.by_id.contains_key(&(*trial_id, sweep)) {
                continue;
            }
            let twin = self.0.twin(*trial_id, sweep).filter(|_| reuse);
            let state = twin.map_or(State::FRESH, |token| State::Finished(Finished::Succeeded(token)));
            let id = self.0.trials.len() as i64 + 1;
            let (position, point, linked_here) = (*position, point.clone(), twin.is_some());
            let trial = Trial { sweep, trial_id: *trial_id, position, point, state, forgiven: Token(0), linked: linked_here };
            self.0.trials.insert(id, trial);
            self.0.by_id.insert((*trial_id, sweep), id);
            added += 1;
            linked += u64::from(linked_here);
        }
        Ok((added, linked))
    }

    async fn trial_rows(&mut self, sweep: i64, from: i64, count_max: u64) -> Result<Vec<TrialRow>, StoreError> {
        let rows = self.0.in_sweep(sweep).filter(|(_, trial)| trial.position >= from);
        let rows = rows.take(usize::try_from(count_max).unwrap_or(usize::MAX));
        Ok(rows.map(|(id, trial)| TrialRow { id, position: trial.position, point: trial.point.clone(), state: trial.state }).collect())
    }

    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        self.0.check(changes)?;
        self.0.apply(changes);
        Ok(())
    }

    async fn commit(self: Box<Self>, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tonic::async_trait]
impl Backend for Memory {
    async fn begin(&self, _: bool) -> Result<Box<dyn Transaction>, StoreError> {
        // As while a real database works, whoever else is ready goes on.
        tokio::task::yield_now().await;
        Ok(Box::new(MemoryTransaction(Arc::clone(&self.0).lock_owned().await)))
    }

    async fn status(&self, sweep: Option<&str>) -> Result<Vec<SweepStatus>, StoreError> {
        let tables = self.0.lock().await;
        let mut all = Vec::new();
        for row in tables.sweeps.values().filter(|row| sweep.is_none_or(|name| name == row.spec.name)) {
            let (state, priority, planned) = (row.shown_state(), row.priority, row.planned);
            let mut status = SweepStatus { sweep: row.spec.name.clone(), state, priority, planned, ..SweepStatus::default() };
            let mut steps_running = 0;
            for (_, trial) in tables.in_sweep(row.id) {
                story::count_finished(&mut status, trial.state.name(), 1, trial.linked);
                let Some(attempt) = trial.state.token().and_then(|token| tables.attempts.get(&token)) else { continue };
                match trial.state.name() {
                    StateName::Leased => steps_running += attempt.progress.step,
                    StateName::Succeeded if !trial.linked => {
                        status.finished_attempts += 1;
                        status.running_ms += (attempt.progress.ended.0 - attempt.started.0).unsigned_abs();
                    }
                    _ => {}
                }
            }
            story::count_steps(&mut status, row, steps_running);
            all.push(status);
        }
        Ok(all)
    }

    async fn trials(&self, sweep: i64, state: Option<StateName>, from: i64) -> Result<Page<TrialLine>, StoreError> {
        let tables = self.0.lock().await;
        let fits = |trial: &Trial| trial.position >= from && state.is_none_or(|state| trial.state.name() == state);
        let page: Vec<(i64, &Trial)> = tables.in_sweep(sweep).filter(|(_, trial)| fits(trial)).take(PAGE_ROWS).collect();
        let next = page.last().filter(|_| page.len() == PAGE_ROWS).map(|(_, trial)| trial.position + 1);
        Ok(Page { rows: page.into_iter().map(|(id, trial)| tables.line(id, trial)).collect(), next })
    }

    async fn records(&self, sweep: i64, from: i64) -> Result<Page<TrialRecord>, StoreError> {
        let tables = self.0.lock().await;
        let page: Vec<(i64, &Trial)> = tables.in_sweep(sweep).filter(|(_, trial)| trial.position >= from).take(PAGE_ROWS).collect();
        let next = page.last().filter(|_| page.len() == PAGE_ROWS).map(|(_, trial)| trial.position + 1);
        let record = |trial: &Trial| {
            let token = trial.state.token().filter(|_| trial.state.name() == StateName::Succeeded);
            TrialRecord {
                id: trial.trial_id,
                point: trial.point.clone(),
                state: trial.state.name(),
                validation: Tables::evaluations(&tables.validation, token),
                held_out: Tables::evaluations(&tables.held_out, token),
            }
        };
        Ok(Page { rows: page.into_iter().map(|(_, trial)| record(trial)).collect(), next })
    }

    async fn find(&self, sweep: Option<&str>, prefix: &str) -> Result<Vec<i64>, StoreError> {
        let tables = self.0.lock().await;
        let in_sweep = |trial: &Trial| match (sweep, tables.sweeps.get(&trial.sweep)) {
            (Some(name), Some(row)) => row.spec.name == name,
            (wanted, _) => wanted.is_none(),
        };
        let named = |trial: &Trial| trial.trial_id.to_string().starts_with(prefix) && in_sweep(trial);
        Ok(tables.trials.iter().filter(|(_, trial)| named(trial)).map(|(id, _)| *id).take(3).collect())
    }

    async fn story(&self, trial: i64) -> Result<Story, StoreError> {
        let tables = self.0.lock().await;
        let row = tables.trials.get(&trial).ok_or_else(|| missing("trials"))?;
        let name = |sweep: i64| tables.sweeps.get(&sweep).map(|row| row.spec.name.clone()).unwrap_or_default();
        let mut happenings = Vec::new();
        for (token, attempt) in tables.attempts_of(trial) {
            let progress = attempt.progress.clone();
            let attempt = story::Attempt {
                token: *token,
                started_ms: attempt.started.0,
                ended_ms: progress.ended.0,
                state: progress.state,
                class: progress.class.map_or("", ErrorClass::as_str).to_owned(),
                message: progress.message,
                step: progress.step,
                device: attempt.fingerprint.device.clone(),
                worker: tables.place(attempt.worker),
            };
            happenings.extend(attempt.happenings());
        }
        happenings.extend(tables.happenings.iter().filter(|(id, _)| *id == trial).map(|(_, happening)| happening.clone()));
        happenings.sort_by_key(|happening| happening.at_ms);
        let origin = row.state.token().and_then(|token| tables.attempts.get(&token)).and_then(|attempt| tables.trials.get(&attempt.trial));
        let due_ms = if let State::Queued { not_before, .. } = row.state { not_before.0 } else { 0 };
        Ok(Story {
            sweep: name(row.sweep),
            line: tables.line(trial, row),
            token: row.state.token(),
            linked_to: origin.filter(|_| row.linked).map(|origin| name(origin.sweep)),
            due_ms,
            happenings,
        })
    }

    async fn log(&self, trial: i64, token: Option<Token>) -> Result<Log, StoreError> {
        let tables = self.0.lock().await;
        let chosen = tables.attempts_of(trial).rev().find(|(found, _)| token.is_none_or(|token| token == **found));
        match (chosen, token) {
            (Some((token, attempt)), _) => {
                let text = tables.logs.iter().filter(|(key, _)| key.0 == *token).flat_map(|(_, text)| text.clone()).collect();
                Ok(Log { token: Some(*token), worker: tables.place(attempt.worker), text })
            }
            (None, Some(token)) => Err(StoreError::UnknownToken(token)),
            (None, None) => Ok(Log::default()),
        }
    }

    async fn workers(&self, since: Timestamp) -> Result<Vec<WorkerLine>, StoreError> {
        let tables = self.0.lock().await;
        let mut lines = Vec::new();
        for (id, line) in tables.workers.iter().filter(|(_, line)| line.seen_ms >= since.0) {
            let mut line = line.clone();
            for (token, attempt) in tables.attempts.iter().filter(|(_, attempt)| attempt.worker == *id) {
                let trial = tables.trials.get(&attempt.trial).ok_or_else(|| missing("trials"))?;
                if trial.state.name() == StateName::Leased && trial.state.token() == Some(*token) {
                    let sweep = tables.sweeps.get(&trial.sweep).map(|row| row.spec.name.as_str()).unwrap_or_default();
                    line.trials.push(format!("{sweep}/{}", trial.trial_id.short()));
                }
            }
            lines.push(line);
        }
        Ok(lines)
    }

    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.0.lock().await.sweeps.values().find(|sweep| sweep.spec.name == name).cloned())
    }

    async fn sweep_names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.0.lock().await.sweeps.values().rev().map(|sweep| sweep.spec.name.clone()).take(20).collect())
    }

    async fn changed_elsewhere(&self) {
        std::future::pending().await
    }

    async fn close(&self) {}
}
