//! A database that fails at times, and one with a bug: see [`Faults`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::Caller;
use sortie_core::artifact::CheckpointRef;
use sortie_core::combine::Member;
use sortie_core::inputs::{Input, InputKind, Pins};
use sortie_core::job::{ErrorClass, State, StateName, Timestamp};
use sortie_core::keep::Needs;
use sortie_core::keys::{AttemptToken, Incarnation, SweepKey, TrialKey};
use sortie_core::machine::Fault;
use sortie_core::record::TrialRecord;
use sortie_core::trial::SpecHash;

use super::dice::SimulationRng;
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry, Deed};
use crate::store::backend::{
    Access, AccessReads, AttemptRow, Attempts, Backend, Changes, Contradiction, FilesQuestion, Inputs,
    LackingTrial, NewTrial, OpenSweep, Release, Removal, ReportedData, ReusingSweep, Sizes, SweepRow, Sweeps,
    Transaction, TrialRow, Trials, WaitingCombination, WaitingTrial, WorkerRow, Workers,
};
use crate::store::memory::Memory;
use crate::store::types::{
    Log, Page, PageRequest, SweepContents, SweepStatus, TrialArtifacts, TrialHistory, TrialLine, Worker,
    WorkerLine,
};

/// What is wrong with a database.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) dice: SimulationRng,
    /// Of a hundred transactions, how many cannot begin.
    pub(super) refused: u64,
    /// Of a hundred transactions, how many are committed although their caller hears of an error.
    pub(super) unacknowledged: u64,
    /// The planted bug: whoever reports about a trial that is not over holds it, whatever its token, and no check notices. Attempts are
    /// ended by the trial's id alone, as in the job queues that lose work to slow workers.
    pub(super) ignores_tokens: bool,
    /// No transaction can add trials to a sweep.
    pub(super) adds_nothing: bool,
    /// No transaction ever begins, and no error comes.
    pub(super) hangs: bool,
}

/// One coordinator's way to the database: see [`Faults`].
#[derive(Debug)]
pub(super) struct FaultyBackend {
    pub(super) inner: Memory,
    /// What a power cut leaves: the database as it was at the end of the last durable transaction.
    pub(super) disk: Arc<Mutex<Memory>>,
    pub(super) faults: Arc<Mutex<Faults>>,
    /// The coordinator's process is gone: whatever it still was about to do is not done.
    pub(super) dead: Arc<AtomicBool>,
}

struct FaultyTransaction {
    inner: Box<dyn Transaction>,
    /// The database, and its disk if the transaction must last.
    flush: Option<(Memory, Arc<Mutex<Memory>>)>,
    unacknowledged: bool,
    ignores_tokens: bool,
    adds_nothing: bool,
    /// Where the trials are whose attempts got another answer.
    states: HashMap<TrialKey, State>,
}

fn cut() -> StoreError {
    sqlx::Error::Io(std::io::Error::other("the database is away")).into()
}

