//! What a database must be able to do: a narrow interface below all decisions. The two real databases implement it in
//! [`crate::store::sql`], the in-memory model in [`crate::store::memory`].

use std::fs::File;
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::Caller;
use sortie_core::artifact::CheckpointRef;
use sortie_core::combine::Member;
use sortie_core::inputs::{Input, InputKind, Pins};
use sortie_core::job::{ErrorClass, StateName, Timestamp};
use sortie_core::keep::Needs;
use sortie_core::keys::{AttemptToken, Incarnation, SweepKey, TrialKey};
use sortie_core::machine::{Fault, WorkKind};
use sortie_core::record::TrialRecord;
use sortie_core::trial::SpecHash;

use super::changes::{Changes, NewTrial};
use super::rows::{
    AttemptRow, Contradiction, FilesQuestion, LackingTrial, OpenSweep, ReportedData, ReusingSweep, Sizes,
    SweepRow, TrialRow, WaitingCombination, WaitingTrial, WorkerRow,
};
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry, Deed};
use crate::store::query::Rows;
use crate::store::types::{
    Log, Page, PageRequest, SweepContents, SweepStatus, TrialArtifacts, TrialHistory, TrialLine, Worker,
    WorkerLine,
};

/// Whose quarantines are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// All of a machine.
    Machine(String),
    /// Those for a kind of work.
    Kind(WorkKind),
}

/// How the names of sweeps start that verify a trial.
pub(crate) const VERIFIES: &str = "verify-";

/// What is asked of tokens and of what users did.
#[tonic::async_trait]
pub(crate) trait AccessReads: Send + Sync {
    /// The tokens that users made, and those of an identity, the oldest first.
    async fn tokens(&self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError>;
    /// What users did, the newest first: entries with lower numbers than this, if it is one.
    async fn audit(&self, before: Option<i64>, count_max: u64) -> Result<Vec<AuditEntry>, StoreError>;
}

/// A database.
#[tonic::async_trait]
pub(crate) trait Backend: AccessReads + std::fmt::Debug {
    /// Opens a transaction in which everything that it reads stays as it was read until the end. One that is dropped changes nothing.
    /// A durable one has survived a power cut when its commit returns; another one survives with the next durable one.
    async fn begin(&self, durable: bool) -> Result<Box<dyn Transaction>, StoreError>;

    /// Which database it is.
    fn incarnation(&self) -> Incarnation;

    /// The time that leases end by. Where several coordinators may share a database it is the database's clock.
    async fn now(&self) -> Result<Timestamp, StoreError>;
    /// Whether that clock may be set while the database is open.
    fn clock_may_step(&self) -> bool;

