//! What a database must be able to do: the narrow interface below all decisions. Two real databases implement it through
//! [`super::sql`], and the in-memory model in [`super::memory`].

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_core::artifact::{Artifact, CheckpointRef, Resumed};
use sortie_core::combine::{Member, Needs};
use sortie_core::job::{ErrorClass, State, StateName, Timestamp, Token};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::{Fingerprint, TrialRecord};
use sortie_core::requirements::Abilities;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, TrialId};

use super::StoreError;
use super::query::Rows;
use super::types::{
    Happening, Log, Page, Portion, Story, SweepStatus, TrialArtifacts, TrialLine, Worker, WorkerLine,
};

/// How the names of sweeps start that verify a trial.
pub(crate) const VERIFIES: &str = "verify-";

/// A database.
#[tonic::async_trait]
pub(crate) trait Backend: Send + Sync + std::fmt::Debug {
    /// Opens a transaction in which everything that it reads stays as it was read until the end. One that is dropped changes nothing.
    /// A durable one has survived a power cut when its commit returns; another one survives with the next durable one.
    async fn begin(&self, durable: bool) -> Result<Box<dyn Transaction>, StoreError>;

    /// How far one sweep is, or all of them in the order of their submission.
    async fn status(&self, sweep: Option<&str>, now: Timestamp) -> Result<Vec<SweepStatus>, StoreError>;
    /// A page of a sweep's trials in the order in which they run: those from this position on.
    async fn trials(
        &self,
        sweep: i64,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError>;
    /// A page of a sweep's trials, each with the evaluations of its accepted attempt.
    async fn records(&self, sweep: i64, portion: Portion) -> Result<Page<TrialRecord>, StoreError>;
    /// Trials whose id starts like this, at most so many, in one sweep or in all, with SWEEP/PREFIX of each; those of sweeps whose name
    /// starts with [`VERIFIES`] come last.
    async fn find(
        &self,
        sweep: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<(i64, String)>, StoreError>;
    /// Everything that is known of a trial.
    async fn story(&self, trial: i64) -> Result<Story, StoreError>;
    /// What an attempt of a trial printed; the newest one's unless one is named.
    async fn log(&self, trial: i64, token: Option<Token>) -> Result<Log, StoreError>;
    /// What the attempts of a trial left, and the attempt whose result it has, which may be another sweep's.
    async fn artifacts(&self, trial: i64) -> Result<TrialArtifacts, StoreError>;
    /// Everything that the attempt reported whose result a trial has; none if it has no result.
    async fn proof(&self, trial: i64) -> Result<Option<Proof>, StoreError>;
    /// Workers that were seen since this time.
    async fn workers(&self, since: Timestamp) -> Result<Vec<WorkerLine>, StoreError>;
    /// A sweep by name.
    async fn sweep(&self, name: &str) -> Result<Option<SweepRow>, StoreError>;
    /// Names of the newest sweeps.
    async fn sweep_names(&self) -> Result<Vec<String>, StoreError>;

    /// Answers a query of a user's. Only real databases can.
    async fn query(&self, _sql: &str, _limit: Duration) -> Result<Rows, StoreError> {
        Err(StoreError::Query("a model in memory has no SQL".to_owned()))
    }

    /// Waits until another coordinator on the same database says that trials may have become free. Never returns where there can be none.
    async fn changed_elsewhere(&self);
    /// Waits for the statements that run and closes the database.
    async fn close(&self);
}

/// A transaction. Rows that it reads are locked against other coordinators where there can be any.
#[tonic::async_trait]
pub(crate) trait Transaction: Send {
    /// The time by the database's clock where several coordinators may share it, else `local`.
    async fn now(&mut self, local: Timestamp) -> Result<Timestamp, StoreError>;
    /// Issues the number of a coordinator's life.
    async fn new_epoch(&mut self, now: Timestamp) -> Result<i64, StoreError>;
    /// Gives every lease at least until this time.
    async fn extend_leases(&mut self, until: Timestamp) -> Result<u64, StoreError>;

    /// Stores a worker, or notes that it is there again.
    async fn register(&mut self, worker: &Worker, now: Timestamp) -> Result<(), StoreError>;
    /// Workers by name; unknown ones are left out.
    async fn workers(&mut self, names: &[&str]) -> Result<Vec<WorkerRow>, StoreError>;
    /// Workers that were seen since this time and are not set aside.
    async fn fit_workers(&mut self, since: Timestamp, now: Timestamp) -> Result<Vec<i64>, StoreError>;

    /// Sweeps that are neither paused nor cancelled; waiting trials are counted up to `count_max`.
    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError>;
    /// Waiting trials of a sweep, by position. The result of the same trial in another sweep counts only if it left what the sweep's
    /// combinations need.
    async fn waiting(
        &mut self,
        sweep: i64,
        count_max: u64,
        now: Timestamp,
        needs: Needs,
    ) -> Result<Vec<WaitingTrial>, StoreError>;
    /// Attempts with their trials; unknown ones are left out.
    async fn attempts(&mut self, tokens: &[Token]) -> Result<Vec<AttemptRow>, StoreError>;
    /// Attempts whose leases ended before now, at most `count_max`.
    async fn expired(&mut self, now: Timestamp, count_max: u64) -> Result<Vec<Token>, StoreError>;
    /// How many attempts at each of these trials ended with each class since they were forgiven.
    async fn failures(&mut self, trials: &[i64]) -> Result<Vec<(i64, ErrorClass, u32)>, StoreError>;
    /// Checkpoints that attempts at these trials told of and kept, by trial, the newest step first.
    async fn checkpoints(&mut self, trials: &[i64]) -> Result<Vec<(i64, CheckpointRef)>, StoreError>;
    /// The members of these combinations, by combination and place, with all that is left of their results.
    async fn members(&mut self, trials: &[i64]) -> Result<Vec<(i64, Member)>, StoreError>;
    /// The members of these combinations that ended without a result, each once, by id.
    async fn lost_members(&mut self, trials: &[i64]) -> Result<Vec<TrialRow>, StoreError>;
    /// Combinations that wait for their members and need not any more, at most `count_max`.
    async fn combinations(&mut self, count_max: u64) -> Result<Vec<WaitingCombination>, StoreError>;
    /// Evaluations of these attempts that differ from what an earlier attempt at the same trial, on the same machine and device and with
    /// the same threads, libtorch, data and weights, had reported.
    async fn contradictions(&mut self, tokens: &[Token]) -> Result<Vec<Contradiction>, StoreError>;
    /// What a name is pinned to.
    async fn pinned(&mut self, kind: &str, name: &str) -> Result<Option<String>, StoreError>;

    /// A sweep by name, to be changed: others that would change it wait.
    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError>;
    /// A sweep by id.
    async fn sweep_by_id(&mut self, id: i64) -> Result<Option<SweepRow>, StoreError>;
    /// Stores a new sweep; gives its id.
    async fn insert_sweep(&mut self, sweep: &SweepRow, now: Timestamp) -> Result<i64, StoreError>;
    /// Stores a sweep's row, if nobody changed it since it was read.
    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError>;
    /// The sweep whose expansion goes on next, none if all are complete: of the highest priority, and the one that is complete first.
    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError>;
    /// The position after a sweep's last trial.
    async fn next_position(&mut self, sweep: i64) -> Result<i64, StoreError>;
    /// Adds the trials that are not there yet. With `reuse`, results of the same trials elsewhere are taken over that left so much. Gives
    /// how many were added and how many of those had such a result.
    async fn insert_trials(
        &mut self,
        sweep: i64,
        trials: &[NewTrial],
        reuse: Option<Needs>,
    ) -> Result<(u64, u64), StoreError>;
    /// Trials of a sweep from a position on, by position.
    async fn trial_rows(
        &mut self,
        sweep: i64,
        from: i64,
        count_max: u64,
    ) -> Result<Vec<TrialRow>, StoreError>;

    /// Writes down what was decided. Every row that changes must still be as it was read.
    async fn write(&mut self, changes: &Changes) -> Result<(), StoreError>;
    /// Makes it durable. `news`: other coordinators are told that trials may have become free.
    async fn commit(self: Box<Self>, news: bool) -> Result<(), StoreError>;
    /// Ends it without a change. One that is dropped instead may hold the rows that it looked at a little longer, and the next one, on
    /// another connection, would pass over them.
    async fn rollback(self: Box<Self>);
}

/// A sweep as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SweepRow {
    pub(crate) id: i64,
    pub(crate) spec: SweepSpec,
    pub(crate) revision: i64,
    pub(crate) state: SweepState,
    pub(crate) priority: i64,
    pub(crate) reuse: bool,
    pub(crate) planned: u64,
    pub(crate) expanded: u64,
    pub(crate) base: i64,
}

/// What a user made of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SweepState {
    Open,
    Paused,
    Cancelled,
}
sortie_core::named!(SweepState, "sweep state", { Open => "open", Paused => "paused", Cancelled => "cancelled" });