#[tonic::async_trait]
impl Backend for FaultyBackend {
    async fn begin(&self, durable: bool) -> Result<Box<dyn Transaction>, StoreError> {
        let (refused, unacknowledged, ignores_tokens, adds_nothing, hangs) = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let (refused, unacknowledged) = (faults.refused, faults.unacknowledged);
            (
                faults.dice.percent(refused),
                faults.dice.percent(unacknowledged),
                faults.ignores_tokens,
                faults.adds_nothing,
                faults.hangs,
            )
        };
        if hangs {
            return std::future::pending().await;
        }
        if refused || self.dead.load(Ordering::Relaxed) {
            return Err(cut());
        }
        let inner = self.inner.begin(durable).await?;
        let flush = durable.then(|| (self.inner.clone(), Arc::clone(&self.disk)));
        Ok(Box::new(FaultyTransaction {
            inner,
            flush,
            unacknowledged,
            ignores_tokens,
            adds_nothing,
            states: HashMap::new(),
        }))
    }
    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation()
    }
    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.inner.now().await
    }
    async fn lacking(&self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        self.inner.lacking(asked).await
    }
    fn clock_may_step(&self) -> bool {
        self.inner.clock_may_step()
    }
    async fn status(&self, sweep: Option<&str>, archived: bool) -> Result<Vec<SweepStatus>, StoreError> {
        self.inner.status(sweep, archived).await
    }
    async fn contents(&self, sweep: SweepKey) -> Result<SweepContents, StoreError> {
        self.inner.contents(sweep).await
    }
    async fn trials(
        &self,
        sweep: SweepKey,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError> {
        self.inner.trials(sweep, state, from).await
    }
    async fn records(&self, sweep: SweepKey, portion: PageRequest) -> Result<Page<TrialRecord>, StoreError> {
        self.inner.records(sweep, portion).await
    }
    async fn find(
        &self,
        sweep: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        self.inner.find(sweep, prefix, count_max).await
    }
    async fn history(&self, trial: TrialKey) -> Result<TrialHistory, StoreError> {
        self.inner.history(trial).await
    }
    async fn log(&self, trial: TrialKey, token: Option<AttemptToken>) -> Result<Log, StoreError> {
        self.inner.log(trial, token).await
    }
    async fn log_part(&self, token: AttemptToken, after: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.inner.log_part(token, after).await
    }
    async fn artifacts(&self, trial: TrialKey) -> Result<TrialArtifacts, StoreError> {
        self.inner.artifacts(trial).await
    }
    async fn proof(&self, trial: TrialKey) -> Result<Option<ReportedData>, StoreError> {
        self.inner.proof(trial).await
    }
    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        self.inner.faults().await
    }
    async fn pins(&self) -> Result<Vec<(Input, Pins)>, StoreError> {
        self.inner.pins().await
    }
    async fn results_with(&self, kind: InputKind, digests: &[String]) -> Result<u64, StoreError> {
        self.inner.results_with(kind, digests).await
    }

    async fn workers(&self, seen_within: Option<Duration>) -> Result<Vec<WorkerLine>, StoreError> {
        self.inner.workers(seen_within).await
    }
    async fn sizes(&self) -> Result<Sizes, StoreError> {
        self.inner.sizes().await
    }
    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        self.inner.sweep(name).await
    }
    async fn sweep_names(&self) -> Result<Vec<String>, StoreError> {
        self.inner.sweep_names().await
    }
    async fn changed_elsewhere(&self) {
        self.inner.changed_elsewhere().await;
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tonic::async_trait]
impl AccessReads for FaultyBackend {
    async fn tokens(&self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        self.inner.tokens(identity).await
    }
    async fn audit(&self, before: Option<i64>, count_max: u64) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.audit(before, count_max).await
    }
}

#[tonic::async_trait]
impl Sweeps for FaultyTransaction {
    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError> {
        self.inner.open_sweeps(count_max, now).await
    }
    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        self.inner.sweep(name).await
    }
    async fn sweep_by_id(&mut self, id: SweepKey) -> Result<Option<SweepRow>, StoreError> {
        self.inner.sweep_by_id(id).await
    }
    async fn insert_sweep(&mut self, sweep: &SweepRow, now: Timestamp) -> Result<SweepKey, StoreError> {
        self.inner.insert_sweep(sweep, now).await
    }
    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError> {
        self.inner.update_sweep(sweep).await
    }
    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError> {
        if self.adds_nothing { Err(cut()) } else { self.inner.expanding().await }
    }
    async fn sizes(&mut self) -> Result<Sizes, StoreError> {
        self.inner.sizes().await
    }
    async fn next_position(&mut self, sweep: SweepKey) -> Result<i64, StoreError> {
        self.inner.next_position(sweep).await
    }
}

#[tonic::async_trait]
impl Trials for FaultyTransaction {
    async fn waiting(
        &mut self,
        sweep: SweepKey,
        count_max: u64,
        now: Timestamp,
        needs: Needs,
    ) -> Result<Vec<WaitingTrial>, StoreError> {
        self.inner.waiting(sweep, count_max, now, needs).await
    }
    async fn members(&mut self, trials: &[TrialKey]) -> Result<Vec<(TrialKey, Member)>, StoreError> {
        self.inner.members(trials).await
    }
    async fn lost_members(&mut self, trials: &[TrialKey]) -> Result<Vec<TrialRow>, StoreError> {
        self.inner.lost_members(trials).await
    }
    async fn combinations(&mut self, count_max: u64) -> Result<Vec<WaitingCombination>, StoreError> {
        self.inner.combinations(count_max).await
    }
    async fn insert_trials(
        &mut self,
        sweep: SweepKey,
        trials: &[NewTrial],
        reuse: Option<Needs>,
    ) -> Result<(u64, u64), StoreError> {
        self.inner.insert_trials(sweep, trials, reuse).await
    }
    async fn lacking(&mut self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError> {
        self.inner.lacking(asked).await
    }
    async fn trial_rows(
        &mut self,
        sweep: SweepKey,
        from: i64,
        count_max: u64,
    ) -> Result<Vec<TrialRow>, StoreError> {
        self.inner.trial_rows(sweep, from, count_max).await
    }
    async fn trials_named(
        &mut self,
        sweep: SweepKey,
        trials: &[SpecHash],
    ) -> Result<Vec<TrialRow>, StoreError> {
        self.inner.trials_named(sweep, trials).await
    }
}

#[tonic::async_trait]
impl Attempts for FaultyTransaction {
    async fn attempts(&mut self, tokens: &[AttemptToken]) -> Result<Vec<AttemptRow>, StoreError> {
        let mut rows = self.inner.attempts(tokens).await?;
        for row in rows.iter_mut().filter(|_| self.ignores_tokens) {
            self.states.insert(row.trial, row.state);
            row.state = match row.state {
                State::Running { expires_at, earlier, .. } => {
                    State::Running { token: row.token, expires_at, earlier }
                }
                State::Queued { not_before, earlier, .. } => {
                    State::Queued { lost: Some(row.token), not_before, earlier }
                }
                other @ (State::Blocked | State::Finished(_)) => other,
            };
        }
        Ok(rows)
    }
    async fn renew_leases(&mut self, now: Timestamp, lease: Duration) -> Result<u64, StoreError> {
        self.inner.renew_leases(now, lease).await
    }
    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<AttemptToken>, StoreError> {
        self.inner.expired(now, count_max).await
    }
    async fn failed_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        self.inner.failed_on(trials, since).await
    }
    async fn kept_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError> {
        self.inner.kept_on(trials, since).await
    }