    /// How far one sweep is, or all of them in the order of their submission; those that were archived only if that is asked for.
    async fn status(&self, sweep: Option<&str>, archived: bool) -> Result<Vec<SweepStatus>, StoreError>;
    /// What is stored of a sweep.
    async fn contents(&self, sweep: SweepKey) -> Result<SweepContents, StoreError>;
    /// Trials whose results lack files, here or in other sweeps.
    async fn lacking(&self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError>;
    /// A page of a sweep's trials in the order in which they run: those from this position on.
    async fn trials(
        &self,
        sweep: SweepKey,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError>;
    /// A page of a sweep's trials, each with the evaluations of its accepted attempt.
    async fn records(&self, sweep: SweepKey, portion: PageRequest) -> Result<Page<TrialRecord>, StoreError>;
    /// Trials whose id starts with a prefix, at most `count_max`, in one sweep or in all, each with its SWEEP/PREFIX. Trials of sweeps whose
    /// name starts with [`VERIFIES`] come last.
    async fn find(
        &self,
        sweep: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<(TrialKey, String)>, StoreError>;
    /// The history of a trial.
    async fn history(&self, trial: TrialKey) -> Result<TrialHistory, StoreError>;
    /// What an attempt of a trial printed; the newest one's unless one is named.
    async fn log(&self, trial: TrialKey, token: Option<AttemptToken>) -> Result<Log, StoreError>;
    /// What an attempt printed, batch by batch with their numbers: at most [`LOG_PART_BATCHES`](crate::store::types::LOG_PART_BATCHES) of those after one.
    async fn log_part(&self, token: AttemptToken, after: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
    /// Artifacts of a trial's attempts, and of the attempt that gave its result, which may be another sweep's.
    async fn artifacts(&self, trial: TrialKey) -> Result<TrialArtifacts, StoreError>;
    /// All reports of the attempt that gave a trial its result; none if the trial has no result.
    async fn proof(&self, trial: TrialKey) -> Result<Option<ReportedData>, StoreError>;
    /// What is held against machines.
    async fn faults(&self) -> Result<Vec<Fault>, StoreError>;
    /// The digests of all inputs.
    async fn pins(&self) -> Result<Vec<(Input, Pins)>, StoreError>;
    /// How many trials have a result that was made with one of these digests of such an input.
    async fn results_with(&self, kind: InputKind, digests: &[String]) -> Result<u64, StoreError>;
    /// Workers that were seen lately, or all that ever were.
    async fn workers(&self, seen_within: Option<Duration>) -> Result<Vec<WorkerLine>, StoreError>;
    /// How much there is.
    async fn sizes(&self) -> Result<Sizes, StoreError>;
    /// A sweep by name.
    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError>;
    /// Names of the newest sweeps.
    async fn sweep_names(&self) -> Result<Vec<String>, StoreError>;

    /// Answers a query of a user's. Only real databases can.
    async fn query(&self, _sql: &str, _limit: Duration) -> Result<Rows, StoreError> {
        Err(StoreError::Query("a model in memory has no SQL".to_owned()))
    }

    /// Copies all of it as it is at one moment into a SQLite file without a name. Only real databases can.
    async fn backup(&self) -> Result<File, StoreError> {
        Err(StoreError::Query("a model in memory has no file".to_owned()))
    }

    /// Waits until another coordinator on the same database announces that trials may have become free. Never returns where there can be none.
    async fn changed_elsewhere(&self);
    /// Waits for the statements that run and closes the database.
    async fn close(&self);
}

/// What a transaction reads and writes of sweeps.
#[tonic::async_trait]
pub(crate) trait Sweeps: Send {
    /// Sweeps that are neither paused nor cancelled nor archived; waiting trials are counted up to `count_max`.
    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError>;
    /// A sweep by name, to be changed: others that would change it wait.
    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError>;
    /// A sweep by id.
    async fn sweep_by_id(&mut self, id: SweepKey) -> Result<Option<SweepRow>, StoreError>;
    /// Stores a new sweep; gives its id.
    async fn insert_sweep(&mut self, sweep: &SweepRow, now: Timestamp) -> Result<SweepKey, StoreError>;
    /// Stores a sweep's row, if nobody changed it since it was read.
    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError>;
    /// The sweep whose expansion goes on next, none if all are complete: of the highest priority, and the one that is complete first.
    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError>;
    /// How much there is.
    async fn sizes(&mut self) -> Result<Sizes, StoreError>;
    /// The position after a sweep's last trial.
    async fn next_position(&mut self, sweep: SweepKey) -> Result<i64, StoreError>;
}

/// What a transaction reads and adds of trials, combinations and their members.
#[tonic::async_trait]
pub(crate) trait Trials: Send {
    /// Waiting trials of a sweep, by position. The result of the same trial in another sweep counts only if it left what the sweep's
    /// combinations need.
    async fn waiting(
        &mut self,
        sweep: SweepKey,
        count_max: u64,
        now: Timestamp,
        needs: Needs,
    ) -> Result<Vec<WaitingTrial>, StoreError>;
    /// The members of these combinations, by combination and place, with all that is left of their results.
    async fn members(&mut self, trials: &[TrialKey]) -> Result<Vec<(TrialKey, Member)>, StoreError>;
    /// The members of these combinations that ended without a result, each once, by id.
    async fn lost_members(&mut self, trials: &[TrialKey]) -> Result<Vec<TrialRow>, StoreError>;
    /// Combinations that wait for their members and need not any more, at most `count_max`.
    async fn combinations(&mut self, count_max: u64) -> Result<Vec<WaitingCombination>, StoreError>;
    /// Adds the trials that are not there yet. With `reuse`, results of the same trials elsewhere are taken over that left so much. Gives
    /// how many were added and how many of those had such a result.
    async fn insert_trials(
        &mut self,
        sweep: SweepKey,
        trials: &[NewTrial],
        reuse: Option<Needs>,
    ) -> Result<(u64, u64), StoreError>;
    /// As [`Backend::lacking`].
    async fn lacking(&mut self, asked: FilesQuestion<'_>) -> Result<Vec<LackingTrial>, StoreError>;
    /// Trials of a sweep from a position on, by position.
    async fn trial_rows(
        &mut self,
        sweep: SweepKey,
        from: i64,
        count_max: u64,
    ) -> Result<Vec<TrialRow>, StoreError>;
    /// The trials of a sweep with these ids, each once; ids that it does not have are left out.
    async fn trials_named(
        &mut self,
        sweep: SweepKey,
        trials: &[SpecHash],
    ) -> Result<Vec<TrialRow>, StoreError>;
}

/// What a transaction reads of attempts and their reports.
#[tonic::async_trait]
pub(crate) trait Attempts: Send {
    /// Gives every lease one full term from now, and none more than two. No trial that waits after a failure and no quarantine ends later
    /// than the longest one would that begins now. The clock may have been set, either way. Gives how many leases changed.
    async fn renew_leases(&mut self, now: Timestamp, lease: Duration) -> Result<u64, StoreError>;
    /// Attempts with their trials; unknown ones, and those of deleted sweeps, are left out.
    async fn attempts(&mut self, tokens: &[AttemptToken]) -> Result<Vec<AttemptRow>, StoreError>;
    /// Attempts whose leases ended before now, at most `count_max`.
    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<AttemptToken>, StoreError>;
    /// The machines on which attempts at these trials failed, since they were forgiven and since this time. Attempts that were lost or
    /// handed back do not count.
    async fn failed_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError>;
    /// The machines whose own disks have what these trials go on from: checkpoints of attempts that ended since this time; for a combination,
    /// the results of the most of its members, the last of which ended since.
    async fn kept_on(
        &mut self,
        trials: &[TrialKey],
        since: Timestamp,
    ) -> Result<Vec<(TrialKey, String)>, StoreError>;
    /// How many attempts at each of these trials ended with each class since they were forgiven.
    async fn failures(&mut self, trials: &[TrialKey])
    -> Result<Vec<(TrialKey, ErrorClass, u32)>, StoreError>;
    /// Checkpoints that attempts at these trials reported and kept, by trial, the newest step first.
    async fn checkpoints(
        &mut self,
        trials: &[TrialKey],
    ) -> Result<Vec<(TrialKey, CheckpointRef)>, StoreError>;
    /// Evaluations of these attempts that differ from what an earlier attempt at the same trial, on the same machine and device and with
    /// the same threads, libtorch, data and weights, had reported.
    async fn contradictions(&mut self, tokens: &[AttemptToken]) -> Result<Vec<Contradiction>, StoreError>;
}

/// What a transaction reads of the digests that machines reported for inputs.
#[tonic::async_trait]
pub(crate) trait Inputs: Send {
    /// Those of these inputs; one of which none was reported is left out.
    async fn pins_of(&mut self, inputs: &[Input]) -> Result<Vec<(Input, Pins)>, StoreError>;
    /// Those of all inputs.
    async fn pins(&mut self) -> Result<Vec<(Input, Pins)>, StoreError>;
}

/// What a transaction reads and writes of workers.
#[tonic::async_trait]
pub(crate) trait Workers: Send {
    /// Stores a worker, or notes that it is there again.
    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError>;
    /// Workers by name; unknown ones are left out.
    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError>;
    /// Workers that were seen since this time and have not left.
    async fn live_workers(&mut self, since: Timestamp) -> Result<Vec<WorkerRow>, StoreError>;
    /// What is held against machines.
    async fn faults(&mut self) -> Result<Vec<Fault>, StoreError>;
    /// Ends the quarantines of a machine, or for a kind of work: one trial is tried there. Gives how many there were.
    async fn release(&mut self, whose: &Release, now: Timestamp) -> Result<u64, StoreError>;
}

/// What a transaction reads and removes of sweeps that users delete. Such a sweep is first marked as deleted, from when on nobody finds it
/// or its results, and then removed bit by bit.
#[tonic::async_trait]
pub(crate) trait Removal: Send {
    /// Keeps every other transaction from changing trials, or taking over their results, until this one ends.
    async fn lock_trials(&mut self) -> Result<(), StoreError>;
    /// How many trials of a sweep run.
    async fn running(&mut self, sweep: SweepKey) -> Result<u64, StoreError>;
    /// The other sweeps that have results of this one's attempts.
    async fn reused_by(&mut self, sweep: SweepKey) -> Result<Vec<ReusingSweep>, StoreError>;
    /// A sweep that is deleted and not removed.
    async fn deleted_sweep(&mut self) -> Result<Option<SweepKey>, StoreError>;
    /// Removes the last trials of a deleted sweep, at most `count_max`, with all that is stored of them. Gives how many there were.
    async fn remove_trials(&mut self, sweep: SweepKey, count_max: u64) -> Result<u64, StoreError>;
    /// Removes a deleted sweep that has no trials.
    async fn remove_sweep(&mut self, sweep: SweepKey) -> Result<(), StoreError>;
}

/// What a transaction reads and writes of tokens and of what users did.
#[tonic::async_trait]
pub(crate) trait Access: Send {
    /// The tokens that users made, and those of an identity, to be changed: others that would change them wait.
    async fn tokens(&mut self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError>;
    /// Stores a token.
    async fn insert_token(&mut self, token: &AccessToken) -> Result<(), StoreError>;
    /// Stores when a token ends.
    async fn update_token(&mut self, token: &AccessToken) -> Result<(), StoreError>;
    /// Notes what somebody did.
    async fn insert_deed(&mut self, caller: &Caller, deed: &Deed, now: Timestamp) -> Result<(), StoreError>;
}

/// A transaction. Rows that it reads are locked against other coordinators where there can be any.
#[tonic::async_trait]
pub(crate) trait Transaction:
    Sweeps + Trials + Attempts + Inputs + Workers + Removal + Access
{
    /// See [`Backend::now`].
    async fn now(&mut self) -> Result<Timestamp, StoreError>;
    /// Issues the number of a coordinator's life.
    async fn new_epoch(&mut self, now: Timestamp) -> Result<i64, StoreError>;
    /// Writes down what was decided. Every row that changes must still be as it was read.
    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError>;
    /// Makes it durable. `news`: other coordinators learn that trials may have become free.
    async fn commit(self: Box<Self>, news: bool) -> Result<(), StoreError>;
    /// Ends it without a change. One that is dropped instead may hold the rows that it looked at a little longer, and the next one, on
    /// another connection, would pass over them.
    async fn rollback(self: Box<Self>);
}