impl SweepRow {
    /// The state as users see it.
    pub(crate) fn shown_state(&self) -> String {
        match self.state {
            SweepState::Open if self.expanded < self.planned => "expanding".to_owned(),
            state => state.to_string(),
        }
    }
}

/// A sweep that may have trials to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenSweep {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) revision: i64,
    pub(crate) priority: i64,
    pub(crate) running: u64,
    /// Waiting trials that may be handed out now.
    pub(crate) waiting: u64,
    /// Whether any trial waits, perhaps after a failure, or is still to be added.
    pub(crate) unfinished: bool,
}

/// A trial that may be handed out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaitingTrial {
    pub(crate) id: i64,
    pub(crate) trial_id: TrialId,
    pub(crate) point: Point,
    pub(crate) state: State,
    /// The token of the same trial's result in another sweep.
    pub(crate) existing: Option<Token>,
    /// Whether it was attempted before.
    pub(crate) tried: bool,
}

/// A combination whose members all have a result, or some of whose members ended without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingCombination {
    pub(crate) id: i64,
    pub(crate) members: u64,
    pub(crate) succeeded: u64,
    /// Ended without a result.
    pub(crate) lost: u64,
    /// One of those, as `PREFIX STATE`.
    pub(crate) loser: String,
}

/// A worker as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) abilities: Abilities,
    pub(crate) seen: Timestamp,
    pub(crate) failures_in_row: u32,
    pub(crate) aside_until: Timestamp,
    pub(crate) aside_reason: String,
}