    async fn failures(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, ErrorClass, u32)>, StoreError> {
        self.inner.failures(trials).await
    }
    async fn checkpoints(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, CheckpointRef)>, StoreError> {
        self.inner.checkpoints(trials).await
    }
    async fn contradictions(&mut self, tokens: &[AttemptToken]) -> Result<Vec<Contradiction>, StoreError> {
        self.inner.contradictions(tokens).await
    }
}

#[tonic::async_trait]
impl Inputs for FaultyTransaction {
    async fn pins_of(&mut self, inputs: &[Input]) -> Result<Vec<(Input, Pins)>, StoreError> {
        self.inner.pins_of(inputs).await
    }
    async fn pins(&mut self) -> Result<Vec<(Input, Pins)>, StoreError> {
        self.inner.pins().await
    }
}

#[tonic::async_trait]
impl Workers for FaultyTransaction {
    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError> {
        self.inner.register(worker, now).await
    }
    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError> {
        self.inner.workers(names).await
    }
    async fn live_workers(&mut self, since: Timestamp) -> Result<Vec<WorkerRow>, StoreError> {
        self.inner.live_workers(since).await
    }

    async fn faults(&mut self) -> Result<Vec<Fault>, StoreError> {
        self.inner.faults().await
    }

    async fn release(&mut self, whose: &Release, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.release(whose, now).await
    }
}

#[tonic::async_trait]
impl Removal for FaultyTransaction {
    async fn lock_trials(&mut self) -> Result<(), StoreError> {
        self.inner.lock_trials().await
    }
    async fn running(&mut self, sweep: SweepKey) -> Result<u64, StoreError> {
        self.inner.running(sweep).await
    }
    async fn reused_by(&mut self, sweep: SweepKey) -> Result<Vec<ReusingSweep>, StoreError> {
        self.inner.reused_by(sweep).await
    }
    async fn deleted_sweep(&mut self) -> Result<Option<SweepKey>, StoreError> {
        self.inner.deleted_sweep().await
    }
    async fn remove_trials(&mut self, sweep: SweepKey, count_max: u64) -> Result<u64, StoreError> {
        self.inner.remove_trials(sweep, count_max).await
    }
    async fn remove_sweep(&mut self, sweep: SweepKey) -> Result<(), StoreError> {
        self.inner.remove_sweep(sweep).await
    }
}

#[tonic::async_trait]
impl Access for FaultyTransaction {
    async fn tokens(&mut self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        self.inner.tokens(identity).await
    }
    async fn insert_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        self.inner.insert_token(token).await
    }
    async fn update_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        self.inner.update_token(token).await
    }
    async fn insert_deed(&mut self, caller: &Caller, deed: &Deed, now: Timestamp) -> Result<(), StoreError> {
        self.inner.insert_deed(caller, deed, now).await
    }
}

#[tonic::async_trait]
impl Transaction for FaultyTransaction {
    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let mut changes = changes.clone();
        for (trial, moved) in &mut changes.moves {
            moved.from = self.states.get(trial).copied().unwrap_or(moved.from);
        }
        self.inner.write(&changes).await
    }
    async fn commit(self: Box<Self>, news: bool) -> Result<(), StoreError> {
        self.inner.commit(news).await?;
        if let Some((model, disk)) = self.flush {
            let copy = model.copy().await;
            *disk.lock().unwrap_or_else(PoisonError::into_inner) = copy;
        }
        if self.unacknowledged { Err(cut()) } else { Ok(()) }
    }
    async fn rollback(self: Box<Self>) {
        self.inner.rollback().await;
    }
    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        self.inner.now().await
    }
    async fn new_epoch(&mut self, now: Timestamp) -> Result<i64, StoreError> {
        self.inner.new_epoch(now).await
    }
}
