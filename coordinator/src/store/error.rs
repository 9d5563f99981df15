//! Why a request to the store failed.

use std::sync::Arc;
use std::time::Duration;

use sortie_core::filter::UnknownAxis;
use sortie_core::job::Refused;
use sortie_core::keys::AttemptToken;
use sortie_core::spec::SpecError;

use super::query_limits::QUERIES_MAX;

/// Why a request failed. Whether repeating it can help is in the type, never in the message.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used as it is.
    #[error("cannot open the database {database}: {reason}")]
    Open {
        /// The file, or the server without its password.
        database: String,
        /// What is wrong and what to do.
        reason: String,
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
    /// No worker registered with this machine.
    #[error("there is no machine {name:?}; quarantined are: {known}")]
    UnknownMachine {
        /// The name.
        name: String,
        /// The machines that are quarantined.
        known: String,
    },
    /// The sweep is cancelled, and what was asked needs one that is not.
    #[error("sweep {0:?} is cancelled; `sortie resume {0}` opens it again")]
    Cancelled(String),
    /// The sweep is archived, and what was asked needs one that is not.
    #[error("sweep {0:?} is archived; `sortie archive --undo {0}` takes it back")]
    Archived(String),
    /// Another sweep has the name.
    #[error("there is a sweep {0:?} already; choose another name")]
    NameTaken(String),
    /// Trials of the sweep run.
    #[error(
        "sweep {sweep:?} cannot be deleted while {running} of its trials run: `sortie cancel {sweep}` ends them"
    )]
    TrialsRun {
        /// The sweep's name.
        sweep: String,
        /// How many.
        running: u64,
    },
    /// Other sweeps have results of this one.
    #[error(
        "sweep {sweep:?} cannot be deleted: {users}; delete those first, or put this one away by `sortie archive {sweep}`"
    )]
    Reused {
        /// The sweep's name.
        sweep: String,
        /// The other sweeps, and what they have.
        users: String,
    },
    /// Conditions would miss the trials of a sweep that are not stored yet.
    #[error("sweep {sweep:?} is not stored completely, so conditions would miss trials: {advice}")]
    Incomplete {
        /// The sweep's name.
        sweep: String,
        /// What to do.
        advice: String,
    },
    /// No trial, or more than one, is meant.
    #[error("{name:?} names {found}")]
    Trial {
        /// What the user wrote.
        name: String,
        /// How many trials it names, and what to write instead.
        found: String,
    },
    /// No input, or more than one, is meant.
    #[error("{name:?} names {found}")]
    Input {
        /// What the user wrote.
        name: String,
        /// What it names, and what to write instead.
        found: String,
    },
    /// No digest of an input, or more than one, is meant.
    #[error(
        "{digest:?} is no digest of {input}; allowed: a whole one of 64 hexadecimal digits, or the first digits of one of {reported}"
    )]
    Digest {
        /// What the user wrote.
        digest: String,
        /// Of what.
        input: String,
        /// Those that were reported.
        reported: String,
    },
    /// A trial cannot be verified, now or at all.
    #[error("{0}")]
    Verification(String),
    /// A filter names an axis that the sweep does not have.
    #[error(transparent)]
    Filter(#[from] UnknownAxis),
    /// A query may not be asked, or the database cannot answer it. One line.
    #[error("{0}")]
    Query(String),
    /// A query took too long.
    #[error("the query took longer than {} s: ask for less at a time, such as one sweep or one method", limit.as_secs_f64())]
    SlowQuery {
        /// How long it may take.
        limit: Duration,
    },
    /// Too many queries run already.
    #[error("{QUERIES_MAX} queries run already: ask again when one of them has ended")]
    QueriesRunning,
    /// A backup is made already, or one that was made is still being read.
    #[error("a backup is being made already: try again when it is done")]
    BackupRunning,
    /// No worker was registered under this id.
    #[error("worker {0:?} is not registered")]
    UnknownWorker(String),
    /// No valid token has this name.
    #[error("there is no valid token {name:?}; there are: {known}")]
    UnknownAccessToken {
        /// The name.
        name: String,
        /// The tokens that there are.
        known: String,
    },
    /// A token cannot be stored or ended.
    #[error("{0}")]
    Token(String),
    /// Another process has the id.
    #[error("another process registered as worker {0:?}")]
    OtherWorker(String),
    /// Another worker leased it.
    #[error("attempt {0} is another worker's")]
    NotYours(AttemptToken),
    /// No attempt has this token.
    #[error("there is no such attempt")]
    UnknownToken(AttemptToken),
    /// The trial's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A batch of reports came out of order.
    #[error("batch {got} of an attempt came when batch {expected} was due")]
    Gap {
        /// The attempt.
        token: AttemptToken,
        /// The number that was due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// An evaluation names a domain or step that the trial does not have.
    #[error("an attempt reports {what}, which its trial does not evaluate")]
    Foreign {
        /// The attempt.
        token: AttemptToken,
        /// What it reported.
        what: String,
    },
    /// An attempt reports more than one may.
    #[error("an attempt reports too much; allowed: at most {max} {what}")]
    TooMuch {
        /// The attempt.
        token: AttemptToken,
        /// Of what.
        what: &'static str,
        /// How much one may.
        max: u64,
    },
    /// The database would hold more than it may.
    #[error(
        "sweep {sweep:?} cannot be stored: the database would have {count} {what}; allowed: at most {max} (`sortie serve --{what}-max`); `sortie delete` makes room"
    )]
    Full {
        /// The sweep's name.
        sweep: String,
        /// Of what: sweeps or trials.
        what: &'static str,
        /// How many it would have.
        count: u64,
        /// How many it may have.
        max: u64,
    },
    /// A row breaks what the schema promises.
    #[error("database is damaged: {table}.{column}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong, with the row's key as far as it is known.
        reason: String,
    },
    /// A statement that names the prior state of its rows touched another number of rows than it must: another coordinator was faster, or a bug. The transaction is
    /// rolled back.
    #[error("{statement} touched {rows} rows instead of {expected}")]
    OptimisticLock {
        /// Which statement.
        statement: &'static str,
        /// Rows touched.
        rows: u64,
        /// Rows that it must touch.
        expected: u64,
    },
    /// The database failed; it may not fail the next time.
    #[error("database: {error}{advice}", error = .0, advice = advice(.0))]
    Database(Arc<sqlx::Error>),
    /// The database did not answer; it may the next time.
    #[error("the database did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The database is not any more what the coordinator opened: nothing can be stored, now or later. One line that says what became of it.
    #[error("{0}")]
    Lost(String),
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// What to do about an error that only a person can mend.
fn advice(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        // SQLITE_FULL, and the standard's code on Postgres.
        Some("13" | "53100") => {
            "; make room: what was acknowledged is safe, and workers report again what was not"
        }
        _ => "",
    }
}

