//! Reading and writing, as the writer does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sortie_core::artifact::{ArtifactKind, CheckpointRef};
use sortie_core::combine::Member;
use sortie_core::job::{Blame, ErrorClass, Finished, State, StateName, Timestamp, WAIT_MAX};
use sortie_core::keep::Needs;
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey, WorkerKey};
use sortie_core::machine::{Fault, QUARANTINE};
use sortie_core::parameters::{set_written, written_numbers};
use sortie_core::record::Fingerprint;
use sortie_core::trial::SpecHash;

use super::tables::{Attempt, MemoryTransaction, Tables, Trial, lock_failed, missing};
use crate::store::StoreError;
use crate::store::backend::{
    AttemptRow, AttemptState, Attempts, Changes, Contradiction, FilesQuestion, LackingTrial, NewTrial,
    Release, StoredSweepState, Transaction, TrialRow, Trials, WaitingCombination, WaitingTrial, WorkerRow,
    Workers, given,
};
use crate::store::types::{ArtifactLocation, Worker, WorkerLine};

#[tonic::async_trait]
impl Trials for MemoryTransaction {
    async fn waiting(
        &mut self,
        sweep: SweepKey,
        count_max: u64,
        now: Timestamp,
        needs: Needs,
    ) -> Result<Vec<WaitingTrial>, StoreError> {
        let tables = &self.tables;
        let waiting = |(id, trial): (TrialKey, &Trial)| {
            let needs = if tables.members.get(&id).is_some_and(|members| !members.is_empty()) {
                Needs::default()
            } else {
                needs
            };
            let existing = tables.existing_result(trial.spec_hash, trial.sweep, needs);
            let attempts = u32::try_from(tables.attempts_of(id).count()).unwrap_or(u32::MAX);
            let first = tables.attempts_of(id).map(|(token, _)| *token).min();
            WaitingTrial {
                id,
                spec_hash: trial.spec_hash,
                point: trial.point.clone(),
                state: trial.state,
                existing,
                attempts,
                first,
            }
        };
        Ok(tables
            .queued(sweep, now)
            .take(usize::try_from(count_max).unwrap_or(usize::MAX))
            .map(waiting)
            .collect())
    }

    async fn members(&mut self, trials: &[TrialKey]) -> Result<Vec<(TrialKey, Member)>, StoreError> {
        let tables = &self.tables;
        let mut found = Vec::new();
        for id in trials {
            for member in tables.members.get(id).into_iter().flatten().filter_map(|id| tables.trials.get(id))
            {
                let token = member.state.accepted();
                let worker = token
                    .and_then(|token| tables.workers.get(&tables.attempts.get(&token)?.worker))
                    .map(|line| &line.worker);
                let host = worker
                    .filter(|worker| worker.checkpoints == Some(ArtifactLocation::Local))
                    .map(|worker| worker.host.clone());
                let files = token.into_iter().flat_map(|token| tables.artifacts_of(token));
                let is_final = |kind| matches!(kind, ArtifactKind::FinalWeights | ArtifactKind::FinalLogits);
                let files =
                    files.filter(|file| is_final(file.kind) && !file.key.is_empty()).cloned().collect();
                found.push((
                    *id,
                    Member { spec_hash: member.spec_hash, files, host: host.unwrap_or_default() },
                ));
            }
        }
        Ok(found)
    }

    async fn lost_members(&mut self, trials: &[TrialKey]) -> Result<Vec<TrialRow>, StoreError> {
        let tables = &self.tables;
        let is_lost = |state| matches!(state, StateName::Diverged | StateName::Failed | StateName::Cancelled);
        let members: BTreeSet<TrialKey> =
            trials.iter().filter_map(|id| tables.members.get(id)).flatten().copied().collect();
        let rows = members.into_iter().filter_map(|id| Some((id, tables.trials.get(&id)?)));
        let lost = rows.filter(|(_, trial)| is_lost(trial.state.name()));
        Ok(lost.map(|(id, trial)| trial_row(id, trial)).collect())
    }