/// A trial as a user's levers need it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrialRow {
    pub(crate) id: i64,
    pub(crate) position: i64,
    pub(crate) point: Point,
    pub(crate) state: State,
}

/// How an attempt stands, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Running,
    Succeeded,
    Diverged,
    Failed,
    Cancelled,
}
sortie_core::named!(AttemptState, "attempt state", {
    Running => "running",
    Succeeded => "succeeded",
    Diverged => "diverged",
    Failed => "failed",
    Cancelled => "cancelled",
});

/// What may change about an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) state: AttemptState,
    pub(crate) class: Option<ErrorClass>,
    pub(crate) message: String,
    pub(crate) ended: Timestamp,
    pub(crate) sequence: u64,
    pub(crate) step: u64,
}

/// An attempt with its trial.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttemptRow {
    pub(crate) token: Token,
    pub(crate) worker: i64,
    pub(crate) worker_failures_in_row: u32,
    pub(crate) trial: i64,
    pub(crate) sweep: i64,
    pub(crate) held_out: String,
    pub(crate) state: State,
    pub(crate) progress: Progress,
    pub(crate) dataset_digest: String,
    pub(crate) weights_digest: String,
    /// Whether the trial had an attempt before this one.
    pub(crate) repeated: bool,
}

/// Two attempts that should have reported the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    pub(crate) trial: i64,
    pub(crate) token: Token,
    pub(crate) earlier: Token,
    /// The first step at which they differ.
    pub(crate) step: u64,
    /// How many evaluations differ.
    pub(crate) rows: u64,
}

/// What an attempt reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proof {
    pub(crate) evaluations: Vec<Evaluation>,
    pub(crate) losses: Vec<TrainingLoss>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) resumed: Option<Resumed>,
    /// Its host and process.
    pub(crate) worker: String,
}

/// A trial to be added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewTrial {
    pub(crate) trial_id: TrialId,
    pub(crate) position: i64,
    pub(crate) point: Point,
    /// Of a combination: trials of the same sweep that are stored already, or before it in the same call.
    pub(crate) members: Vec<TrialId>,
}

/// A trial's move: from the state that the decision was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: State,
    pub(crate) to: State,
    /// Attempts so far no longer count against the trial.
    pub(crate) forgive: bool,
    /// The result is another sweep's.
    pub(crate) reused: bool,
}

/// A new attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewAttempt {
    pub(crate) token: Token,
    pub(crate) trial: i64,
    pub(crate) worker: i64,
    pub(crate) started: Timestamp,
}

/// A change of a worker's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerChange {
    pub(crate) failures_in_row: u32,
    pub(crate) aside_until: Timestamp,
    pub(crate) aside_reason: String,
}

/// Everything that one transaction changes about trials, attempts and workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) new_attempts: Vec<NewAttempt>,
    /// By trial.
    pub(crate) moves: BTreeMap<i64, Move>,
    /// By attempt: as it was read, and as it is now.
    pub(crate) progress: BTreeMap<Token, (Progress, Progress)>,
    pub(crate) fingerprints: Vec<(Token, Fingerprint)>,
    pub(crate) validation: Vec<(Token, Evaluation)>,
    pub(crate) held_out: Vec<(Token, Evaluation)>,
    pub(crate) losses: Vec<(Token, TrainingLoss)>,
    pub(crate) artifacts: Vec<(Token, Artifact)>,
    pub(crate) resumed: BTreeMap<Token, Resumed>,
    /// With the number of the batch that brought it.
    pub(crate) logs: Vec<(Token, u64, Vec<u8>)>,
    /// With the trial.
    pub(crate) happenings: Vec<(i64, Happening)>,
    /// Kind, name and digest.
    pub(crate) pins: Vec<(&'static str, String, String)>,
    /// By worker.
    pub(crate) workers: BTreeMap<i64, WorkerChange>,
    /// Workers that gave a sign of life, by name, and when.
    pub(crate) seen: BTreeMap<String, Timestamp>,
    /// Workers that said that they end, by name, and when.
    pub(crate) left: BTreeMap<String, Timestamp>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
