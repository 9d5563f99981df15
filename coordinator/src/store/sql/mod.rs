//! The only SQL of the project. [`statements`] has every statement, once for both databases; [`engine`] hides their drivers.

#[cfg(test)]
mod checks;
mod engine;
mod postgres;
mod queries;
mod reads;
mod rows;
mod sqlite;
mod statements;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use super::backend::Backend;
use super::{OpenOptions, StoreError};
use engine::Pool;
use queries::Queries;
use statements::Dialect;

pub use postgres::without_password;
pub use sqlite::DEFAULT_URL;

/// A real database that is open.
#[derive(Debug)]
pub(super) struct SqlBackend {
    dialect: Dialect,
    /// One connection: there is one writer, and what it waits for is in its own queue.
    writer: Pool,
    readers: Pool,
    /// Whether the writer's SQLite connection flushes at every commit.
    durable: AtomicBool,
    /// Where users' queries are answered.
    queries: Queries,
    database_clock: bool,
    /// Told when another coordinator says that trials may have become free.
    elsewhere: Arc<Notify>,
    /// Held, and with it the lock, for as long as the database is open.
    _lock: Option<std::fs::File>,
}

/// Opens the database at a URL.
///
/// # Errors
/// [`StoreError::Url`] and [`StoreError::Open`].
pub(super) async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Backend>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Arc::new(sqlite::open(url, options).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::open(url, options).await?)),
        _ => Err(StoreError::Url { url: url.to_owned() }),
    }
}

/// Why a schema does not fit, in one line. `fresh` names what the user starts with instead, such as "file".
fn schema_message(error: &sqlx::migrate::MigrateError, fresh: &str) -> String {
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
