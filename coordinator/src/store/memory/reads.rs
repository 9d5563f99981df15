//! Questions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sortie_core::artifact::ArtifactKind;
use sortie_core::code::Code;
use sortie_core::inputs::{Input, InputKind, Pins};
use sortie_core::job::{StateName, Timestamp};
use sortie_core::keys::{AttemptToken, Incarnation, SweepKey, TrialKey};
use sortie_core::machine::Fault;
use sortie_core::record::{Detail, TrialRecord};

use super::tables::{Memory, MemoryTransaction, Tables, Trial, missing};
use crate::store::StoreError;
use crate::store::backend::{
    Backend, FilesQuestion, LackingTrial, LogExtent, ReportedData, Sizes, StoredSweepState, SweepRow,
    Transaction, VERIFIES, sweep_counts, trial_history,
};
use crate::store::types::{
    LOG_PART_BATCHES, Log, Page, PageRequest, StoredArtifact, SweepContents, SweepStatus, TrialArtifacts,
    TrialHistory, TrialLine, WorkerLine,
};

/// Rows of one page.
const PAGE_ROWS: usize = 500;

#[tonic::async_trait]
impl Backend for Memory {
    async fn begin(&self, _: bool) -> Result<Box<dyn Transaction>, StoreError> {
        // Other tasks go on, as they do while a real database works.
        tokio::task::yield_now().await;
        let tables = Arc::clone(&self.tables).lock_owned().await;
        Ok(Box::new(MemoryTransaction { tables, clock: Arc::clone(&self.clock) }))
    }

