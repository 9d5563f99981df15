//! The only SQL of the project. Decisions are made in [`sortie_core::job`]; the store applies them in one transaction each, guarded
//! by the state and token that the decision was made on.

mod attempt;
mod lease;
mod open;
mod read;
mod rows;
mod submit;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_core::job::{Refused, StateName, Token};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_core::spec::SpecError;
use sortie_core::trial::{Point, TrialId, TrialSpec};
use sqlx::SqlitePool;

pub use open::DEFAULT_URL;
pub use read::Page;

/// A SQLite database, opened by this process alone.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: SQLite has one writer, and waiting for it here is fairer than SQLite's own busy loop.
    writer: SqlitePool,
    readers: SqlitePool,
    lease: Duration,
    /// Held, and with it the lock, for as long as any clone of the store lives.
    _lock: Arc<std::fs::File>,
}

/// Why the store did not do what it was asked. Whether asking again can help is in the type, never in the message.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used as it is.
    #[error("cannot open the database {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The URL names no database that this build can open.
    #[error("database {url:?} is not supported: use sqlite://PATH")]
    Url {
        /// The URL.
        url: String,
    },
    /// The sweep file is not right, or does not fit the sweep that is stored under its name.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No sweep has this name.
    #[error("there is no sweep {name:?}; {known}")]
    UnknownSweep {
        /// The name.
        name: String,
        /// The sweeps that there are.
        known: String,
    },
    /// No worker was registered under this id.
    #[error("worker {0:?} is not registered")]
    UnknownWorker(String),
    /// No attempt has this token.
    #[error("there is no attempt {0}")]
    UnknownToken(Token),
    /// The trial's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A batch of reports came out of order.
    #[error("batch {got} of attempt {token} came when batch {expected} was due")]
    Gap {
        /// The attempt.
        token: Token,
        /// The number that was due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// An evaluation names a domain or split that the trial does not have.
    #[error("attempt {token} reports {what}, which its trial does not evaluate")]
    Foreign {
        /// The attempt.
        token: Token,
        /// What it reported.
        what: String,
    },
    /// A row does not say what the schema promises.
    #[error("database is damaged: {table}.{column} of row {row}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key, as far as it is known.
        row: String,
        /// What is wrong.
        reason: String,
    },
    /// A guarded statement touched another number of rows than it must: a bug, and the transaction is rolled back.
    #[error("{statement} touched {rows} rows instead of {expected}")]
    Guard {
        /// Which statement.
        statement: &'static str,
        /// Rows touched.
        rows: u64,
        /// Rows that it must touch.
        expected: u64,
    },
    /// The database failed; it may not fail the next time.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Unique for the process's lifetime.
    pub id: String,
    /// Its machine.
    pub host: String,
    /// The agent's process id there.
    pub pid: u32,
    /// Its devices.
    pub devices: Vec<String>,
    /// Its build.
    pub software: String,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Who asks.
    pub worker_id: &'a str,
    /// At most this many trials.
    pub count_max: u32,
    /// Only trials of this sweep.
    pub sweep: Option<&'a str>,
}

/// A trial handed to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased {
    /// Names the attempt.
    pub token: Token,
    /// The trial.
    pub trial_id: TrialId,
    /// The sweep's name.
    pub sweep: String,
    /// What to run.
    pub spec: TrialSpec,
}

/// What a claim gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Trials, perhaps none.
    pub leases: Vec<Leased>,
    /// Whether nothing is queued or leased that this claim could ever get.
    pub idle: bool,
}

/// Reports of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// 1, 2, 3, ... within the attempt.
    pub sequence: u64,
    /// In the first batch: what the attempt runs on.
    pub fingerprint: Option<Fingerprint>,
    /// Evaluations.
    pub evaluations: Vec<Evaluation>,
    /// Losses.
    pub losses: Vec<TrainingLoss>,
}

/// What a submission did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The sweep's name.
    pub sweep: String,
    /// Trials that it has now.
    pub planned: u64,
    /// Trials that this submission added.
    pub added: u64,
}

/// How far a sweep is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepStatus {
    /// The sweep's name.
    pub sweep: String,
    /// Trials in each state.
    pub queued: u64,
    /// See `queued`.
    pub leased: u64,
    /// See `queued`.
    pub succeeded: u64,
    /// See `queued`.
    pub diverged: u64,
    /// See `queued`.
    pub failed: u64,
    /// Steps of finished trials and of those that run now.
    pub steps_done: u64,
    /// Steps of all trials.
    pub steps_planned: u64,
    /// Milliseconds that succeeded attempts took in all.
    pub running_ms: u64,
    /// How many those are.
    pub finished_attempts: u64,
}

/// One line of a list of trials.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialLine {
    /// The trial.
    pub trial_id: TrialId,
    /// Its place in the grid.
    pub point: Point,
    /// Where it stands.
    pub state: StateName,
    /// How many attempts were made.
    pub attempts: u32,
    /// The last step that its newest attempt told of.
    pub step: u64,
    /// Where its newest attempt runs or ran; empty before the first.
    pub worker: String,
    /// `class: message` of its newest failed attempt; empty if none failed.
    pub error: String,
}