    async fn combinations(&mut self, count_max: u64) -> Result<Vec<WaitingCombination>, StoreError> {
        let tables = &self.tables;
        let mut found = Vec::new();
        let is_cancelled = |sweep: &SweepKey| {
            tables.sweeps.get(sweep).is_some_and(|row| row.state == StoredSweepState::Cancelled)
        };
        let waits = |trial: &Trial| trial.state == State::Blocked && !is_cancelled(&trial.sweep);
        let mut blocked: Vec<(&TrialKey, &Trial)> =
            tables.trials.iter().filter(|(_, trial)| waits(trial)).collect();
        blocked.sort_by_key(|(id, trial)| (trial.sweep, **id));
        for (id, _) in blocked {
            let members: Vec<&Trial> =
                tables.members.get(id).into_iter().flatten().filter_map(|id| tables.trials.get(id)).collect();
            let count = |state: &dyn Fn(StateName) -> bool| {
                members.iter().filter(|trial| state(trial.state.name())).count() as u64
            };
            let succeeded = count(&|state| state == StateName::Succeeded);
            let is_lost =
                |state| matches!(state, StateName::Diverged | StateName::Failed | StateName::Cancelled);
            let lost = count(&is_lost);
            let losers = members.iter().filter(|trial| is_lost(trial.state.name()));
            let loser = losers
                .map(|trial| format!("{} {}", trial.spec_hash.short(), trial.state.name()))
                .min()
                .unwrap_or_default();
            let members = members.len() as u64;
            if succeeded == members || lost > 0 {
                found.push(WaitingCombination { id: *id, members, succeeded, lost, loser });
            }
        }
        found.truncate(usize::try_from(count_max).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn insert_trials(
        &mut self,
        sweep: SweepKey,
        trials: &[NewTrial],
        reuse: Option<Needs>,
    ) -> Result<(u64, u64), StoreError> {
        let (mut added, mut reused) = (0, 0);
        for NewTrial { spec_hash, position, point, members } in trials {
            if self.tables.by_id.contains_key(&(*spec_hash, sweep)) {
                continue;
            }
            let needs = reuse.map(|needs| if members.is_empty() { needs } else { Needs::default() });
            let existing = needs.and_then(|needs| self.tables.existing_result(*spec_hash, sweep, needs));
            let fresh = if members.is_empty() { State::FRESH } else { State::Blocked };
            let state = existing.map_or(fresh, |token| State::Finished(Finished::Succeeded(token)));
            let id = TrialKey(self.tables.trials.keys().next_back().map_or(1, |last| last.0 + 1));
            let mut point = point.clone();
            if let Some(first) = self.tables.first_of(*spec_hash) {
                set_written(&mut point.parameters, &written_numbers(&first.point.parameters));
            }
            let (position, reused_here) = (*position, existing.is_some());
            let trial = Trial {
                sweep,
                spec_hash: *spec_hash,
                position,
                point,
                state,
                forgiven: None,
                reused: reused_here,
            };
            self.tables.trials.insert(id, trial);
            self.tables.by_id.insert((*spec_hash, sweep), id);
            let stored: Option<Vec<TrialKey>> =
                members.iter().map(|member| self.tables.by_id.get(&(*member, sweep)).copied()).collect();
            self.tables.members.insert(id, stored.ok_or_else(|| lock_failed("insert of members"))?);
            added += 1;
            reused += u64::from(reused_here);
        }
        Ok((added, reused))
    }

    async fn lacking(&mut self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        Ok(self.tables.lacking(asked))
    }

    async fn trial_rows(
        &mut self,
        sweep: SweepKey,
        from: i64,
        count_max: u64,
    ) -> Result<Vec<TrialRow>, StoreError> {
        let rows = self.tables.in_sweep(sweep).filter(|(_, trial)| trial.position >= from);
        let rows = rows.take(usize::try_from(count_max).unwrap_or(usize::MAX));
        Ok(rows.map(|(id, trial)| trial_row(id, trial)).collect())
    }

    async fn trials_named(
        &mut self,
        sweep: SweepKey,
        trials: &[SpecHash],
    ) -> Result<Vec<TrialRow>, StoreError> {
        let rows = self.tables.in_sweep(sweep).filter(|(_, trial)| trials.contains(&trial.spec_hash));
        Ok(rows.map(|(id, trial)| trial_row(id, trial)).collect())
    }
}

fn trial_row(id: TrialKey, trial: &Trial) -> TrialRow {
    TrialRow { id, position: trial.position, point: trial.point.clone(), state: trial.state }
}

#[tonic::async_trait]
impl Attempts for MemoryTransaction {
    async fn renew_leases(&mut self, now: Timestamp, lease: Duration) -> Result<u64, StoreError> {
        let mut renewed = 0;
        for trial in self.tables.trials.values_mut() {
            match &mut trial.state {
                State::Running { expires_at, .. } => {
                    let until = now.plus(lease);
                    if *expires_at < until || *expires_at > until.plus(lease) {
                        *expires_at = until;
                        renewed += 1;
                    }
                }
                State::Queued { not_before: Some(earliest), .. } => {
                    *earliest = (*earliest).min(now.plus(WAIT_MAX));
                }
                State::Blocked | State::Queued { .. } | State::Finished(_) => {}
            }
        }
        for line in self.tables.workers.values_mut() {
            line.seen = line.seen.min(now);
        }
        for until in self.tables.faults.values_mut().filter_map(|fault| fault.until.as_mut()) {
            *until = (*until).min(now.plus(QUARANTINE));
        }
        Ok(renewed)
    }

    async fn attempts(&mut self, tokens: &[AttemptToken]) -> Result<Vec<AttemptRow>, StoreError> {
        let tables = &self.tables;
        let mut rows = Vec::new();
        for token in tokens {
            let Some(attempt) = tables.attempts.get(token) else { continue };
            let trial = tables.trials.get(&attempt.trial).ok_or_else(|| missing("trials"))?;
            if tables.is_deleted(trial.sweep) {
                continue;
            }
            let machine = tables.machine_of(attempt)?;
            let suspect = tables.faults_of(&machine).next().is_some();
            rows.push(AttemptRow {
                token: *token,
                secret: tables
                    .workers
                    .get(&attempt.worker)
                    .map(|line| line.worker.secret)
                    .unwrap_or_default(),
                machine,
                suspect,
                trial: attempt.trial,
                sweep: trial.sweep,
                held_out: trial.point.held_out_label(),
                parameters: trial.point.parameters.clone(),
                state: trial.state,
                progress: attempt.progress.clone(),
                dataset_digest: given(&attempt.fingerprint.dataset_digest).map(str::to_owned),
                weights_digest: given(&attempt.fingerprint.weights_digest).map(str::to_owned),
                repeated: tables.attempts_of(attempt.trial).any(|(other, _)| *other < *token),
            });
        }
        Ok(rows)
    }

    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<AttemptToken>, StoreError> {
        let expired = |trial: &Trial| match trial.state {
            State::Running { token, expires_at, .. } if expires_at <= now => Some(token),
            _ => None,
        };
        Ok(self
            .tables
            .trials
            .values()
            .filter_map(expired)
            .take(usize::try_from(count_max).unwrap_or(usize::MAX))
            .collect())
    }

    async fn failed_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        let mut found = BTreeSet::new();
        for id in trials {
            let trial = self.tables.trials.get(id).ok_or_else(|| missing("trials"))?;
            for (token, attempt) in self.tables.attempts_of(*id) {
                let counts = attempt.progress.state == AttemptState::Failed
                    && attempt.progress.class.is_some_and(|class| class.blame() != Blame::Nobody)
                    && attempt.progress.ended.is_some_and(|ended| ended >= since)
                    && trial.forgiven.is_none_or(|forgiven| *token > forgiven);
                if counts {
                    found.insert((*id, self.tables.machine_of(attempt)?));
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    async fn kept_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        Ok(self.tables.kept_on(trials, since))
    }

    async fn failures(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, ErrorClass, u32)>, StoreError> {
        let mut counts: BTreeMap<(TrialKey, &'static str), (ErrorClass, u32)> = BTreeMap::new();
        for id in trials {
            let trial = self.tables.trials.get(id).ok_or_else(|| missing("trials"))?;
            for (token, attempt) in self.tables.attempts_of(*id) {
                if let (AttemptState::Failed, Some(class)) = (attempt.progress.state, attempt.progress.class)
                    && trial.forgiven.is_none_or(|forgiven| *token > forgiven)
                {
                    counts.entry((*id, class.as_str())).or_insert((class, 0)).1 += 1;
                }
            }
        }
        Ok(counts.into_iter().map(|((id, _), (class, count))| (id, class, count)).collect())
    }

    async fn checkpoints(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, CheckpointRef)>, StoreError> {
        let mut found = Vec::new();
        for trial in trials {
            found.extend(self.tables.checkpoints_of(*trial).into_iter().map(|(token, artifact)| {
                let (step, key, digest) = (artifact.step, artifact.key.clone(), artifact.digest.clone());
                (*trial, CheckpointRef { token, step, key, digest })
            }));
        }
        Ok(found)
    }

    async fn contradictions(&mut self, tokens: &[AttemptToken]) -> Result<Vec<Contradiction>, StoreError> {
        let tables = &self.tables;
        let mut found = Vec::new();
        for token in tokens {
            let Some(late) = tables.attempts.get(token) else { continue };
            let place = |attempt: &Attempt| {
                let Fingerprint { device, threads, libtorch, dataset_digest, weights_digest, .. } =
                    attempt.fingerprint.clone();
                let host = tables.workers.get(&attempt.worker).map(|line| line.worker.host.clone());
                (host, device, threads, libtorch, dataset_digest, weights_digest)
            };
            let earlier = tables.attempts_of(late.trial).filter(|(earlier, _)| *earlier < token);
            for (earlier_number, (earlier, early)) in (1..).zip(earlier) {
                // From which step on memory forced parts decides rounding, and is not known.
                let whole = [early, late].iter().all(|attempt| attempt.fingerprint.micro_batch.is_none());
                if whole
                    && place(early) == place(late)
                    && let Some((step, rows)) = tables.differences(*token, *earlier)
                {
                    found.push(Contradiction {
                        trial: late.trial,
                        token: *token,
                        earlier: *earlier,
                        earlier_number,
                        step,
                        rows,
                    });
                }
            }
        }
        Ok(found)
    }
}

fn worker_row(tables: &Tables, id: WorkerKey, line: &WorkerLine) -> WorkerRow {
    let Worker { id: name, secret, machine, abilities, .. } = line.worker.clone();
    let suspect = tables.faults_of(&machine).next().is_some();
    WorkerRow { id, name, secret, abilities, seen: line.seen, machine, suspect }
}

#[tonic::async_trait]
impl Workers for MemoryTransaction {
    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError> {
        if let Some(line) = self.tables.workers.values_mut().find(|line| line.worker.id == worker.id) {
            if line.worker.secret != worker.secret {
                return Err(StoreError::OtherWorker(worker.id.clone()));
            }
            (line.seen, line.left, line.worker.checkpoints) = (now, false, worker.checkpoints);
            return Ok(());
        }
        let id = WorkerKey(self.tables.workers.len() as i64 + 1);
        let line = WorkerLine {
            worker: worker.clone(),
            seen: now,
            read_at: now,
            left: false,
            faults: Vec::new(),
            trials: Vec::new(),
        };
        self.tables.workers.insert(id, line);
        Ok(())
    }

    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError> {
        let tables = &self.tables;
        let named = tables.workers.iter().filter(|(_, line)| names.contains(&line.worker.id.as_str()));
        Ok(named.map(|(id, line)| worker_row(tables, *id, line)).collect())
    }

    async fn live_workers(&mut self, since: Timestamp) -> Result<Vec<WorkerRow>, StoreError> {
        let tables = &self.tables;
        let live = tables.workers.iter().filter(|(_, line)| line.seen >= since && !line.left);
        Ok(live.map(|(id, line)| worker_row(tables, *id, line)).collect())
    }

    async fn faults(&mut self) -> Result<Vec<Fault>, StoreError> {
        Ok(self.tables.faults.values().cloned().collect())
    }

    async fn release(&mut self, whose: &Release, now: Timestamp) -> Result<u64, StoreError> {
        let meant = |fault: &Fault| match whose {
            Release::Machine(machine) => fault.machine == *machine,
            Release::Kind(kind) => fault.kind == *kind,
        };
        let mut released = 0;
        for fault in self.tables.faults.values_mut().filter(|fault| meant(fault)) {
            if fault.until.is_some_and(|until| until > now) {
                fault.until = Some(now);
                released += 1;
            }
        }
        Ok(released)
    }
}

#[tonic::async_trait]
impl Transaction for MemoryTransaction {
    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        Ok(self.clock.now())
    }

    async fn new_epoch(&mut self, _: Timestamp) -> Result<i64, StoreError> {
        self.tables.epoch += 1;
        Ok(self.tables.epoch)
    }

    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        self.tables.check(changes)?;
        self.tables.apply(changes);
        Ok(())
    }

    async fn commit(self: Box<Self>, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) {}
}