    fn incarnation(&self) -> Incarnation {
        // No model is restored from another.
        Incarnation(1)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.clock.now())
    }

    fn clock_may_step(&self) -> bool {
        false
    }

    async fn status(&self, sweep: Option<&str>, archived: bool) -> Result<Vec<SweepStatus>, StoreError> {
        let now = self.clock.now();
        let tables = self.tables.lock().await;
        let mut all = Vec::new();
        let is_meant = |row: &&SweepRow| match sweep {
            _ if row.state == StoredSweepState::Deleted => false,
            Some(name) => name == row.spec.name,
            None => archived || !row.archived,
        };
        for row in tables.sweeps.values().filter(is_meant) {
            let mut status = SweepStatus {
                priority: row.priority,
                planned: row.planned,
                ..SweepStatus::empty(row.spec.name.clone(), row.shown_state())
            };
            let mut steps_running = 0;
            for (_, trial) in tables.in_sweep(row.id) {
                sweep_counts::count_finished(&mut status, trial.state.name(), 1, trial.reused);
                let Some(attempt) = trial.state.token().and_then(|token| tables.attempts.get(&token)) else {
                    continue;
                };
                match trial.state.name() {
                    StateName::Running => {
                        steps_running += attempt.progress.step;
                        sweep_counts::note_preparation(&mut status, attempt.progress.preparation.as_ref());
                    }
                    StateName::Succeeded if !trial.reused => {
                        status.finished_attempts += 1;
                        let ended = attempt.progress.ended.unwrap_or(attempt.started);
                        status.running_ms +=
                            u64::try_from(ended.since(attempt.started).as_millis()).unwrap_or(u64::MAX);
                    }
                    _ => {}
                }
            }
            status.delayed = status.queued > 0 && tables.queued(row.id, now).next().is_none();
            sweep_counts::count_steps(&mut status, row, steps_running);
            sweep_counts::note_outdated(&mut status, row);
            all.push(status);
        }
        Ok(all)
    }

    async fn contents(&self, sweep: SweepKey) -> Result<SweepContents, StoreError> {
        let tables = self.tables.lock().await;
        let mut contents = SweepContents::default();
        let mut keys = BTreeSet::new();
        for (id, trial) in tables.in_sweep(sweep) {
            contents.trials += 1;
            let state = trial.state.name();
            contents.succeeded += u64::from(state == StateName::Succeeded);
            let cleared = matches!(state, StateName::Succeeded | StateName::Diverged);
            let files = tables.attempts_of(id).flat_map(|(token, _)| tables.artifacts_of(*token));
            for file in files
                .filter(|file| !(file.key.is_empty() || cleared && file.kind == ArtifactKind::Checkpoint))
            {
                keys.insert(file.key.as_str());
                contents.bytes += file.bytes;
            }
        }
        contents.files = keys.len() as u64;
        Ok(contents)
    }

    async fn lacking(&self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        Ok(self.tables.lock().await.lacking(asked))
    }

    async fn trials(
        &self,
        sweep: SweepKey,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError> {
        let tables = self.tables.lock().await;
        let fits =
            |trial: &Trial| trial.position >= from && state.is_none_or(|state| trial.state.name() == state);
        let page: Vec<(TrialKey, &Trial)> =
            tables.in_sweep(sweep).filter(|(_, trial)| fits(trial)).take(PAGE_ROWS).collect();
        let next = page.last().filter(|_| page.len() == PAGE_ROWS).map(|(_, trial)| trial.position + 1);
        Ok(Page { rows: page.into_iter().map(|(id, trial)| tables.line(id, trial)).collect(), next })
    }

    async fn records(&self, sweep: SweepKey, portion: PageRequest) -> Result<Page<TrialRecord>, StoreError> {
        let PageRequest { from, trials_max, detail } = portion;
        let tables = self.tables.lock().await;
        let page: Vec<(TrialKey, &Trial)> =
            tables.in_sweep(sweep).filter(|(_, trial)| trial.position >= from).take(trials_max).collect();
        let next = page.last().filter(|_| page.len() == trials_max).map(|(_, trial)| trial.position + 1);
        let record = |trial: &Trial| {
            let accepted = trial.state.accepted();
            let token = accepted.filter(|_| detail != Detail::Points);
            let reported = |table| {
                let mut rows = Tables::evaluations(table, token);
                rows.iter_mut().filter(|_| detail == Detail::Scores).for_each(|row| {
                    (row.loss, row.metrics, row.seconds) = (None, Default::default(), None);
                });
                rows
            };
            TrialRecord {
                id: trial.spec_hash,
                point: trial.point.clone(),
                state: accepted.map_or(trial.state.name(), |_| StateName::Succeeded),
                validation: reported(&tables.validation),
                held_out: reported(&tables.held_out),
            }
        };
        Ok(Page { rows: page.into_iter().map(|(_, trial)| record(trial)).collect(), next })
    }

    async fn find(
        &self,
        sweep: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        let tables = self.tables.lock().await;
        let in_sweep = |trial: &Trial| match (sweep, tables.sweeps.get(&trial.sweep)) {
            _ if tables.is_deleted(trial.sweep) => false,
            (Some(name), Some(row)) => row.spec.name == name,
            (wanted, _) => wanted.is_none(),
        };
        let named = |trial: &Trial| trial.spec_hash.to_string().starts_with(prefix) && in_sweep(trial);
        let verifies = |trial: &Trial| tables.name(trial.sweep).starts_with(VERIFIES);
        let mut found: Vec<(&TrialKey, &Trial)> =
            tables.trials.iter().filter(|(_, trial)| named(trial)).collect();
        found.sort_by_key(|(_, trial)| (verifies(trial), trial.spec_hash.to_string(), trial.sweep));
        let name = |trial: &Trial| format!("{}/{}", tables.name(trial.sweep), trial.spec_hash.short());
        Ok(found.into_iter().take(count_max).map(|(id, trial)| (*id, name(trial))).collect())
    }

    async fn history(&self, trial: TrialKey) -> Result<TrialHistory, StoreError> {
        let tables = self.tables.lock().await;
        let row = tables.trials.get(&trial).ok_or_else(|| missing("trials"))?;
        let (mut attempts, combines) = (Vec::new(), tables.members.get(&trial));
        for (token, attempt) in tables.attempts_of(trial) {
            let progress = attempt.progress.clone();
            attempts.push(trial_history::Attempt {
                token: *token,
                started_ms: attempt.started.0,
                ended_ms: progress.ended.map(|time| time.0),
                state: progress.state,
                class: progress.class,
                message: progress.message,
                step: progress.step,
                preparation: progress.preparation,
                device: Some(attempt.fingerprint.device.clone()).filter(|device| !device.is_empty()),
                code: attempt.fingerprint.code.as_deref().map(Code::line),
                worker: tables.place(attempt.worker),
                resumed: attempt.resumed,
                trains: !attempt.fingerprint.libtorch.is_empty() && combines.is_none_or(Vec::is_empty),
            });
        }
        let mut events = trial_history::events_of(attempts);
        events.extend(tables.events.iter().filter(|(id, _)| *id == trial).map(|(_, event)| event.clone()));
        events.sort_by_key(|event| event.at_ms);
        let (not_before, read_at) = (row.state.not_before(), self.clock.now());
        let members = tables.members.get(&trial).into_iter().flatten().filter_map(|id| tables.trials.get(id));
        let members =
            members.map(|member| format!("{} {}", member.spec_hash.short(), member.state.name())).collect();
        let (sweep, line, token) = (tables.name(row.sweep), tables.line(trial, row), row.state.token());
        Ok(TrialHistory { sweep, line, token, not_before, read_at, members, events })
    }

    async fn log(&self, trial: TrialKey, token: Option<AttemptToken>) -> Result<Log, StoreError> {
        let tables = self.tables.lock().await;
        let chosen =
            tables.attempts_of(trial).rev().find(|(found, _)| token.is_none_or(|token| token == **found));
        match (chosen, token) {
            (Some((token, attempt)), _) => {
                let kept: usize = tables.log_of(*token).map(|(_, text)| text.len()).sum();
                let LogExtent { bytes, cut } = attempt.progress.log;
                let worker = tables.place(attempt.worker);
                Ok(Log { token: Some(*token), worker, cut, left_out: bytes - kept as u64 })
            }
            (None, Some(token)) => Err(StoreError::UnknownToken(token)),
            (None, None) => Ok(Log::default()),
        }
    }

    async fn log_part(&self, token: AttemptToken, after: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let tables = self.tables.lock().await;
        let part = tables.log_of(token).filter(|(sequence, _)| *sequence > after);
        Ok(part.take(LOG_PART_BATCHES as usize).map(|(sequence, text)| (sequence, text.clone())).collect())
    }

    async fn artifacts(&self, trial: TrialKey) -> Result<TrialArtifacts, StoreError> {
        let tables = self.tables.lock().await;
        let row = tables.trials.get(&trial).ok_or_else(|| missing("trials"))?;
        let counts = |token: AttemptToken| {
            [row.state.token(), row.state.accepted()].contains(&Some(token))
                || tables.attempts.get(&token).is_some_and(|own| own.trial == trial)
        };
        let kept = tables.artifacts.iter().filter(|((token, ..), _)| counts(*token));
        let artifacts = kept.map(|((token, ..), artifact)| {
            let worker = tables
                .attempts
                .get(token)
                .and_then(|attempt| tables.workers.get(&attempt.worker))
                .map(|line| &line.worker);
            let (host, place) =
                worker.map(|worker| (worker.host.clone(), worker.checkpoints)).unwrap_or_default();
            StoredArtifact { token: *token, artifact: artifact.clone(), host, place }
        });
        Ok(trial_history::artifacts(tables.line(trial, row), row.state, artifacts.collect()))
    }

    async fn proof(&self, trial: TrialKey) -> Result<Option<ReportedData>, StoreError> {
        let tables = self.tables.lock().await;
        let row = tables.trials.get(&trial).ok_or_else(|| missing("trials"))?;
        let token = row.state.accepted();
        let Some((token, attempt)) = token.and_then(|token| Some((token, tables.attempts.get(&token)?)))
        else {
            return Ok(None);
        };
        let evaluations = [&tables.validation, &tables.held_out]
            .map(|table| Tables::evaluations(table, Some(token)))
            .concat();
        let losses = tables.losses.iter().filter(|(key, _)| key.0 == token).map(|(_, loss)| *loss).collect();
        let artifacts = tables.artifacts_of(token).cloned().collect();
        Ok(Some(ReportedData {
            evaluations,
            losses,
            artifacts,
            resumed: attempt.resumed,
            worker: tables.place(attempt.worker),
        }))
    }

    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        Ok(self.tables.lock().await.faults.values().cloned().collect())
    }

    async fn pins(&self) -> Result<Vec<(Input, Pins)>, StoreError> {
        Ok(self.tables.lock().await.reported_pins().collect())
    }

    async fn results_with(&self, kind: InputKind, digests: &[String]) -> Result<u64, StoreError> {
        Ok(self.tables.lock().await.results_with(kind, digests))
    }

    async fn workers(&self, seen_within: Option<Duration>) -> Result<Vec<WorkerLine>, StoreError> {
        let read_at = self.clock.now();
        let since = seen_within.map_or(Timestamp(0), |duration| read_at.minus(duration));
        let tables = self.tables.lock().await;
        let mut lines = Vec::new();
        for (id, line) in tables.workers.iter().filter(|(_, line)| line.seen >= since) {
            let faults = tables.faults_of(&line.worker.machine).cloned().collect();
            let mut line = WorkerLine { read_at, faults, ..line.clone() };
            for (token, attempt) in tables.attempts.iter().filter(|(_, attempt)| attempt.worker == *id) {
                let trial = tables.trials.get(&attempt.trial).ok_or_else(|| missing("trials"))?;
                if trial.state.name() == StateName::Running && trial.state.token() == Some(*token) {
                    let sweep =
                        tables.sweeps.get(&trial.sweep).map(|row| row.spec.name.as_str()).unwrap_or_default();
                    line.trials.push(format!("{sweep}/{}", trial.spec_hash.short()));
                }
            }
            lines.push(line);
        }
        Ok(lines)
    }

    async fn sizes(&self) -> Result<Sizes, StoreError> {
        Ok(self.tables.lock().await.sizes())
    }

    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.tables.lock().await.named(name).cloned())
    }

    async fn sweep_names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self
            .tables
            .lock()
            .await
            .sweeps
            .values()
            .rev()
            .filter(|sweep| sweep.state != StoredSweepState::Deleted)
            .map(|sweep| sweep.spec.name.clone())
            .take(20)
            .collect())
    }

    async fn changed_elsewhere(&self) {
        std::future::pending().await
    }

    async fn close(&self) {}
}
