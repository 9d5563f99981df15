//! The tables, and what is read from and written to several of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sortie_core::artifact::{Artifact, ArtifactKind, Resumed};
use sortie_core::finetune::Methods;
use sortie_core::inputs::{Input, Pins};
use sortie_core::job::{ErrorClass, Finished, State, StateName, Timestamp};
use sortie_core::keep::{Lacks, LeftFiles, Needs};
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey, WorkerKey};
use sortie_core::machine::{Fault, WorkKind};
use sortie_core::metrics::{Evaluation, Method, SplitName, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_core::trial::{Point, SpecHash};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::clock::{Clock, MonotonicClock};
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry};
use crate::store::backend::{
    AttemptState, Changes, FilesQuestion, LackingTrial, Progress, StoredSweepState, SweepRow,
};
use crate::store::types::{ArtifactLocation, TrialEvent, TrialLine, WorkerLine};

pub(super) type EvaluationKey = (AttemptToken, Method, u64, String, SplitName);

/// A database in memory. Clones share it, so it outlives the store that was opened on it, as a file does.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) tables: Arc<Mutex<Tables>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { tables: Arc::default(), clock: Arc::new(MonotonicClock::start(Timestamp(0))) }
    }
}

impl Memory {
    /// The same database, with another clock.
    pub(in crate::store) fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self.clone() }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) epoch: i64,
    /// How many there ever were: the id of one that is deleted does not come back.
    pub(super) sweeps_made: i64,
    pub(super) sweeps: BTreeMap<SweepKey, SweepRow>,
    pub(super) trials: BTreeMap<TrialKey, Trial>,
    /// The trials by id and sweep: each is there once.
    pub(super) by_id: BTreeMap<(SpecHash, SweepKey), TrialKey>,
    pub(super) workers: BTreeMap<WorkerKey, WorkerLine>,
    pub(super) faults: BTreeMap<(String, WorkKind), Fault>,
    pub(super) attempts: BTreeMap<AttemptToken, Attempt>,
    pub(super) validation: BTreeMap<EvaluationKey, Evaluation>,
    pub(super) held_out: BTreeMap<EvaluationKey, Evaluation>,
    pub(super) losses: BTreeMap<(AttemptToken, u64), TrainingLoss>,
    /// By attempt, and by the names of kind and method, as the databases sort them.
    pub(super) artifacts: BTreeMap<(AttemptToken, &'static str, &'static str, u64), Artifact>,
    pub(super) logs: BTreeMap<(AttemptToken, u64), Vec<u8>>,
    pub(super) events: Vec<(TrialKey, TrialEvent)>,
    pub(super) tokens: Vec<AccessToken>,
    pub(super) audit: Vec<AuditEntry>,
    pub(super) pins: BTreeMap<Input, Pins>,
    /// Of combinations, in order.
    pub(super) members: BTreeMap<TrialKey, Vec<TrialKey>>,
}

#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) sweep: SweepKey,
    pub(super) spec_hash: SpecHash,
    pub(super) position: i64,
    pub(super) point: Point,
    pub(super) state: State,
    pub(super) forgiven: Option<AttemptToken>,
    pub(super) reused: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) trial: TrialKey,
    pub(super) worker: WorkerKey,
    pub(super) started: Timestamp,
    pub(super) progress: Progress,
    pub(super) fingerprint: Fingerprint,
    pub(super) resumed: Option<Resumed>,
    pub(super) methods: Methods,
}