impl StoreError {
    /// `name` means each of these trials, which are given as SWEEP/PREFIX; at most `shown_max` are listed.
    pub(crate) fn several_trials(name: &str, candidates: &[&str], shown_max: usize) -> Self {
        let more = if candidates.len() > shown_max { ", ..." } else { "" };
        let shown = candidates[..candidates.len().min(shown_max)].join(", ");
        let ids = candidates.iter().map(|candidate| candidate.rsplit('/').next().unwrap_or_default());
        // More digits do not help where several sweeps have the same trial.
        let found = if ids.collect::<std::collections::BTreeSet<_>>().len() == 1 {
            format!("the same trial in several sweeps ({shown}{more}): write SWEEP/PREFIX")
        } else {
            format!("several trials ({shown}{more}): write more digits")
        };
        Self::Trial { name: name.to_owned(), found }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(message) if is_damage(message) => {
                Self::Lost(format!("the database is damaged ({message}): restore a backup, and start again"))
            }
            _ => Self::Database(Arc::new(error)),
        }
    }
}

/// Whether SQLite found something in its file that it did not write there.
fn is_damage(error: &dyn sqlx::error::DatabaseError) -> bool {
    // SQLITE_CORRUPT and SQLITE_NOTADB: the lower byte is the kind.
    let kind = |code: &str| code.parse::<i32>().map(|code| code & 0xFF);
    let is_sqlite = error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some();
    is_sqlite && error.code().is_some_and(|code| matches!(kind(&code), Ok(11 | 26)))
}

impl StoreError {
    /// Whether the database refused because of what other transactions did at the same time: the same transaction may go through now.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::OptimisticLock { .. } => true,
            Self::Database(error) => error.as_database_error().is_some_and(|error| {
                // Serialisation failure and deadlock, by the standard's codes.
                matches!(error.code().as_deref(), Some("40001" | "40P01"))
            }),
            _ => false,
        }
    }

    /// The error for each of the requests that shared a transaction, if the database is at fault and not one of them. Then repeating each
    /// by itself would not help.
    pub(crate) fn outage(&self) -> Option<Self> {
        let error = match self {
            Self::Database(error) => error,
            Self::NoAnswer(limit) => return Some(Self::NoAnswer(*limit)),
            Self::Lost(reason) => return Some(Self::Lost(reason.clone())),
            _ => return None,
        };
        let outage = match error.as_ref() {
            sqlx::Error::Database(error) => !is_about_values(error.as_ref()),
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => false,
            _ => true,
        };
        outage.then(|| Self::Database(Arc::clone(error)))
    }
}

/// Whether the database refused a value that some request brought.
fn is_about_values(error: &dyn sqlx::error::DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        // By the standard's classes: values, constraints, types, sizes.
        return ["22", "23", "42", "54"].iter().any(|class| code.starts_with(class));
    }
    // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH: the lower byte is the kind.
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xFF, 18..=20))
}
