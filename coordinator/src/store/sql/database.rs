//! A real database that is open, whichever it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sortie_core::keys::Incarnation;
use tokio::sync::Notify;

use super::engine::Pool;
use super::file_guard::FileGuard;
use super::queries::Queries;
use super::statements::{Dialect, statements};
use super::time::TimeSource;
use super::transaction::SqlTransaction;
use crate::store::StoreError;

/// A real database that is open.
#[derive(Debug)]
pub(super) struct SqlBackend {
    pub(super) dialect: Dialect,
    /// One connection: there is one writer, and what it waits for is in its own queue.
    pub(super) writer: Pool,
    pub(super) readers: Pool,
    /// Whether the writer's SQLite connection flushes at every commit.
    pub(super) durable: AtomicBool,
    /// Where users' queries are answered.
    pub(super) queries: Queries,
    pub(super) time: TimeSource,
    /// Notified when another coordinator announces that trials may have become free.
    pub(super) elsewhere: Arc<Notify>,
    /// Which database it is.
    pub(super) incarnation: Incarnation,
    /// Of a SQLite file: whether it is still what was opened.
    pub(super) guard: Option<Arc<FileGuard>>,
    /// Held, and with it the lock, for as long as the database is open.
    pub(super) _lock: Option<std::fs::File>,
}

impl SqlBackend {
    /// Begins a transaction of the writer.
    pub(super) async fn transaction(&self) -> Result<SqlTransaction, StoreError> {
        let (tx, time, guard) = (self.writer.begin().await?, self.time.clone(), self.guard.clone());
        Ok(SqlTransaction { tx, dialect: self.dialect, time, incarnation: self.incarnation, guard })
    }
}

/// Which database it is.
///
/// # Errors
/// One line: it cannot be asked, or it is a backup, which has no number.
pub(super) async fn incarnation(pool: &Pool, dialect: Dialect) -> Result<Incarnation, String> {
    let row = pool.fetch(statements(dialect).incarnation, Vec::new()).await;
    let row = row.map_err(|error| error.to_string())?.pop();
    let row = row.ok_or("it is a backup: `sortie restore` makes a database of it")?;
    row.int("incarnation", "number").map(Incarnation).map_err(|error| error.to_string())
}

/// Why a schema does not fit, in one line. `fresh` names what the user starts with instead, such as "file".
pub(super) fn schema_message(error: &sqlx::migrate::MigrateError, fresh: &str) -> String {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            format!(
                "it was written by a newer build (schema version {version}); use that build, or another database"
            )
        }
        // The schema changed in place before the first release: there is nothing to migrate from.
        MigrateError::VersionMismatch(_) => {
            format!("this database was made by an earlier build of Sortie; start with a new {fresh}")
        }
        other => other.to_string(),
    }
}