#[cfg(test)]
impl Memory {
    /// A copy of its own, as a disk has one.
    pub(in crate::store) async fn copy(&self) -> Self {
        Self {
            tables: Arc::new(Mutex::new(self.tables.lock().await.clone())),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Forgets everything that the other one does not know.
    pub(in crate::store) async fn fall_back_to(&self, other: &Self) {
        let tables = other.tables.lock().await.clone();
        *self.tables.lock().await = tables;
    }
}

/// A transaction holds the whole database. It is checked as a whole before anything changes, so there is nothing to roll back.
pub(super) struct MemoryTransaction {
    pub(super) tables: OwnedMutexGuard<Tables>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) fn lock_failed(statement: &'static str) -> StoreError {
    StoreError::OptimisticLock { statement, rows: 0, expected: 1 }
}

pub(super) fn missing(table: &'static str) -> StoreError {
    StoreError::Corrupt { table, column: "id", reason: "no such row".to_owned() }
}

impl Tables {
    pub(super) fn in_sweep(&self, sweep: SweepKey) -> impl Iterator<Item = (TrialKey, &Trial)> {
        let mut trials: Vec<(TrialKey, &Trial)> = self
            .trials
            .iter()
            .filter(|(_, trial)| trial.sweep == sweep)
            .map(|(id, trial)| (*id, trial))
            .collect();
        trials.sort_by_key(|(_, trial)| trial.position);
        trials.into_iter()
    }

    pub(super) fn queued(&self, sweep: SweepKey, now: Timestamp) -> impl Iterator<Item = (TrialKey, &Trial)> {
        self.in_sweep(sweep).filter(
            move |(_, trial)| matches!(trial.state, State::Queued { not_before, .. } if not_before.is_none_or(|earliest| earliest <= now)),
        )
    }

    pub(super) fn count(&self, sweep: SweepKey, state: StateName) -> u64 {
        self.in_sweep(sweep).filter(|(_, trial)| trial.state.name() == state).count() as u64
    }

    /// The trial as it was named first, in whichever sweep: its numbers are written as they were there.
    pub(super) fn first_of(&self, spec_hash: SpecHash) -> Option<&Trial> {
        let all = self.by_id.range((spec_hash, SweepKey(i64::MIN))..=(spec_hash, SweepKey(i64::MAX)));
        self.trials.get(all.map(|(_, id)| id).min()?)
    }

    pub(super) fn existing_result(
        &self,
        spec_hash: SpecHash,
        sweep: SweepKey,
        needs: Needs,
    ) -> Option<AttemptToken> {
        let enough = |token: &AttemptToken| !self.lacks(*token, needs).any();
        let same = self
            .by_id
            .range((spec_hash, SweepKey(0))..)
            .take_while(|((same, _), _)| *same == spec_hash)
            .filter(|((_, other), _)| *other != sweep && !self.is_deleted(*other));
        let trials = same.filter_map(|(_, id)| self.trials.get(id));
        // Any would do; the newest, as in the databases.
        trials
            .filter(|trial| trial.state.name() == StateName::Succeeded)
            .filter_map(|trial| trial.state.token())
            .filter(enough)
            .max()
    }

    /// What an attempt should have left and evaluated, and did not.
    pub(super) fn lacks(&self, token: AttemptToken, needs: Needs) -> Lacks {
        let made = self.attempts.get(&token).map(|attempt| attempt.methods).unwrap_or_default();
        needs.lacks(LeftFiles::of(self.artifacts_of(token)), made)
    }

    /// Trials whose results lack files, here or in other sweeps.
    pub(super) fn lacking(&self, asked: FilesQuestion<'_>) -> Vec<LackingTrial> {
        let FilesQuestion { sweep, trials, needs, elsewhere } = asked;
        let sweep = sweep.unwrap_or(SweepKey(0));
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for spec_hash in trials {
            let own = self.by_id.get(&(*spec_hash, sweep)).and_then(|id| Some((*id, self.trials.get(id)?)));
            match own {
                Some((id, trial)) if trial.state.name() == StateName::Succeeded => {
                    let Some(token) = trial.state.token() else { continue };
                    let lacks = self.lacks(token, needs);
                    if lacks.any() {
                        here.push((trial.position, LackingTrial { own: Some((id, token)), lacks }));
                    }
                }
                Some((_, trial)) if trial.state.name() != StateName::Queued => {}
                _ if elsewhere && self.existing_result(*spec_hash, sweep, needs).is_none() => {
                    let newest = self.existing_result(*spec_hash, sweep, Needs::default());
                    there.extend(
                        newest.map(|token| LackingTrial { own: None, lacks: self.lacks(token, needs) }),
                    );
                }
                _ => {}
            }
        }
        here.sort_by_key(|(position, _)| *position);
        here.into_iter().map(|(_, found)| found).chain(there).collect()
    }

    pub(super) fn is_deleted(&self, sweep: SweepKey) -> bool {
        self.sweeps.get(&sweep).is_none_or(|row| row.state == StoredSweepState::Deleted)
    }

    /// The sweep of this name.
    pub(super) fn named(&self, name: &str) -> Option<&SweepRow> {
        self.sweeps.values().find(|row| row.spec.name == name && row.state != StoredSweepState::Deleted)
    }

    /// What an attempt printed, with the numbers of the batches.
    pub(super) fn log_of(&self, token: AttemptToken) -> impl Iterator<Item = (u64, &Vec<u8>)> {
        let of_attempt = self.logs.range((token, 0)..=(token, u64::MAX));
        of_attempt.map(|((_, sequence), text)| (*sequence, text))
    }

    pub(super) fn attempts_of(
        &self,
        trial: TrialKey,
    ) -> impl DoubleEndedIterator<Item = (&AttemptToken, &Attempt)> {
        self.attempts.iter().filter(move |(_, attempt)| attempt.trial == trial)
    }

    pub(super) fn place(&self, worker: WorkerKey) -> String {
        self.workers
            .get(&worker)
            .map(|line| format!("{}:{}", line.worker.host, line.worker.pid))
            .unwrap_or_default()
    }

    pub(super) fn name(&self, sweep: SweepKey) -> String {
        self.sweeps.get(&sweep).map(|row| row.spec.name.clone()).unwrap_or_default()
    }

    pub(super) fn line(&self, id: TrialKey, trial: &Trial) -> TrialLine {
        let reused = trial
            .state
            .token()
            .filter(|_| trial.reused)
            .and_then(|token| self.attempts.get_key_value(&token));
        let newest = reused.or_else(|| self.attempts_of(id).next_back());
        let origin = reused.map(|(_, attempt)| attempt.trial);
        let attempts =
            self.attempts_of(id).count() + origin.map_or(0, |origin| self.attempts_of(origin).count());
        let failed =
            self.attempts_of(id).rev().find(|(_, attempt)| attempt.progress.state == AttemptState::Failed);
        let class = |progress: &Progress| progress.class.map_or("", ErrorClass::as_str);
        let message = |progress: &Progress| progress.message.clone().unwrap_or_default();
        TrialLine {
            spec_hash: trial.spec_hash,
            point: trial.point.clone(),
            state: trial.state.name(),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            step: newest.map_or(0, |(_, attempt)| attempt.progress.step),
            worker: newest.map(|(_, attempt)| self.place(attempt.worker)).unwrap_or_default(),
            error: failed
                .map(|(_, attempt)| format!("{}: {}", class(&attempt.progress), message(&attempt.progress)))
                // A combination can fail without an attempt.
                .or_else(|| {
                    self.events
                        .iter()
                        .rev()
                        .find(|(of, event)| *of == id && event.what == "failed")
                        .map(|(_, event)| event.detail.clone())
                })
                .unwrap_or_default(),
            reused_from: origin
                .and_then(|origin| self.trials.get(&origin))
                .map(|origin| self.name(origin.sweep)),
        }
    }

    pub(super) fn evaluations(
        table: &BTreeMap<EvaluationKey, Evaluation>,
        token: Option<AttemptToken>,
    ) -> Vec<Evaluation> {
        let mut rows: Vec<Evaluation> = table
            .iter()
            .filter(|(key, _)| Some(key.0) == token)
            .map(|(_, evaluation)| evaluation.clone())
            .collect();
        // In the order of the databases, which compare names.
        rows.sort_by(|a, b| {
            let key =
                |row: &Evaluation| (row.method.as_str(), row.step, row.domain.clone(), row.split.as_str());
            key(a).cmp(&key(b))
        });
        rows
    }

    pub(super) fn artifacts_of(&self, token: AttemptToken) -> impl Iterator<Item = &Artifact> {
        self.artifacts.iter().filter(move |((of, ..), _)| *of == token).map(|(_, artifact)| artifact)
    }

    /// The machines whose own disks have what these trials go on from: checkpoints of attempts that ended since then, or the results of the
    /// most of their members.
    pub(super) fn kept_on(&self, trials: &[TrialKey], since: Timestamp) -> Vec<(TrialKey, String)> {
        let mut found = BTreeSet::new();
        for trial in trials {
            for (token, _) in self.checkpoints_of(*trial) {
                let Some(attempt) = self.attempts.get(&token) else { continue };
                let Some(line) = self.workers.get(&attempt.worker) else { continue };
                let is_recent = attempt.progress.ended.is_some_and(|ended| ended >= since);
                if is_recent && line.worker.checkpoints == Some(ArtifactLocation::Local) {
                    found.insert((*trial, line.worker.machine.clone()));
                }
            }
            let (mut held, mut latest): (BTreeMap<&str, usize>, Option<Timestamp>) = (BTreeMap::new(), None);
            let members = self.members.get(trial).map(Vec::as_slice).unwrap_or_default();
            for member in members.iter().filter_map(|member| self.trials.get(member)) {
                let attempt = member.state.accepted().and_then(|token| self.attempts.get(&token));
                let line = attempt.and_then(|attempt| self.workers.get(&attempt.worker));
                if let Some(line) =
                    line.filter(|line| line.worker.checkpoints == Some(ArtifactLocation::Local))
                {
                    *held.entry(&line.worker.machine).or_default() += 1;
                    latest = latest.max(attempt.and_then(|attempt| attempt.progress.ended));
                }
            }
            let most = held.values().max().copied().filter(|_| latest.is_some_and(|latest| latest >= since));
            let of_most = held.into_iter().filter(|(_, held)| Some(*held) == most);
            found.extend(of_most.map(|(machine, _)| (*trial, machine.to_owned())));
        }
        found.into_iter().collect()
    }

    /// Checkpoints that attempts at a trial kept, the newest step first.
    pub(super) fn checkpoints_of(&self, trial: TrialKey) -> Vec<(AttemptToken, &Artifact)> {
        let attempts = self
            .attempts_of(trial)
            .flat_map(|(token, _)| self.artifacts_of(*token).map(|artifact| (*token, artifact)));
        let kept = attempts
            .filter(|(_, artifact)| artifact.kind == ArtifactKind::Checkpoint && !artifact.key.is_empty());
        let mut kept: Vec<(AttemptToken, &Artifact)> = kept.collect();
        kept.sort_by_key(|(token, artifact)| std::cmp::Reverse((artifact.step, *token)));
        kept
    }

    /// Evaluations of one attempt that differ from another's: the first step, and how many.
    pub(super) fn differences(&self, late: AttemptToken, early: AttemptToken) -> Option<(u64, u64)> {
        let differ = |table: &BTreeMap<EvaluationKey, Evaluation>| -> Vec<u64> {
            let reported = table.iter().filter(|(key, _)| key.0 == late);
            let differing = reported.filter(|(key, row)| {
                let same_thing = (early, key.1, key.2, key.3.clone(), key.4);
                // Not the named numbers: programs measure times, too.
                table.get(&same_thing).is_some_and(|other| (other.score, other.loss) != (row.score, row.loss))
            });
            differing.map(|(key, _)| key.2).collect()
        };
        let steps = [differ(&self.validation), differ(&self.held_out)].concat();
        Some((*steps.iter().min()?, steps.len() as u64))
    }

    /// The machine of an attempt's worker.
    pub(super) fn machine_of(&self, attempt: &Attempt) -> Result<String, StoreError> {
        let worker = self.workers.get(&attempt.worker).ok_or_else(|| missing("workers"))?;
        Ok(worker.worker.machine.clone())
    }

    /// What is held against a machine.
    pub(super) fn faults_of(&self, machine: &str) -> impl Iterator<Item = &Fault> {
        self.faults.values().filter(move |fault| fault.machine == machine)
    }

    /// Everything that a write refers to is as it was read.
    pub(super) fn check(&self, changes: &Changes) -> Result<(), StoreError> {
        for (id, moved) in &changes.moves {
            let trial = self.trials.get(id).ok_or_else(|| lock_failed("move of trials"))?;
            if trial.state.name() != moved.from.name() || trial.state.token() != moved.from.token() {
                return Err(lock_failed("move of trials"));
            }
        }
        for new in &changes.new_attempts {
            if self.attempts.contains_key(&new.token) {
                return Err(lock_failed("insert of attempts"));
            }
        }
        for (token, (before, _)) in &changes.progress {
            let attempt = self.attempts.get(token).ok_or_else(|| lock_failed("advance of attempts"))?;
            if attempt.progress.state != before.state || attempt.progress.sequence != before.sequence {
                return Err(lock_failed("advance of attempts"));
            }
        }
        for (input, (before, _)) in &changes.pins {
            if self.pins.get(input).cloned().unwrap_or_default() != *before {
                return Err(lock_failed("change of pins"));
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, changes: &Changes) {
        for (id, moved) in &changes.moves {
            let own: Vec<AttemptToken> = self.attempts_of(*id).map(|(token, _)| *token).collect();
            let newest = own.last().copied();
            if let Some(trial) = self.trials.get_mut(id) {
                trial.state = moved.to;
                trial.reused =
                    matches!(moved.to, State::Finished(Finished::Succeeded(token)) if !own.contains(&token));
                trial.forgiven = if moved.forgive { newest } else { trial.forgiven };
            }
        }
        for new in &changes.new_attempts {
            let progress = Progress::BEGUN;
            let (trial, worker, started) = (new.trial, new.worker, new.started);
            self.attempts.insert(
                new.token,
                Attempt {
                    trial,
                    worker,
                    started,
                    progress,
                    fingerprint: Fingerprint::default(),
                    resumed: None,
                    methods: new.methods,
                },
            );
        }
        for (token, (_, after)) in &changes.progress {
            self.attempts.entry(*token).and_modify(|attempt| attempt.progress = after.clone());
        }
        for (token, fingerprint) in &changes.fingerprints {
            self.attempts.entry(*token).and_modify(|attempt| attempt.fingerprint = fingerprint.clone());
        }
        for (table, rows) in
            [(&mut self.validation, &changes.validation), (&mut self.held_out, &changes.held_out)]
        {
            for (token, row) in rows {
                table
                    .entry((*token, row.method, row.step, row.domain.clone(), row.split))
                    .or_insert_with(|| row.clone());
            }
        }
        for (token, loss) in &changes.losses {
            self.losses.entry((*token, loss.step)).or_insert(*loss);
        }
        for (token, artifact) in &changes.artifacts {
            let key = (*token, artifact.kind.as_str(), artifact.method.as_str(), artifact.step);
            self.artifacts.entry(key).or_insert_with(|| artifact.clone());
        }
        for (token, resumed) in &changes.resumed {
            self.attempts.entry(*token).and_modify(|attempt| attempt.resumed = Some(*resumed));
        }
        for (token, sequence, text) in &changes.logs {
            self.logs.entry((*token, *sequence)).or_insert_with(|| text.clone());
        }
        for (token, after, last) in &changes.left_out {
            self.logs.retain(|(own, sequence), _| own != token || sequence <= after || sequence > last);
        }
        self.events.extend(changes.events.iter().cloned());
        for (input, (_, after)) in &changes.pins {
            self.pins.insert(input.clone(), after.clone());
        }
        self.apply_to_workers(changes);
    }

    pub(super) fn apply_to_workers(&mut self, changes: &Changes) {
        for (of, fault) in &changes.faults {
            match fault {
                Some(fault) => drop(self.faults.insert(of.clone(), fault.clone())),
                None => drop(self.faults.remove(of)),
            }
        }
        for line in self.workers.values_mut() {
            let name = (line.worker.id.clone(), line.worker.secret);
            if let Some(at) = changes.seen.get(&name) {
                line.seen = *at;
            }
            line.left |= changes.left.contains_key(&name);
        }
    }
}
